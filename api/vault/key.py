"""Keys of 256 bits that are never in the store: the key-encryption key, and the unlock key.

All managers of a cluster have the same key-encryption key, each in a file of its own: the first
makes it, others are given it when they join. Where the cluster is locked, that file holds it
encrypted under the unlock key, which people keep. As text a key is its prefix (`SKEPKEY-1-`,
`SKEPULK-1-`) and 52 characters of [a-z2-7].
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Self

from api.vault.errors import VaultError

BYTES = 32
ID_BYTES = 8
_TEXT = re.compile(r"[a-z2-7]{52}")


class VaultKey:
    """`id` names it in what it sealed; nothing of the key follows from it."""

    prefix = "SKEPKEY-1-"
    called = "a vault key"

    def __init__(self, raw: bytes) -> None:
        if len(raw) != BYTES:
            raise VaultError(f"{self.called} has {BYTES} bytes, not {len(raw)}")
        self.raw = raw
        self.id = hashlib.sha256(b"skep vault key id\0" + raw).digest()[:ID_BYTES]

    def __repr__(self) -> str:
        return f"VaultKey({self.id.hex()})"

    @classmethod
    def new(cls) -> Self:
        return cls(secrets.token_bytes(BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises VaultError, whose words do not repeat the text."""
        text = text.strip()
        rest = text.removeprefix(cls.prefix)
        if rest == text or _TEXT.fullmatch(rest) is None:
            raise VaultError(
                f"this is not {cls.called}: one is {cls.prefix} and 52 letters and digits"
            )
        return cls(base64.b32decode(rest.upper() + "===="))

    def text(self) -> str:
        return self.prefix + base64.b32encode(self.raw).decode().rstrip("=").lower()


class UnlockKey(VaultKey):
    """What opens a locked manager's key-encryption key."""

    prefix = "SKEPULK-1-"
    called = "an unlock key"
