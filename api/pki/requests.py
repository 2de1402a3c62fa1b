"""Asking for a certificate: a key of one's own, and a signed request that proves it is ours.

A request is only a public key. What else it may say (names, organizations, hosts, extensions) is
never looked at: who somebody is follows from the token or certificate they show.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api.pki.errors import PkiError

MAX_REQUEST = 4096  # characters; one of a P-256 key has some 400


def new_request() -> tuple[str, str]:
    """A new key, and a request for its certificate; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key_pem.decode(), request.public_bytes(serialization.Encoding.PEM).decode()


def requested_key(request: str) -> ec.EllipticCurvePublicKey:
    """The public key of a request. Raises PkiError where it is not P-256, or not the sender's."""
    if len(request) > MAX_REQUEST:
        raise PkiError(f"a certificate request has at most {MAX_REQUEST} characters")
    try:
        parsed = x509.load_pem_x509_csr(request.encode())
        key = parsed.public_key()
        good = parsed.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise PkiError(f"this is not a certificate request in PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PkiError("the key of a certificate request must be ECDSA P-256")
    if not good:
        raise PkiError("the certificate request is not signed with its own key")
    return key
