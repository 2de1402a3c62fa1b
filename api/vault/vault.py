"""The few values that are sealed with a key-encryption key itself: AES-256-GCM, for one place.

    sealed = "skep" 1 | id of the key (8 bytes) | nonce (12 bytes) | ciphertext and tag

The place (the store key, and where a value holds several, the part of it) is the associated data:
a value copied to another place does not open. Nonces are random: below 2^32 values a key, far
from where two could meet. `keys` are tried by the id in the value, so that a key can be replaced
while values sealed with the one before still open; the first one seals.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.vault.errors import VaultError
from api.vault.key import ID_BYTES, VaultKey

_MAGIC = b"skep\x01"
_NONCE_BYTES = 12
_HEAD = len(_MAGIC) + ID_BYTES + _NONCE_BYTES


def is_sealed(value: bytes) -> bool:
    """Whether it is what a vault sealed."""
    return value.startswith(_MAGIC)


class Vault:
    def __init__(self, keys: Sequence[VaultKey]) -> None:
        self.use(keys)

    def use(self, keys: Sequence[VaultKey]) -> None:
        """These from now on."""
        if not keys:
            raise VaultError("a vault needs a key")
        self._seals_with = keys[0]
        self._keys = {key.id: AESGCM(key.raw) for key in keys}

    @property
    def key(self) -> VaultKey:
        """The one that seals: what another manager needs."""
        return self._seals_with

    def seal(self, place: str, plain: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._keys[self._seals_with.id]
        head = _MAGIC + self._seals_with.id + nonce
        return head + cipher.encrypt(nonce, plain, place.encode())

    def open(self, place: str, sealed: bytes) -> bytes:
        """Raises VaultError."""
        if len(sealed) < _HEAD or not sealed.startswith(_MAGIC):
            raise VaultError(f"what is stored at {place} is not a sealed value")
        id = sealed[len(_MAGIC) : len(_MAGIC) + ID_BYTES]
        cipher = self._keys.get(id)
        if cipher is None:
            raise VaultError(
                f"what is stored at {place} was sealed with the vault key {id.hex()}, and this"
                f" manager has {', '.join(key.hex() for key in self._keys)}; bring the vault.key"
                " of a manager of this cluster, or join anew with a manager's token"
            )
        nonce = sealed[_HEAD - _NONCE_BYTES : _HEAD]
        try:
            return cipher.decrypt(nonce, sealed[_HEAD:], place.encode())
        except InvalidTag:
            raise VaultError(
                f"what is stored at {place} does not open: it was changed, or copied from elsewhere"
            ) from None
