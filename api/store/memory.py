"""The memory store: the store's contract without etcd, for tests, simulation and demos.

The model:

- Every commit that changes something raises the revision by exactly one, so the log of commits
  is a list, and a revision is an index into it.
- Every key has its versions, oldest first, until compaction drops those that no read at a kept
  revision can see. A delete is a version without a value.
- A watch is a position in the log. Nothing is queued for it; it is only woken. So a slow watch
  costs nothing, and can fall behind compaction as one of etcd's can.
- Leases run on the event loop's clock, so a virtual clock expires them in no time. A lease has
  one timer; keep-alive moves the deadline and the timer, when it fires early, sets itself anew.
"""

from __future__ import annotations

import asyncio
import builtins
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter

from api.store.contract import (
    ANY,
    Change,
    Compacted,
    Conflict,
    KeyValue,
    LeaseGone,
    Page,
    StoreError,
    Unavailable,
    Write,
)
from api.store.writes import check, rounds

MAX_OPS = 256
MAX_BYTES = 1_500_000  # of one commit: as etcd's default
_FIRST = 1  # the revision of an empty store: as etcd's
_BATCH = 1_000  # changes; a watch batch ends with the commit that reaches it


class _Lease:
    __slots__ = ("deadline", "keys", "timer", "ttl")

    def __init__(self, ttl: float, deadline: float) -> None:
        self.ttl = ttl
        self.deadline = deadline
        self.keys: set[str] = set()
        self.timer: asyncio.TimerHandle | None = None


