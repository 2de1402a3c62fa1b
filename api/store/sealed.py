"""A store whose every value is sealed, over one that keeps them: the same contract.

The model:

- A value is sealed for its key on the way in and opened on the way out (`api.vault.envelope`).
  Keys, revisions and leases stay as they are, so compares, watches and compaction do too.
- What does not open is never passed on as something else and takes nobody down: `get` raises
  `Unreadable`; in lists and watches it stands as `Unopened`, which says why and decodes as
  nothing. `unopened` has all that was met, by key, until the key is written or deleted.
- A value says which revision of its key it was written over. What follows of that:
  a value for a new key, put over one that is there, does not fit, and neither does one for a key
  that was there, put where it was made anew (`get`, `list`, `watch` see it); and of a key whose
  history is known, because it was listed before it was watched, nothing fits but what was written
  over its last revision. So an older value put back shows at once while a manager runs.
- A value says, too, how far its writer had seen the store come. `floor` is a revision that this
  manager had seen in its last run (`api.vault.anchor`), when all that write were past it: so what
  came after it, and was sealed by somebody who had not seen as much, was put back while none ran.
- The record of the ring itself passes as it is: it is sealed in its own way.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import structlog

from api.store.contract import (
    ABSENT,
    Change,
    Conflict,
    KeyValue,
    Page,
    Store,
    Unopened,
    Unreadable,
    Write,
)
from api.store.keys import RING
from api.store.packed import pack, unpack
from api.vault.envelope import Envelope, UnknownKey, key_of
from api.vault.errors import VaultError

_log = structlog.get_logger(__name__)

_KEPT = 2  # lists whose revisions a watch may go on from
_MOST = 1000  # unopened values that are remembered

Refresh = Callable[[], Awaitable[None]]


class SealedStore:
    """See `api.store.contract.Store`. `refresh` looks whether the ring has more keys by now;
    `seen` is the store's revision now, and `floor` one of the last run: see the module."""

    def __init__(
        self, inner: Store, envelope: Envelope, refresh: Refresh, *, seen: int = 0, floor: int = 0
    ) -> None:
        self.inner = inner
        self.unopened: dict[str, str] = {}  # by key: why
        self._envelope = envelope
        self._refresh = refresh
        self._seen = seen
        self._floor = floor
        self._listed: dict[int, dict[str, int]] = {}  # by revision: keys' revisions
        self._replayed: dict[str, int] = {}  # keys at a revision that did not fit
        self._gone: set[bytes] = set()  # ids of data keys that were dropped

    # Reading

    async def get(self, key: str) -> KeyValue | None:
        """Raises Unreadable, too."""
        found = await self.inner.get(key)
        if found is None:
            return None
        at = (key, found.value, found.revision, found.created)
        value = self._opened(*at)
        if value is None:
            value = await self._with_news(*at)
        if isinstance(value, Unopened):
            raise Unreadable(key, value.why)
        return found._replace(value=value)

    async def list(
        self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0
    ) -> Page:
        page = await self.inner.list(prefix, after=after, limit=limit, revision=revision)
        items = []
        self._seen = max(self._seen, page.revision)
        for key, sealed, at, created, lease in page.items:
            value = self._opened(key, sealed, at, created)
            if value is None:
                value = await self._with_news(key, sealed, at, created)
            items.append(KeyValue(key, value, at, created, lease))
        if not after and not page.more:
            self._remember(page)
        return page._replace(items=items)

    async def revision(self) -> int:
        return await self.inner.revision()

    # Writing

    async def commit(self, writes: Sequence[Write]) -> int:
        revision = await self.inner.commit(self._sealed(writes))
        self._seen = max(self._seen, revision)
        return revision

    async def write(self, writes: Sequence[Write]) -> builtins.list[int | Conflict]:
        outcomes = await self.inner.write(self._sealed(writes))
        for outcome in reversed(outcomes):
            if isinstance(outcome, int):
                self._seen = max(self._seen, outcome)
                break
        return outcomes

    def _sealed(self, writes: Sequence[Write]) -> builtins.list[Write]:
        seal, seen = self._envelope.seal, self._seen
        return [
            Write(
                key,
                None if value is None else seal(key, pack(key, value), expect, seen),
                expect,
                lease,
            )
            for key, value, expect, lease in writes
        ]

    # Watching

    async def watch(
        self, prefix: str, *, after: int
    ) -> AsyncGenerator[builtins.list[Change], None]:
        last = self._listed.pop(after, {})
        async with aclosing(self.inner.watch(prefix, after=after)) as batches:
            async for batch in batches:
                if batch:
                    self._seen = max(self._seen, batch[-1].revision)
                changes = []
                for change in batch:
                    key, sealed, revision, created, lease = change
                    if sealed is None:
                        last.pop(key, None)
                        self._well(key)
                        changes.append(change)
                        continue
                    before = last.get(key, 0)
                    last[key] = revision
                    value = self._opened(key, sealed, revision, created, before)
                    if value is None:
                        value = await self._with_news(key, sealed, revision, created, before)
                    changes.append(Change(key, value, revision, created, lease))
                yield changes

    # Leases and upkeep

    async def grant(self, ttl: float) -> int:
        return await self.inner.grant(ttl)

    async def keep_alive(self, lease: int) -> None:
        await self.inner.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        await self.inner.revoke(lease)

    async def compact(self, revision: int) -> None:
        await self.inner.compact(revision)

    async def close(self) -> None:
        await self.inner.close()

    def anew(self, item: KeyValue) -> Write | None:
        """The write that seals a value, as the inner store has it, with the key that seals now;
        None for one that can't be used."""
        if (value := self.opened(item)) is None:
            return None
        packed = pack(item.key, value)
        sealed = self._envelope.seal(item.key, packed, item.revision, self._seen)
        return Write(item.key, sealed, item.revision, item.lease)

    async def discard(self, key: str) -> bool:
        """Delete what is stored at `key`, if it can't be used. Whether it was."""
        found = await self.inner.get(key)
        if found is None or key == RING or self.opened(found) is not None:
            return False
        await self.inner.commit([Write(key, None, found.revision)])
        return True

    # Opening

    def opened(self, item: KeyValue) -> bytes | None:
        """What is in a value as the inner store has it, with the ring as it is known; None for
        one that can't be used."""
        value = self._opened(item.key, item.value, item.revision, item.created)
        return None if isinstance(value, Unopened) else value

    def _opened(
        self, key: str, sealed: bytes, revision: int, created: int, before: int = 0
    ) -> bytes | None:
        """`before`: the revision that the key was at, where that is known. Never raises for what
        is wrong with the value; None for a data key that is not in the ring as it is known."""
        if key == RING:
            return sealed
        try:
            plain, replaces, seen = self._envelope.open(key, sealed)
        except UnknownKey as error:
            return self._ill(key, sealed, str(error)) if key_of(sealed) in self._gone else None
        except VaultError as error:
            return self._ill(key, sealed, str(error))
        late = 0 <= seen < self._floor < revision
        fits = not late and _fits(replaces, revision, created, before)
        if not fits or self._replayed.get(key) == revision:
            self._replayed[key] = revision
            return self._ill(
                key, sealed, f"{key} has an older value, which was put back at revision {revision}"
            )
        if self.unopened:
            self._well(key)
        return unpack(plain)

    async def _with_news(
        self, key: str, sealed: bytes, revision: int, created: int, before: int = 0
    ) -> bytes:
        """Opened after another look at the ring: a key is in it before it seals, so one that is
        not in it now never will be. Raises StoreError."""
        await self._refresh()
        found = self._opened(key, sealed, revision, created, before)
        if found is None:
            self._gone.add(key_of(sealed))
            found = self._opened(key, sealed, revision, created, before)
        return found if found is not None else Unopened(sealed, "")

    def _ill(self, key: str, sealed: bytes, why: str) -> Unopened:
        if self.unopened.get(key) != why and len(self.unopened) < _MOST:
            self.unopened[key] = why
            _log.error("a stored value can't be used; all else goes on", key=key, why=why)
        return Unopened(sealed, why)

    def _well(self, key: str) -> None:
        self.unopened.pop(key, None)
        self._replayed.pop(key, None)

    def _remember(self, page: Page) -> None:
        """A watch from this revision on knows what was there."""
        known = self._listed.setdefault(page.revision, {})
        known.update({item.key: item.revision for item in page.items})
        while len(self._listed) > _KEPT:
            del self._listed[min(self._listed)]


def _fits(replaces: int, revision: int, created: int, before: int) -> bool:
    if replaces < 0:  # it was to be written over whatever is there
        return True
    if replaces == ABSENT:
        return created == revision
    return created <= replaces < revision and before in (0, replaces)
