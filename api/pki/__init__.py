"""Keys and certificates: the cluster's authority, identities, TLS contexts."""

from api.pki.authority import Authority, expiry
from api.pki.credentials import CredentialFiles, Credentials, read_credentials
from api.pki.errors import PkiError
from api.pki.identity import Identity, Role, identity_of
from api.pki.tls import client_context, server_context

__all__ = [
    "Authority",
    "CredentialFiles",
    "Credentials",
    "Identity",
    "PkiError",
    "Role",
    "client_context",
    "expiry",
    "identity_of",
    "read_credentials",
    "server_context",
]
