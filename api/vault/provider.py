"""The contract of a key provider: whatever holds the key-encryption key.

It wraps 32 bytes, a key made for one version of the ring, and never sees more. `wraps` are wrapped
keys by who can unwrap them: `file:` and a vault key's id, or `kms:` and what the KMS calls its key.
While one key takes another's place there is one of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from api.vault.errors import VaultError
from api.vault.ring import Ring


class ProviderAway(VaultError):
    """The provider does not answer now; try again."""


class KeyProvider(Protocol):
    @property
    def name(self) -> str:
        """For people: where the key-encryption key is."""

    def knows(self, wraps: Mapping[str, bytes]) -> bool:
        """Whether one of them is for a key of this provider's."""

    async def wrap(self, key: bytes) -> dict[str, bytes]:
        """Raises VaultError, ProviderAway."""

    async def unwrap(self, wraps: Mapping[str, bytes]) -> bytes:
        """Raises VaultError where none of them opens, ProviderAway."""

    def follow(self, ring: Ring, wraps: Mapping[str, bytes]) -> None:
        """Called with each version of the ring: keep beside the store what it asks for.

        Raises OSError, and is then called again.
        """
