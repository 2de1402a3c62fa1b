"""The generator: keeps secrets' generated values as their manifests want them.

What is to be done is decided in `plan`, and done by `work`; here are the reading, the writing and
the words. One commit writes the values with what is told of them, at the revision that was decided
on. Values leave here for the store, and for nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import uuid4

import msgspec
import structlog

from api.generate.making import authority
from api.pki.certificates import Issuer
from api.pki.errors import PkiError
from api.server import made
from api.server.payloads import Payloads
from api.store.cache import DELETED, Cache, CacheEvent, Item
from api.store.contract import Conflict, Store, StoreError, Write
from api.store.keys import ROOT
from api.types.kinds import SECRET
from api.types.meta import Condition, set_condition
from api.types.secret import Secret, SecretStatus
from controllers.generator.clock import EVERY, Guard, Mark
from controllers.generator.followers import Followers
from controllers.generator.pace import Pace
from controllers.generator.plan import Plan, plan
from controllers.generator.work import Issuers, Outcome, carry_out, is_slow
from controllers.reconcile.controller import DONE, After, Controller, Done
from controllers.reconcile.recorder import Recorder

CLOCK_KEY = ROOT + "clock"
_LOOK = EVERY  # seconds between looks at the clock's mark
_RETRY = 300.0
_LONGEST = 86400.0  # that a key sleeps: loops' timers are not for years

_Key = tuple[str, str]  # namespace, name
_log = structlog.get_logger("skep.generator")


class Generator:
    name = "secret generator"

    def __init__(
        self,
        cache: Cache,
        store: Store,
        recorder: Recorder,
        clock: Callable[[], datetime],
        *,
        pace: Pace | None = None,
    ) -> None:
        self._cache = cache
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._payloads = Payloads(store, keep=0)  # bytes are not kept in memory here
        self._pace = pace or Pace()
        self._guard = Guard(uuid4().hex)
        self._followers = Followers()
        self._controller: Controller[_Key] = Controller(self.name, self._reconcile, workers=2)

    @property
    def message(self) -> str:
        """For `ctl get components`."""
        return self._guard.said

    async def run(self) -> None:
        await self._cache.synced()
        self._followers.clear()
        stop = self._cache.listen(self._heard, kinds={SECRET})
        try:
            for item in self._cache.items(SECRET):
                self._take(item)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_the_clock(), name="clock")
                group.create_task(self._controller.run(), name=self.name)
        finally:
            stop()

    # What there is to look at

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            item = event.item
            if event.type == DELETED:
                self._followers.forget(item.namespace, item.name)
            else:
                self._take(item)
            for name in self._followers.of(item.namespace, item.name):
                self._controller.queue.add((item.namespace, name))

    def _take(self, item: Item) -> None:
        secret: Secret = item.obj
        authorities = self._followers.note(secret)
        if not secret.generate:
            return
        self._controller.queue.add((item.namespace, item.name))
        for name in authorities:
            self._controller.queue.add((item.namespace, name))

    # One secret

    async def _reconcile(self, key: _Key) -> After | Done:
        item = self._cache.get(SECRET, *key)
        if item is None or item.obj.metadata.deletion_timestamp is not None:
            return DONE
        secret: Secret = item.obj
        if not secret.generate:
            return DONE
        if not self._guard.knows:
            await self._look_at_the_clock()
            if not self._guard.knows:
                return After(1.0)  # another manager was first to say where its clock is
        now = self._clock()
        wanted = self._plan(secret, now)
        issuers = await self._issuers(item.namespace, wanted, secret)
        wanted.compared(secret, {name: each.id for name, each in issuers.found.items()})
        doubt = self._hold_back_in_doubt(secret, wanted)
        wait = doubt or self._hold_back_for_pace(wanted)
        if wanted.idle:
            # While its clock is in doubt, a manager tells others nothing that follows from it.
            if not doubt:
                await self._say(item, wanted, now)
            return self._after(wanted, now, wait)
        data = await self._payloads.stored(item)
        if is_slow(secret, wanted):
            outcome = await asyncio.to_thread(carry_out, secret, wanted, data, issuers, now)
        else:
            outcome = carry_out(secret, wanted, data, issuers, now)
        wanted.waits += outcome.problems
        if wanted.due and not outcome.made:
            self._pace.give_back()  # what can't be made takes nobody's turn
        await self._write(item, wanted, data, outcome, now)
        return self._after(wanted, now, wait)

    def _plan(self, secret: Secret, now: datetime) -> Plan:
        namespace = secret.metadata.namespace

        def authorities(name: str) -> str | None:
            item = self._cache.get(SECRET, namespace, name)
            return None if item is None or not item.obj.status.version else _mark(item)

        followed = self._followers.follow(self._cache, secret)
        return plan(secret, now, authorities, followed=followed)

    def _hold_back_in_doubt(self, secret: Secret, wanted: Plan) -> float:
        """Take out what is due by a clock in doubt; the seconds that it still is, else 0."""
        steady = asyncio.get_running_loop().time()
        doubt = self._guard.doubt(self._clock(), steady)
        if not doubt:
            return 0.0
        if wanted.due:
            message = f"{', '.join(wanted.due)} is due, but {doubt}"
            self._recorder.note(secret, "Warning", "ClockInDoubt", message, component=self.name)
        wanted.put_off()
        return self._guard.left(steady) + 1.0

    def _hold_back_for_pace(self, wanted: Plan) -> float:
        """Take out what has to wait for others; the seconds until it may be its turn, else 0."""
        wait = self._pace.take(asyncio.get_running_loop().time()) if wanted.due else 0.0
        if wait:
            wanted.put_off()
        return wait

    async def _issuers(self, namespace: str, wanted: Plan, secret: Secret) -> Issuers:
        """The authorities that the plan needs. Raises StoreError."""
        names: set[str] = set()
        for name in (*wanted.make, *wanted.look):
            certificate = secret.generate[name].x509
            if certificate is not None and certificate.ca:
                names.add(certificate.ca)
        found: dict[str, Issuer] = {}
        marks: dict[str, str] = {}
        refused: dict[str, str] = {}
        for name in sorted(names):
            item = self._cache.get(SECRET, namespace, name)
            if item is None:
                continue
            try:
                found[name] = authority(item.obj.generate, await self._payloads.stored(item))
                marks[name] = _mark(item)
            except PkiError as error:
                refused[name] = str(error)
        return Issuers(found, marks, refused)

    # Writing

    async def _write(
        self, item: Item, wanted: Plan, data: dict[str, bytes], outcome: Outcome, now: datetime
    ) -> None:
        """Raises Conflict, StoreError."""
        secret: Secret = item.obj
        status = self._told(secret, outcome.status, wanted, now)
        try:
            writes = made.change(item, status, outcome.data, data, now, origin=outcome.origin)
        except ValueError as error:
            wanted.waits.append(f"its values can't be stored: it {error}")
            await self._say(item, wanted, now)
            return
        await self._commit(writes)
        for name, why in outcome.made.items():
            known = outcome.status.generated[name]
            ends = f", good until {known.not_after:%Y-%m-%dT%H:%M:%SZ}" if known.not_after else ""
            message = f"{name} was made ({why}){ends}"
            self._recorder.note(secret, "Normal", why.reason, message, component=self.name)
            _log.info(
                "made a value", secret=f"{item.namespace}/{item.name}", value=name, why=str(why)
            )

    async def _say(self, item: Item, wanted: Plan, now: datetime) -> None:
        """Only the status, where it says something else now. Raises Conflict, StoreError."""
        status = item.obj.status
        told = self._told(item.obj, status, wanted, now)
        if told != status:
            await self._commit([made.only_status(item, told)])

    def _told(
        self, secret: Secret, status: SecretStatus, wanted: Plan, now: datetime
    ) -> SecretStatus:
        """The status with the condition and the next time."""
        after = msgspec.structs.replace(secret, status=status)
        following = self._plan(after, now)
        words = "; ".join(dict.fromkeys(wanted.waits))
        there = all(name in status.generated for name in secret.generate)
        condition = Condition(
            type="Generated",
            status="True" if there else "False",
            reason="Made" if not words else "CannotRenew" if there else "Waiting",
            message=words,
        )
        before = next((c for c in secret.status.conditions if c.type == "Generated"), None)
        if words and (before is None or before.message != words):
            self._recorder.note(secret, "Warning", condition.reason, words, component=self.name)
        conditions = set_condition(status.conditions, condition, now=now)
        next_rotation = following.next.replace(microsecond=0) if following.next else None
        return msgspec.structs.replace(status, conditions=conditions, next_rotation=next_rotation)

    async def _commit(self, writes: list[Write]) -> None:
        if writes:
            await self._cache.caught_up(await self._store.commit(writes))

    def _after(self, wanted: Plan, now: datetime, wait: float) -> After | Done:
        if wait:
            return After(min(wait, _LONGEST))
        if wanted.wake is None:
            return DONE
        left = (wanted.wake - now).total_seconds()
        # What is due and could not be made is tried again when something changes, or after a while.
        return After(min(left, _LONGEST) if left > 0 else _RETRY)

    # The clock

    async def _watch_the_clock(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            if self._followers.any_made:  # where nothing is made, nobody looks at the clock
                await self._look_at_the_clock()

    async def _look_at_the_clock(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            known = await self._store.get(CLOCK_KEY)
            there = None if known is None else msgspec.json.decode(known.value, type=Mark)
            self._guard.saw(there, loop.time())
            mark = self._guard.mark(self._clock(), loop.time())
            if mark is None:
                return
            expect = 0 if known is None else known.revision
            await self._store.commit([Write(CLOCK_KEY, msgspec.json.encode(mark), expect)])
            self._guard.wrote(mark, loop.time())
        except Conflict:
            return  # another manager was first
        except (StoreError, msgspec.DecodeError, msgspec.ValidationError) as error:
            _log.warning("the clock's mark can't be kept", error=str(error))


def _mark(item: Item) -> str:
    """An authority's secret as certificates remember it."""
    return f"{item.obj.metadata.uid}/{item.obj.status.version}"
