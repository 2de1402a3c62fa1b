"""The ring of data keys, and what becomes of it: decided here without I/O.

States, and what leads from one to the next:

    settled      one key, which sealed every value.
    unsettled    several keys, all of which open and the first seals; or `plain`: values are
                 taken that were never sealed, because an earlier version wrote the store.
                 `ctl keys rotate` leads here; a pass over the store that finds nothing sealed
                 otherwise than with the first key leads back, and drops the other keys.

Beside that, `kek` is set while a new key-encryption key takes the old one's place: every manager
that reads it keeps it, and when all have, the old one is not wrapped for any more. And `lock` is
what managers keep in their key file instead of the key-encryption key.

The generation grows with every change. A ring of a lower one than was seen is an old one that
somebody put back.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime

import msgspec

from api.vault.envelope import ID_BYTES, KEY_BYTES


class DataKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str  # hex
    raw: bytes
    created: datetime

    def __repr__(self) -> str:
        return f"DataKey({self.id})"  # never the key


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    id: str  # the unlock key's, hex
    since: datetime
    sealed: bytes  # the key-encryption key, under the unlock key

    def __repr__(self) -> str:
        return f"Lock({self.id})"


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    generation: int
    keys: list[DataKey]  # the first one seals
    since: datetime  # of the last change of the keys
    plain: bool = False
    kek: str = ""  # the text of a key
    lock: Lock | None = None

    def __repr__(self) -> str:
        return f"Ring({self.generation}, {self.keys})"

    @property
    def settled(self) -> bool:
        return len(self.keys) == 1 and not self.plain


def first(now: datetime, *, plain: bool) -> Ring:
    return Ring(generation=1, keys=[_new(now, ())], since=now, plain=plain)


def rotated(ring: Ring, now: datetime) -> Ring:
    """With a new key, which seals."""
    made = _new(now, {key.id for key in ring.keys})
    return _next(ring, keys=[made, *ring.keys], since=now)


def settled(ring: Ring, now: datetime) -> Ring:
    """When nothing is sealed otherwise than with the first key."""
    return _next(ring, keys=ring.keys[:1], since=now, plain=False)


def moving(ring: Ring, kek: str, lock: Lock | None) -> Ring:
    """To another key-encryption key."""
    return _next(ring, kek=kek, lock=lock)


def moved(ring: Ring) -> Ring:
    return _next(ring, kek="")


def locked(ring: Ring, lock: Lock | None) -> Ring:
    return _next(ring, lock=lock)


def wrapped_anew(ring: Ring) -> Ring:
    return _next(ring)


def _next(ring: Ring, **changes: object) -> Ring:
    return msgspec.structs.replace(ring, generation=ring.generation + 1, **changes)


def _new(now: datetime, taken: Collection[str]) -> DataKey:
    while (id := secrets.token_hex(ID_BYTES)) in taken:
        pass
    return DataKey(id=id, raw=secrets.token_bytes(KEY_BYTES), created=now)
