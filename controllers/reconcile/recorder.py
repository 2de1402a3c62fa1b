"""Events: what happened to an object, said once and counted.

The same words about the same object for the same reason are one event with a count. Noting one
never waits and never fails: it is put aside, and `run` writes what has gathered, about once a
second, in one batch. At most `most` different ones are put aside; beyond that they are dropped,
and the log says how many.

Events hang on leases, so the store forgets them by itself an hour after they last happened. One
lease serves all events of a period: a lease for each would be more work for the store than the
events are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog

from api.store import keys
from api.store.cache import Cache
from api.store.contract import Conflict, LeaseGone, Store, StoreError, Write
from api.types import codec
from api.types.event import Event, ObjectReference
from api.types.kinds import EVENT
from api.types.meta import Metadata, Object
from controllers.reconcile.ids import bounded, digest, new_uid
from controllers.reconcile.queue import Backoff
from controllers.reconcile.wake import Wake

KEPT = 3600.0  # seconds an event is there after it last happened, at least
PERIOD = 600.0  # seconds that one lease takes events
_GATHER = 1.0
_MESSAGE_MOST = 1000
_CLUSTER_NAMESPACE = "default"  # of events about objects that are in none

_log = structlog.get_logger("skep.events")


class _Gathered(msgspec.Struct):
    reference: ObjectReference
    type: str
    reason: str
    message: str
    component: str
    count: int
    first: datetime
    last: datetime


class Recorder:
    name = "event recorder"

    def __init__(
        self, cache: Cache, store: Store, clock: Callable[[], datetime], *, most: int = 2000
    ) -> None:
        self._cache = cache
        self._store = store
        self._clock = clock
        self._most = most
        self._gathered: dict[tuple[str, str], _Gathered] = {}  # by namespace and name
        self._dropped = 0
        self._wake = Wake()
        self._backoff = Backoff(1.0, 30.0)
        self._lease = 0
        self._lease_ends = 0.0

    def note(
        self, obj: Object, type: str, reason: str, message: str, *, count: int = 1,
        component: str = "",
    ) -> None:  # fmt: skip
        """It happened to `obj`, `count` times. `type` is Normal or Warning."""
        meta, message = obj.metadata, message[:_MESSAGE_MOST]
        namespace = meta.namespace or _CLUSTER_NAMESPACE
        told_by = digest(f"{obj.kind}/{meta.uid}/{reason}/{message}", 10)
        name = bounded(meta.name, told_by, 253)
        now = self._clock()
        known = self._gathered.get((namespace, name))
        if known is not None:
            known.count += count
            known.last = now
            return
        if len(self._gathered) >= self._most:
            self._dropped += 1
            return
        reference = ObjectReference(
            kind=obj.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid
        )
        self._gathered[namespace, name] = _Gathered(
            reference, type, reason, message, component, count, now, now
        )
        self._wake.ring()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._wake.wait(collect=_GATHER)
            gathered, self._gathered = self._gathered, {}
            if self._dropped:
                _log.warning("too many events at once; some were dropped", dropped=self._dropped)
                self._dropped = 0
            try:
                await self._write(gathered)
                failures = 0
            except StoreError as error:
                if isinstance(error, LeaseGone):
                    self._lease = 0
                failures += 1
                self._put_back(gathered)
                _log.warning("events not written yet", error=str(error))
                await asyncio.sleep(self._backoff.after(failures))

    async def _write(self, gathered: dict[tuple[str, str], _Gathered]) -> None:
        await self._renew()
        writes = [
            Write(
                keys.object_key(EVENT, namespace, name),
                codec.encode(self._event(namespace, name, new)),
                lease=self._lease,
            )
            for (namespace, name), new in gathered.items()
        ]
        written = await self._store.write(writes)
        # Counting goes on from what the cache holds: wait until it holds this.
        revisions = [one for one in written if not isinstance(one, Conflict)]
        if revisions:
            await self._cache.caught_up(max(revisions))

    def _event(self, namespace: str, name: str, new: _Gathered) -> Event:
        item = self._cache.get(EVENT, namespace, name)
        old: Event | None = item.obj if item is not None else None
        return Event(
            metadata=Metadata(
                name=name,
                namespace=namespace,
                uid=old.metadata.uid if old is not None else new_uid(),
                creation_timestamp=(
                    old.metadata.creation_timestamp if old is not None else new.first
                ),
            ),
            involved_object=new.reference,
            type=new.type,
            reason=new.reason,
            message=new.message,
            count=new.count + (old.count if old is not None else 0),
            first_timestamp=old.first_timestamp if old is not None else new.first,
            last_timestamp=new.last,
            reporting_component=new.component,
        )

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._lease or now >= self._lease_ends:
            self._lease = await self._store.grant(KEPT + PERIOD)
            self._lease_ends = now + PERIOD

    def _put_back(self, gathered: dict[tuple[str, str], _Gathered]) -> None:
        for key, old in gathered.items():
            known = self._gathered.get(key)
            if known is not None:
                known.count += old.count
                known.first = old.first
            elif len(self._gathered) < self._most:
                self._gathered[key] = old
            else:
                self._dropped += 1
        self._wake.ring()
