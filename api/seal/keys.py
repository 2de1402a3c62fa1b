"""A cluster's sealing keys: X25519, known by an id that follows from the public half."""

from __future__ import annotations

import hashlib
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from api.seal.errors import SealError
from api.types.meta import Struct

KEY_BYTES = 32
_ID_BYTES = 8


def key_id(public: bytes) -> str:
    """16 hexadecimal digits."""
    return hashlib.sha256(b"skep-seal:v1 key\0" + public).hexdigest()[: 2 * _ID_BYTES]


class PublicKey(Struct, kw_only=True):
    """What everybody may have of a key."""

    id: str
    key: bytes  # 32 bytes; base64 in JSON
    created: datetime
    expires: datetime  # not to be sealed to any more; what was sealed to it opens on

    def checked(self) -> PublicKey:
        """Itself. Raises SealError where the id is another key's."""
        if len(self.key) != KEY_BYTES:
            raise SealError(f"the sealing key {self.id} has {len(self.key)} bytes, not {KEY_BYTES}")
        if key_id(self.key) != self.id:
            raise SealError(f"the sealing key {self.id} was changed: its id does not fit it")
        return self

    def loaded(self) -> X25519PublicKey:
        return X25519PublicKey.from_public_bytes(self.key)

    def expired(self, now: datetime) -> bool:
        return now >= self.expires


class SealingKey:
    """Both halves."""

    def __init__(self, private: X25519PrivateKey, created: datetime, expires: datetime) -> None:
        self.private = private
        raw = private.public_key().public_bytes_raw()
        self.public = PublicKey(id=key_id(raw), key=raw, created=created, expires=expires)

    def __repr__(self) -> str:
        return f"SealingKey({self.public.id})"

    @classmethod
    def new(cls, created: datetime, expires: datetime) -> SealingKey:
        return cls(X25519PrivateKey.generate(), created, expires)

    @classmethod
    def from_raw(cls, raw: bytes, created: datetime, expires: datetime) -> SealingKey:
        """Raises ValueError."""
        return cls(X25519PrivateKey.from_private_bytes(raw), created, expires)

    def raw(self) -> bytes:
        return self.private.private_bytes_raw()
