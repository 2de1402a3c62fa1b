"""Keys and certificates: the cluster's authority, identities, TLS contexts.

Import from its modules: only those that make or read certificates load `cryptography`.
"""
