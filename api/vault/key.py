"""The key-encryption key: 256 bits in a file of the manager's own, never in the store.

All managers of a cluster have the same one: the first makes it, others are given it when they
join. As text it is `SKEPKEY-1-` and 52 characters of [a-z2-7].
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from pathlib import Path

from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private
from api.vault.errors import VaultError

PREFIX = "SKEPKEY-1-"
BYTES = 32
ID_BYTES = 8
_TEXT = re.compile(rf"{PREFIX}([a-z2-7]{{52}})")


class VaultKey:
    """`id` names it in what it sealed; nothing of the key follows from it."""

    def __init__(self, raw: bytes) -> None:
        if len(raw) != BYTES:
            raise VaultError(f"a vault key has {BYTES} bytes, not {len(raw)}")
        self.raw = raw
        self.id = hashlib.sha256(b"skep vault key id\0" + raw).digest()[:ID_BYTES]

    def __repr__(self) -> str:
        return f"VaultKey({self.id.hex()})"

    @classmethod
    def new(cls) -> VaultKey:
        return cls(secrets.token_bytes(BYTES))

    @classmethod
    def parse(cls, text: str) -> VaultKey:
        """Raises VaultError, whose words do not repeat the text."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise VaultError(f"this is not a vault key: one begins with {PREFIX}")
        return cls(base64.b32decode(found[1].upper() + "===="))

    def text(self) -> str:
        return PREFIX + base64.b32encode(self.raw).decode().rstrip("=").lower()

    @classmethod
    def load(cls, path: Path) -> VaultKey:
        """Raises VaultError."""
        try:
            return cls.parse(read_private(path))
        except PkiError as error:
            raise VaultError(str(error)) from error
        except VaultError as error:
            raise VaultError(f"{path}: {error}") from error

    def save(self, path: Path) -> None:
        """0600, whole or not at all. Raises OSError."""
        make_private_directory(path.parent)
        write_private(path, self.text() + "\n")
