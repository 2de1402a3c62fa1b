"""Manifests encrypted with SOPS to an age recipient, read where they are applied.

`file` takes a file's documents apart and proves its MAC, `values` is the form of single values,
`identities` finds the reader's age identities, where SOPS does. Nothing here encrypts.
"""
