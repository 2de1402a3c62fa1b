"""The cluster's sealing keys as they are stored, and as they are used.

sealing          which key is the newest: who makes another one names the one before
sealing/<id>     a key: the private half, which the public one follows from, and its time

What was sealed to a key in git stays there for ever, so keys are kept until an admin drops one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec
import structlog

from api.seal.keyfile import KeyFile
from api.seal.keys import SealingKey
from api.store.contract import Unopened, Write
from api.trust.records import SEALING_KEYS, SEALING_NEWEST, sealing_key
from api.types.meta import Struct
from api.vault.errors import VaultError

LIFE = timedelta(days=30)  # of a key, until the next one is made; as sealed-secrets has it
_AHEAD = timedelta(days=1)  # what a clock may be behind that of whoever made a key

_log = structlog.get_logger("skep.trust")

Opened = Callable[[str, bytes], bytes]


class NewestRecord(Struct, kw_only=True):
    id: str


class KeyRecord(Struct, kw_only=True):
    private: bytes
    created: datetime
    expires: datetime


class SealingRing:
    """All keys of the cluster, by their ids. `broken` are those that can't be read, and why."""

    def __init__(self, newest: str, keys: Mapping[str, SealingKey], broken: Mapping[str, str]):
        self._newest = newest
        self._keys = dict(keys)
        self.broken = dict(broken)

    @property
    def newest(self) -> SealingKey | None:
        """The one to seal to."""
        return self._keys.get(self._newest)

    def get(self, id: str) -> SealingKey | None:
        return self._keys.get(id)

    @property
    def keys(self) -> list[SealingKey]:
        """The newest first, then the others, the later made first."""
        rest = sorted(self._keys.values(), key=lambda key: key.public.created, reverse=True)
        return sorted(rest, key=lambda key: key.public.id != self._newest)

    def public(self, cluster: str) -> KeyFile:
        return KeyFile(cluster=cluster, keys=[key.public for key in self.keys])


def due(ring: SealingRing, now: datetime, life: timedelta) -> datetime:
    """When the next key is to be made; in the past where that is now.

    A key from the future was made by a clock that was wrong, and is not waited for.
    """
    if ring.newest is None:
        return now
    made = ring.newest.public.created
    return now if made > now + _AHEAD else made + life


def understood(values: Mapping[str, bytes], opened: Opened) -> SealingRing:
    """The ring from what is stored; `opened` takes off what an earlier version sealed.

    A key that can't be read is left out, and is no reason to do without the others."""
    keys: dict[str, SealingKey] = {}
    broken: dict[str, str] = {}
    for place, value in values.items():
        if not place.startswith(SEALING_KEYS):
            continue
        id = place.removeprefix(SEALING_KEYS)
        try:
            if isinstance(value, Unopened):
                raise VaultError(value.why)
            record = msgspec.json.decode(value, type=KeyRecord)
            raw = opened(place, record.private)
            key = SealingKey.from_raw(raw, record.created, record.expires)
            if key.public.id != id:
                raise VaultError(f"what is stored at {place} is another key")
            keys[id] = key
        except (VaultError, msgspec.MsgspecError, ValueError) as error:
            broken[id] = str(error)
            _log.error("a sealing key can't be read", id=id, error=str(error))
    newest = values.get(SEALING_NEWEST)
    named = msgspec.json.decode(newest, type=NewestRecord).id if newest is not None else ""
    return SealingRing(named, keys, broken)


def renewal(key: SealingKey, revision_of: Callable[[str], int]) -> list[Write]:
    """One commit that makes a key the newest, if no other became that meanwhile."""
    place = sealing_key(key.public.id)
    public = key.public
    record = KeyRecord(private=key.raw(), created=public.created, expires=public.expires)
    newest = NewestRecord(id=public.id)
    return [
        Write(place, msgspec.json.encode(record), 0),
        Write(SEALING_NEWEST, msgspec.json.encode(newest), revision_of(SEALING_NEWEST)),
    ]
