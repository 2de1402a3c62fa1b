"""The encryption controller: after a change of data keys, seals everything anew, then drops the
old keys.

A round, while the ring is unsettled (`api.vault.ring`):

1. Wait until every manager that lives has taken up the ring: none seals with an old key any more.
2. Count: what is sealed with which key.
3. Go through the store, and write each value that the sealing key did not seal, opened and sealed
   anew, over the very revision it was read at: who writes it meanwhile wins, with the new key.
4. Begin again at 1, until a whole count finds nothing of the old keys. Only then they are dropped.

Nothing is remembered between rounds, nor need it be: killed anywhere, it counts again and goes on
with what is left. One manager does it, the first by name of those that live; two would do no harm.
It rests after each batch for as long as that took, so that half of the time is everybody else's.

A value that does not open (`api.store.sealed`) keeps no key in the ring: no key opens it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

import msgspec
import structlog

from api.store.cache import Cache
from api.store.contract import Conflict, KeyValue, LeaseGone, StoreError, Write
from api.store.keys import RING, ROOT
from api.store.sealed import SealedStore
from api.trust.keyring import Keyring
from api.trust.trust import Trust
from api.types.join import Cluster
from api.types.keys import (
    DataKeyStatus,
    KeysStatus,
    LockStatus,
    ReencryptionStatus,
)
from api.types.meta import Metadata
from api.vault.anchor import Anchor
from api.vault.envelope import key_of
from api.vault.errors import VaultError
from controllers.reconcile.recorder import Recorder
from controllers.reconcile.wake import Wake

BATCH = 100  # values
_LOOK = 20.0  # seconds between looks at how far the store has come
_SURELY = 30.0  # seconds; a write takes 5 at most, and a manager that is behind is so for less
_WAIT = 0.5  # seconds between looks at the other managers
_SHOWN = 3

_log = structlog.get_logger("skep.encryption")


class _Pass(msgspec.Struct):
    """How far this manager is with what it does."""

    begun: datetime
    total: int = 0
    left: int = 0


class EncryptionController:
    """`manager`: this one's name. `purge` is awaited when an earlier version's plain values are
    all sealed: to have the store forget what it had, too."""

    name = "encryption"

    def __init__(
        self,
        store: SealedStore,
        cache: Cache,
        keyring: Keyring,
        trust: Trust,
        anchor: Anchor,
        recorder: Recorder,
        clock: Callable[[], datetime],
        *,
        manager: str,
        purge: Callable[[], Awaitable[None]] | None = None,
        batch: int = BATCH,
    ) -> None:
        self._store = store
        self._inner = store.inner
        self._cache = cache
        self._keyring = keyring
        self._trust = trust
        self._anchor = anchor
        self._recorder = recorder
        self._clock = clock
        self._manager = manager
        self._purge = purge
        self._batch = batch
        self._wake = Wake()
        self._counts: Counter[str] | None = None  # values, by the id of their key; "": plain
        self._pass: _Pass | None = None
        self._past: deque[tuple[float, int]] = deque()  # when the store was where

    # What it says

    @property
    def message(self) -> str:
        """For `ctl get components`."""
        ring = self._keyring.ring
        said = []
        if self._keyring.problem:
            said.append(self._keyring.problem)
        if (found := self._store.unopened) and (count := len(found)):
            shown = "; ".join(why for _, why in sorted(found.items())[:_SHOWN])
            said.append(f"{count} value{'s' if count > 1 else ''} can't be used: {shown}")
        if self._pass is not None:
            done = self._pass.total - self._pass.left
            said.append(f"re-encrypting: {done:,} of {self._pass.total:,} values")
        if not ring.settled and (behind := self._behind()):
            said.append(f"waiting for {', '.join(behind)}")
        said.append(f"data key {ring.keys[0].id}")
        return "; ".join(said)

    def status(self) -> KeysStatus:
        ring, counts, now = self._keyring.ring, self._counts, self._pass
        first = ring.keys[0].id
        behind = self._behind()
        doing = None
        if not ring.settled:
            doing = ReencryptionStatus(
                begun=ring.since,
                done=now.total - now.left if now else 0,
                total=now.total if now else 0,
                manager=self._chosen(),
            )
        return KeysStatus(
            kept_by=self._keyring.kept_by,
            generation=ring.generation,
            keys=[
                DataKeyStatus(
                    id=key.id,
                    created=key.created,
                    seals=key.id == first,
                    values=None if counts is None else counts[key.id],
                )
                for key in ring.keys
            ],
            rewrapping=bool(ring.kek),
            reencryption=doing,
            unsealed=counts[""] if ring.plain and counts is not None else None,
            waiting=behind,
            problem=self._keyring.problem,
            unopened=dict(self._store.unopened),
            lock=LockStatus(
                locked=ring.lock is not None,
                id=ring.lock.id if ring.lock else "",
                since=ring.lock.since if ring.lock else None,
                waiting=behind,
            ),
        )

    def _behind(self) -> list[str]:
        """Managers that live and have not taken up the ring as it is."""
        generation = self._keyring.ring.generation
        others = {
            name: record.ring
            for name, record in self._trust.managers.items()
            if name != self._manager
        }
        found = sorted(f"manager {name}" for name, taken in others.items() if taken < generation)
        if self._keyring.applied < generation:
            found.append("this manager")
        return found

    def _chosen(self) -> str:
        """The manager whose work it is."""
        return min(self._trust.managers, default=self._manager)

    # What it does

    async def run(self) -> None:
        await self._cache.synced()
        stops = [self._keyring.listen(self._wake.ring), self._trust.listen(self._wake.ring)]
        self._wake.ring()
        try:
            while True:
                await self._wake.wait()
                await self._look()
                self._wake.ring_after(_LOOK)
        finally:
            self._wake.close()
            for stop in stops:
                stop()

    async def _look(self) -> None:
        ring = self._keyring.ring
        try:
            if self._keyring.applied < ring.generation:
                await self._keyring.refresh()
                if self._keyring.applied < ring.generation:
                    self._wake.ring_after(_WAIT)
            if ring.kek and self._mine() and not self._behind():
                await self._keyring.finish_rewrap()
                self._note(
                    "KeyReplaced",
                    f"the key-encryption key was replaced; now it is {self._keyring.kept_by}",
                )
            if not ring.settled:
                await self._reencrypt()
            self._remember()
        except (StoreError, VaultError) as error:
            _log.warning("re-encryption waits", error=str(error))
            self._wake.ring_after(_WAIT)
        except OSError as error:
            _log.error("what was seen of the store can't be kept", error=str(error))
        if self._keyring.ring.kek:
            self._wake.ring_after(_WAIT)

    def _remember(self) -> None:
        """Keep how far the store has come: as it was a while ago, when all that write were past it
        surely, and nothing that was sealed before is still on its way. Raises OSError."""
        now = asyncio.get_running_loop().time()
        self._past.append((now, self._cache.revision))
        while len(self._past) > 1 and self._past[1][0] <= now - _SURELY:
            self._past.popleft()
        at, revision = self._past[0]
        if at <= now - _SURELY:
            self._anchor.see(revision=revision)

    def _mine(self) -> bool:
        return self._chosen() == self._manager

    async def _reencrypt(self) -> None:
        """Until the ring is settled, or the work is another manager's. Raises StoreError."""
        begun = self._clock()
        try:
            while not (ring := self._keyring.ring).settled:
                if not self._mine() or self._behind():
                    self._wake.ring_after(_WAIT)
                    return
                left = await self._count()
                if left == 0:
                    await self._settle(ring.generation, ring.plain)
                    return
                if self._pass is None:
                    total = sum((self._counts or Counter()).values())
                    self._pass = _Pass(begun, total)
                    _log.info("re-encrypting", values=left, of=total, key=ring.keys[0].id)
                self._pass.left = left
                await self._seal_all()
        finally:
            self._pass = None

    async def _settle(self, generation: int, was_plain: bool) -> None:
        ring = await self._keyring.settle(generation)
        self._counts = None
        _log.info("everything is sealed with one data key", key=ring.keys[0].id)
        self._note("Reencrypted", f"all that is stored is sealed with data key {ring.keys[0].id}")
        if was_plain and self._purge is not None:
            await self._purge()

    async def _count(self) -> int:
        """How many values are to be sealed anew."""
        counts: Counter[str] = Counter()
        left = 0
        async for items in self._pages():
            counts.update(key_of(item.value).hex() for item in items)
            stale = [item for item in items if self._stale(item)]
            left += sum(self._store.opened(item) is not None for item in stale)
        self._counts = counts
        return left

    async def _seal_all(self) -> None:
        loop = asyncio.get_running_loop()
        async for items in self._pages():
            begun = loop.time()
            stale = [item for item in items if self._stale(item)]
            if stale:
                await self._seal(stale)
                await asyncio.sleep(loop.time() - begun)

    async def _seal(self, items: list[KeyValue]) -> None:
        plain: list[Write] = []
        leased: list[Write] = []
        for item in items:
            if (write := self._store.anew(item)) is not None:
                (leased if item.lease else plain).append(write)
        done = await self._inner.write(plain)
        for write in leased:  # one by one: a lease that ends fails all that is with it
            with contextlib.suppress(LeaseGone):
                done += await self._inner.write([write])
        sealed_now = len(done) - sum(isinstance(each, Conflict) for each in done)
        if self._pass is not None:
            self._pass.left = max(0, self._pass.left - sealed_now)

    def _stale(self, item: KeyValue) -> bool:
        return key_of(item.value) != self._keyring.envelope.sealing

    async def _pages(self) -> AsyncIterator[list[KeyValue]]:
        """All values as they are stored, by and by."""
        after = ""
        while True:
            page = await self._inner.list(ROOT, after=after, limit=self._batch)
            yield [item for item in page.items if item.key != RING]
            if not page.more:
                return
            after = page.items[-1].key

    def _note(self, reason: str, message: str) -> None:
        cluster = Cluster(metadata=Metadata(name="cluster"))
        self._recorder.note(cluster, "Normal", reason, message, component=self.name)
