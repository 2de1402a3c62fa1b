"""SSH and age key pairs: a private half for the secret, a public one that all may see."""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.types.generated import SshKey


class Pair(NamedTuple):
    private: bytes
    public: str  # an authorized_keys line, an age recipient

    def __repr__(self) -> str:
        return f"Pair({self.public})"  # the other half must not reach a log or a traceback


def ssh(wanted: SshKey, comment: str) -> Pair:
    """As `ssh-keygen` makes it: OpenSSH's private key file and authorized_keys line."""
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    match wanted.type:
        case "rsa":
            key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
        case "ecdsa":
            key = ec.generate_private_key(ec.SECP256R1())
        case _:
            key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return Pair(private, f"{_line(key.public_key())} {wanted.comment or comment}")


def age() -> Pair:
    """An X25519 identity of age and its recipient."""
    from pyrage import x25519

    identity = x25519.Identity.generate()
    recipient = str(identity.to_public())
    return Pair(f"# public key: {recipient}\n{identity}\n".encode(), recipient)


def ssh_fingerprint(public: str) -> str:
    """As `ssh-keygen -l` shows it. Raises ValueError for what is no public key's line."""
    parts = public.split()
    if len(parts) < 2:
        raise ValueError("this is no SSH public key")
    digest = hashlib.sha256(base64.b64decode(parts[1], validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def ssh_public(private: bytes) -> str:
    """The public half of an OpenSSH private key, without a comment. Raises ValueError."""
    try:
        key = serialization.load_ssh_private_key(private, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("this is no OpenSSH private key without a password") from None
    return _line(key.public_key())


def _line(public: object) -> str:
    encoded: bytes = public.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return encoded.decode()
