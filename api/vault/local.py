"""The key-encryption key in a file of the manager's (0600): `vault.key` in its data directory.

The file holds a key a line: one, or while a new one takes its place that and the old one. Where
the cluster is locked it holds one line, `SKEPLOCK-1-` and the same lines sealed with the unlock
key; every manager's has the same.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private
from api.vault.errors import VaultError
from api.vault.key import UnlockKey, VaultKey
from api.vault.ring import Ring
from api.vault.vault import Vault

_LOCKED = "SKEPLOCK-1-"
_LOCK_PLACE = "vault.key"
_RING_PLACE = "keyring"
_BY = "file:"


class Locked(VaultError):
    """The file opens with the unlock key only. `blob` is what is in it."""

    def __init__(self, path: Path, blob: bytes) -> None:
        super().__init__(f"{path} is locked")
        self.blob = blob


class LocalKeys:
    """`keys`: the first one wraps what is new. See `api.vault.provider.KeyProvider`.

    `vault` opens what an earlier version sealed with the key-encryption key itself.
    """

    def __init__(self, path: Path, keys: Sequence[VaultKey], written: str = "") -> None:
        self.path = path
        self.keys = list(keys)
        self.vault = Vault(self.keys)
        self._written = written

    @classmethod
    def create(cls, path: Path) -> LocalKeys:
        """A new key, in its file before anything is sealed with it. Raises OSError."""
        made = cls(path, [VaultKey.new()])
        make_private_directory(path.parent)
        made._write(_text(made.keys))
        return made

    @classmethod
    def load(cls, path: Path) -> LocalKeys:
        """Raises VaultError, Locked."""
        try:
            text = read_private(path)
        except PkiError as error:
            raise VaultError(str(error)) from error
        if text.startswith(_LOCKED):
            raise Locked(path, _blob(path, text))
        return cls(path, _parsed(path, text), text)

    @classmethod
    def unlocked(cls, path: Path, blob: bytes, key: UnlockKey) -> LocalKeys:
        """What a locked file holds; the file stays as it is. Raises VaultError for another key."""
        try:
            text = Vault([key]).open(_LOCK_PLACE, blob).decode()
        except VaultError:
            raise VaultError("this is not the unlock key of this manager") from None
        return cls(path, _parsed(path, text), _locked(blob))

    @property
    def name(self) -> str:
        return f"key {self.keys[0].id.hex()} in {self.path}"

    def sealed_with(self, key: UnlockKey) -> bytes:
        """The file's content for a locked manager."""
        return Vault([key]).seal(_LOCK_PLACE, _text(self.keys).encode())

    def add(self, key: VaultKey) -> None:
        """It wraps from now on; the file has it, beside the old one, where it is not locked: so
        that it is not lost between here and the store. Raises OSError."""
        keys = [key, *self.keys]
        if not self._written.startswith(_LOCKED):
            self._write(_text(keys))
        self._use(keys)

    def only(self, key: VaultKey) -> None:
        """Wrap for this one alone from now on."""
        self._use([key])

    # The contract

    def knows(self, wraps: Mapping[str, bytes]) -> bool:
        return any(_by(key) in wraps for key in self.keys)

    async def wrap(self, key: bytes) -> dict[str, bytes]:
        return {_by(each): Vault([each]).seal(_RING_PLACE, key) for each in self.keys}

    async def unwrap(self, wraps: Mapping[str, bytes]) -> bytes:
        for each in self.keys:
            if (wrapped := wraps.get(_by(each))) is not None:
                return Vault([each]).open(_RING_PLACE, wrapped)
        raise VaultError(
            f"the cluster's data keys are wrapped by {', '.join(wraps) or 'nothing'}, and this"
            f" manager has {', '.join(map(_by, self.keys))}: bring {self.path.name} of another"
            " manager of this cluster, or join anew with a manager's token"
        )

    def follow(self, ring: Ring, wraps: Mapping[str, bytes]) -> None:
        keys = list(self.keys)
        if ring.kek:
            new = VaultKey.parse(ring.kek)
            keys = [new, *(key for key in keys if key.id != new.id)]
        keys = [key for key in keys if _by(key) in wraps] or keys
        text = _text(keys) if ring.lock is None else _locked(ring.lock.sealed)
        if text != self._written:
            self._write(text)
        self._use(keys)

    def _use(self, keys: Sequence[VaultKey]) -> None:
        self.keys = list(keys)
        self.vault.use(self.keys)

    def _write(self, text: str) -> None:
        write_private(self.path, text)
        self._written = text


def _by(key: VaultKey) -> str:
    return _BY + key.id.hex()


def _text(keys: Sequence[VaultKey]) -> str:
    return "".join(f"{key.text()}\n" for key in keys)


def _parsed(path: Path, text: str) -> list[VaultKey]:
    try:
        keys = [VaultKey.parse(line) for line in text.splitlines() if line.strip()]
    except VaultError as error:
        raise VaultError(f"{path}: {error}") from None
    if not keys:
        raise VaultError(f"{path} is empty: bring it from a backup or from another manager")
    return keys


def _locked(blob: bytes) -> str:
    return f"{_LOCKED}{base64.b64encode(blob).decode()}\n"


def _blob(path: Path, text: str) -> bytes:
    try:
        return base64.b64decode(text.strip().removeprefix(_LOCKED), validate=True)
    except binascii.Error:
        raise VaultError(f"{path} is damaged: bring it from a backup or another manager") from None