class MemoryStore:
    """See `api.store.contract.Store`.

    `history` > 0 keeps about that many commits and compacts older ones by itself; 0 keeps all
    until `compact`.
    """

    def __init__(
        self, *, max_ops: int = MAX_OPS, max_bytes: int = MAX_BYTES, history: int = 0
    ) -> None:
        self._max_ops = max_ops
        self._max_bytes = max_bytes
        self._history = history
        self._revision = _FIRST
        self._compacted = 0
        self._versions: dict[str, list[Change]] = {}
        self._order = _Order(self._versions)
        self._log: list[list[Change]] = []  # commits after revision `_base`
        self._base = _FIRST
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False
        self._cut = False

    # Reading

    async def get(self, key: str) -> KeyValue | None:
        await self._answer()
        return _live(self._latest(key))

    async def list(
        self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0
    ) -> Page:
        await self._answer()
        at = revision or self._revision
        if at < self._compacted:
            raise Compacted(self._compacted)
        if at > self._revision:
            raise StoreError(f"revision {at} has not happened yet; now is {self._revision}")
        items = self._alive(prefix, after, at)
        if not limit:
            return Page(list(items), at, False)
        page = list(islice(items, limit))
        return Page(page, at, next(items, None) is not None)

    async def revision(self) -> int:
        await self._answer()
        return self._revision

    def _alive(self, prefix: str, after: str, revision: int) -> Iterator[KeyValue]:
        for key in self._order.under(prefix, after):
            found = _live(_at(self._versions[key], revision))
            if found is not None:
                yield found

    def _latest(self, key: str) -> Change | None:
        versions = self._versions.get(key)
        return versions[-1] if versions else None

    # Writing

    async def commit(self, writes: Sequence[Write]) -> int:
        check(writes, self._max_ops, self._max_bytes)
        await self._answer()
        conflicting = [write.key for write in writes if not self._holds(write)]
        if conflicting:
            raise Conflict(conflicting)
        return self._apply(writes)

    async def write(self, writes: Sequence[Write]) -> builtins.list[int | Conflict]:
        outcomes: list[int | Conflict] = [0] * len(writes)
        cut = rounds(writes, self._max_ops, self._max_bytes)
        for group in chain.from_iterable(cut):
            await self._answer()
            good = [at for at in group if self._holds(writes[at])]
            done = self._apply([writes[at] for at in good]) if good else 0
            for at in group:
                outcomes[at] = Conflict([writes[at].key])
            for at in good:
                outcomes[at] = done
        return outcomes

    def _holds(self, write: Write) -> bool:
        if write.expect == ANY:
            return True
        now = self._latest(write.key)
        return write.expect == (0 if now is None or now.value is None else now.revision)

    def _apply(self, writes: Sequence[Write]) -> int:
        """One commit. Deletes of keys that are not there change nothing, as in etcd."""
        for write in writes:
            if write.lease and write.lease not in self._leases:
                raise LeaseGone(f"lease {write.lease} has expired; {write.key} was not written")
        revision = self._revision + 1
        changes = []
        for key, value, _, lease in writes:
            old = self._latest(key)
            exists = old is not None and old.value is not None
            if value is None and not exists:
                continue
            created = old.created if old is not None and exists else revision
            changes.append(
                Change(key, value, revision, created, lease)
                if value is not None
                else Change(key, None, revision, 0, 0)
            )
            self._attach(
                key, old.lease if old is not None else 0, lease if value is not None else 0
            )
        if changes:
            self._record(revision, changes)
        return self._revision

    def _attach(self, key: str, old: int, new: int) -> None:
        if old in self._leases:
            self._leases[old].keys.discard(key)
        if new:
            self._leases[new].keys.add(key)

    def _record(self, revision: int, changes: builtins.list[Change]) -> None:
        for change in changes:
            versions = self._versions.get(change.key)
            if versions is None:
                self._versions[change.key] = [change]
                self._order.add(change.key)
            else:
                versions.append(change)
        self._revision = revision
        self._log.append(changes)
        if self._history and len(self._log) > 2 * self._history:
            self._forget(revision - self._history)
        self._wake()

    # Watching

    async def watch(
        self, prefix: str, *, after: int
    ) -> AsyncGenerator[builtins.list[Change], None]:
        at = after
        while True:
            if self._closed:
                raise Unavailable("the store is closed")
            if not self._cut:
                if at < self._compacted or at > self._revision:
                    raise Compacted(self._compacted)
                batch, at = self._since(prefix, at)
                if batch:
                    yield batch
                    continue
            await self._woken()

    def _since(self, prefix: str, after: int) -> tuple[builtins.list[Change], int]:
        """Changes after `after`, whole commits of them, and the revision they go up to."""
        batch: list[Change] = []
        first = max(after, self._base)
        for at in range(first, self._revision):
            batch += [c for c in self._log[at - self._base] if c.key.startswith(prefix)]
            if len(batch) >= _BATCH:
                return batch, at + 1
        return batch, self._revision

    async def _woken(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    # Compaction

    async def compact(self, revision: int) -> None:
        await self._answer()
        if revision > self._revision:
            raise StoreError(f"revision {revision} has not happened yet; now is {self._revision}")
        if revision > self._compacted:
            self._forget(revision)

    def _forget(self, revision: int) -> None:
        gone = self._log[: max(0, revision - self._base)]
        del self._log[: len(gone)]
        self._base = max(self._base, revision)
        self._compacted = revision
        for key in {change.key for commit in gone for change in commit}:
            versions = self._versions[key]
            del versions[: bisect_right(versions, revision, key=attrgetter("revision")) - 1]
            if versions[0].value is None and versions[0].revision <= revision:
                del versions[0]
            if not versions:
                del self._versions[key]
                self._order.forget()
        self._wake()

    # Leases

    async def grant(self, ttl: float) -> int:
        await self._answer()
        loop = asyncio.get_running_loop()
        self._last_lease += 1
        lease = _Lease(ttl, loop.time() + ttl)
        self._leases[self._last_lease] = lease
        lease.timer = loop.call_at(lease.deadline, self._due, self._last_lease)
        return self._last_lease

    async def keep_alive(self, lease: int) -> None:
        await self._answer()
        found = self._leases.get(lease)
        if found is None:
            raise LeaseGone(f"lease {lease} has expired")
        found.deadline = asyncio.get_running_loop().time() + found.ttl

    async def revoke(self, lease: int) -> None:
        await self._answer()
        self._end(lease)

    def _due(self, lease: int) -> None:
        found = self._leases[lease]
        loop = asyncio.get_running_loop()
        if loop.time() < found.deadline:
            found.timer = loop.call_at(found.deadline, self._due, lease)
        else:
            self._end(lease)

    def _end(self, lease: int) -> None:
        found = self._leases.pop(lease, None)
        if found is None:
            return
        if found.timer is not None:
            found.timer.cancel()
        if found.keys:
            self._apply([Write(key, None) for key in sorted(found.keys)])

    # Life

    async def close(self) -> None:
        self._closed = True
        for lease in self._leases.values():
            if lease.timer is not None:
                lease.timer.cancel()
        self._wake()

    def cut(self) -> None:
        """Until `mend`, answer nothing: calls raise Unavailable and watches stand still."""
        self._cut = True

    def mend(self) -> None:
        self._cut = False
        self._wake()

    async def _answer(self) -> None:
        """Let others run first, as a store over a network would."""
        await asyncio.sleep(0)
        if self._closed or self._cut:
            raise Unavailable("the store is closed" if self._closed else "the store is cut off")


class _Order:
    """The keys in order; sorted when read, for most writes are to keys already there."""

    def __init__(self, keys: dict[str, list[Change]]) -> None:
        self._keys = keys
        self._sorted: list[str] = []
        self._new: list[str] = []
        self._stale = False

    def add(self, key: str) -> None:
        self._new.append(key)

    def forget(self) -> None:
        """A key is gone."""
        self._stale = True

    def under(self, prefix: str, after: str) -> Iterator[str]:
        self._sort()
        first = bisect_left(self._sorted, prefix)
        if after >= prefix:
            first = bisect_right(self._sorted, after)
        for at in range(first, len(self._sorted)):
            key = self._sorted[at]
            if not key.startswith(prefix):
                return
            yield key

    def _sort(self) -> None:
        if self._stale:
            self._sorted = sorted(self._keys)
        elif self._new:
            self._sorted = sorted(self._sorted + self._new)
        self._stale = False
        self._new = []


def _at(versions: list[Change], revision: int) -> Change | None:
    if versions[-1].revision <= revision:
        return versions[-1]
    at = bisect_right(versions, revision, key=attrgetter("revision"))
    return versions[at - 1] if at else None


def _live(version: Change | None) -> KeyValue | None:
    if version is None or version.value is None:
        return None
    return KeyValue(version.key, version.value, version.revision, version.created, version.lease)
