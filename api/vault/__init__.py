"""Encryption at rest: what is stored sealed, and the key that opens it, which never is.

`vault.Vault` seals and opens a value for one place in the store; `key.VaultKey` is a manager's
key-encryption key, in a file of its own beside the store and never in it.
"""
