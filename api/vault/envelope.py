"""What every value in the store is sealed in: AES-256-GCM, for one key of the store.

    sealed     = head | ciphertext and tag (16)
    head       = "skp" 2 | data key's id (4) | salt (12) | nonce (12) | replaces (8) | seen (8)
    cipher key = HKDF-SHA256(data key, salt, "skep value")
    nonce      = counter (6) | random (6)
    associated = head | the store key

The store key is the associated data: a value that was moved, or taken from another kind, does not
open. `replaces` is the revision of the key that the value was written over (the write's own
compare; 0 where it had to be absent, -1 where it did not matter), `seen` the newest revision of the
store that its writer knew: a value put back later does not fit what is there, and when. What that
catches, and what not, is in `api.store.sealed`.

Why no nonce is used twice under one cipher key: each process makes its own, from a random salt of
96 bits, and counts under it; it takes another salt after `PER_SALT` values. Two processes would
have to draw one salt: with a million starts under one data key the odds are 2^-57. The random half
is for what counting can't know of: a machine set back to a snapshot of its memory goes on from the
same counter, and draws other bits. So a data key never has to be replaced for having sealed too
much: what it is used on directly is one derivation a salt.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.vault.errors import VaultError

MAGIC = b"skp\x02"
ID_BYTES = 4
KEY_BYTES = 32
PER_SALT = 1 << 32  # values under one cipher key

_SALT = 12
_COUNT = 6
_NONCE = 12
_AT_SALT = len(MAGIC) + ID_BYTES
_AT_NONCE = _AT_SALT + _SALT
_AT_REPLACES = _AT_NONCE + _NONCE
_AT_SEEN = _AT_REPLACES + 8
HEAD = _AT_SEEN + 8
OVERHEAD = HEAD + 16  # bytes that a sealed value is longer

_REVISIONS = struct.Struct(">qq")

_MOST_CIPHERS = 4096  # kept; one for each start of a manager since its data key was made


class UnknownKey(VaultError):
    """The value was sealed with a data key that is not in the ring."""


class Opened(NamedTuple):
    plain: bytes
    replaces: int
    seen: int  # -1: not known


def key_of(value: bytes) -> bytes:
    """The id of the data key that sealed it; empty for a value that is not sealed."""
    return value[len(MAGIC) : _AT_SALT] if value.startswith(MAGIC) else b""


class Envelope:
    """`use` says which keys there are: all open, one seals."""

    def __init__(self, *, per_salt: int = PER_SALT) -> None:
        self._per_salt = per_salt
        self._keys: dict[bytes, bytes] = {}
        self._ciphers: dict[bytes, AESGCM] = {}  # by id and salt
        self._sealing = b""
        self._prefix = b""
        self._cipher: AESGCM | None = None
        self._count = 0
        self._plain = False

    def use(self, keys: Mapping[bytes, bytes], sealing: bytes, *, plain: bool = False) -> None:
        """`keys` by their ids. With `plain`, values that never were sealed are taken as they are:
        while a store that an earlier version wrote is sealed."""
        self._keys = dict(keys)
        self._plain = plain
        self._ciphers = {at: cipher for at, cipher in self._ciphers.items() if at[:4] in keys}
        if sealing != self._sealing:
            self._sealing = sealing
            self._salt()

    @property
    def sealing(self) -> bytes:
        """The id of the key that seals."""
        return self._sealing

    def seal(self, place: str, plain: bytes, replaces: int = -1, seen: int = 0) -> bytes:
        cipher = self._cipher
        if cipher is None or self._count >= self._per_salt:
            cipher = self._salt()
        nonce = self._count.to_bytes(_COUNT) + os.urandom(_NONCE - _COUNT)
        self._count += 1
        head = self._prefix + nonce + _REVISIONS.pack(replaces, seen)
        return head + cipher.encrypt(nonce, plain, head + place.encode())

    def open(self, place: str, sealed: bytes) -> Opened:
        """Raises VaultError; UnknownKey where another look at the ring may help."""
        if not sealed.startswith(MAGIC):
            if self._plain:
                return Opened(sealed, -1, -1)
            raise VaultError(
                f"{place} is not sealed: it was not written by a manager of this cluster"
            )
        head = sealed[:HEAD]
        cipher = self._ciphers.get(head[len(MAGIC) : _AT_NONCE]) or self._derived(place, head)
        try:
            plain = cipher.decrypt(
                head[_AT_NONCE:_AT_REPLACES], sealed[HEAD:], head + place.encode()
            )
        except (InvalidTag, ValueError):
            raise VaultError(
                f"{place} does not open: it was changed, cut short, or copied from elsewhere"
            ) from None
        return Opened(plain, *_REVISIONS.unpack(head[_AT_REPLACES:]))

    def _derived(self, place: str, head: bytes) -> AESGCM:
        id = head[len(MAGIC) : _AT_SALT]
        if len(head) < HEAD:
            raise VaultError(f"{place} does not open: it was cut short")
        if id not in self._keys:
            raise UnknownKey(
                f"{place} was sealed with the data key {id.hex()}, which this cluster's ring has"
                " not (any more)"
            )
        if len(self._ciphers) >= _MOST_CIPHERS:
            self._ciphers.clear()
        found = self._ciphers[head[len(MAGIC) : _AT_NONCE]] = _cipher(
            self._keys[id], head[_AT_SALT:_AT_NONCE]
        )
        return found

    def _salt(self) -> AESGCM:
        """A cipher key of this process's own, from here on."""
        if self._sealing not in self._keys:
            raise VaultError("there is no data key to seal with")
        salt = os.urandom(_SALT)
        self._cipher = _cipher(self._keys[self._sealing], salt)
        self._prefix = MAGIC + self._sealing + salt
        self._count = 0
        return self._cipher


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"skep value")
    return AESGCM(derived.derive(key))
