"""The scheduler: gives every pending task a node.

The model:

- All pending tasks of one revision are one group. They share filters, so a group is placed at a
  time, not a task. Groups take turns, a slice each, so a huge one does not hold up a small one.
- Nodes and what is held on them are kept up from the cache's events, never rebuilt. A placement
  is held from the moment it is made (assumed): the write is seen in the cache only later, and the
  event then changes nothing. A write that ends in Conflict gives its share back; whatever won is
  an event of its own.
- A task that finds no node says why in its status, and its group then waits until something
  changes that may help: a node came or changed, or a task gave its share back. It is tried again
  `PATIENCE` seconds later, so that a thousand such changes are one try.
- Several slices are written at a time; nothing is decided about a task whose write is under way.

Tasks of global services are made for one node; for them only that node's room is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice

import msgspec
import structlog

from api.store import keys
from api.store.cache import DELETED, Cache, CacheEvent
from api.store.contract import Conflict, Store, StoreError, Write
from api.types import codec
from api.types.kinds import NODE, REVISION, SERVICE, TASK
from api.types.node import Node
from api.types.revision import Revision
from api.types.service import Service
from api.types.task import TERMINAL, Task, TaskState, TaskStatus
from controllers.placement.cluster import Cluster, Demand, demand_of
from controllers.placement.filters import Group, Sieve
from controllers.placement.spread import place, place_on
from controllers.placement.suitable import Requirements
from controllers.reconcile.barrier import settled
from controllers.reconcile.queue import Backoff
from controllers.reconcile.recorder import Recorder
from controllers.reconcile.wake import Wake

SLICE = 500  # tasks of one group placed and written at a time
WRITES = 4  # slices under way to the store
GATHER = 0.01  # seconds between two rounds, in which new tasks come together
PATIENCE = 0.25  # seconds before groups without a node are tried again after a change

_PENDING = TaskState.PENDING
_ASSIGNED = TaskState.ASSIGNED
_RUNNING = TaskState.RUNNING
_FAILURES = (TaskState.FAILED, TaskState.REJECTED)
_NOTHING = Demand()

_log = structlog.get_logger("skep.scheduler")

GroupKey = tuple[str, str]  # namespace/service, namespace/revision


class _Waiting(msgspec.Struct):
    """The pending tasks of one group, by store key."""

    key: GroupKey
    tasks: dict[str, Task] = {}
    stuck: bool = False  # tried, and some found no node: it takes a change to try again
    why: str = ""  # while stuck: words that not all of its tasks were told yet


class Scheduler:
    name = "scheduler"

    def __init__(
        self, cache: Cache, store: Store, recorder: Recorder, clock: Callable[[], datetime]
    ) -> None:
        self._cache = cache
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._wake = Wake()
        self._retry = Wake()
        self._backoff = Backoff(0.1, 10.0)
        self._forget()

    def _forget(self) -> None:
        self._cluster = Cluster()
        self._sieve = Sieve(self._cluster)
        self._waiting: dict[GroupKey, _Waiting] = {}
        self._writing: set[str] = set()  # store keys of tasks whose write is under way
        self._demands: dict[str, Demand] = {}  # by revision
        self._failures = 0

    async def run(self) -> None:
        await self._cache.synced()
        self._forget()
        stop = self._cache.listen(self._heard, kinds={TASK, NODE, SERVICE, REVISION})
        try:
            self._begin()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._try_again(), name="scheduler-retry")
                slots = asyncio.Semaphore(WRITES)
                while True:
                    await self._wake.wait(apart=GATHER)
                    await self._round(group, slots)
        finally:
            stop()
            self._retry.close()
            self._wake.close()

    # What there is

    def _begin(self) -> None:
        for item in self._cache.items(NODE):
            self._cluster.put_node(item.obj)
        for item in self._cache.items(TASK):
            self._take_in(item.key, item.obj, None)
        self._wake.ring()

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        changed = False  # something that may help who found no node
        for event in events:
            if event.kind is TASK:
                changed |= self._task_heard(event)
            elif event.kind is NODE:
                if event.type == DELETED:
                    self._cluster.drop_node(event.item.name)
                    changed = True
                elif self._cluster.put_node(event.item.obj):
                    changed = True
                    self._tell_short(event.item.obj)
            elif event.kind is SERVICE:
                changed |= event.old is None or event.old.obj.spec != event.item.obj.spec
            elif event.type == DELETED:
                self._demands.pop(f"{event.item.namespace}/{event.item.name}", None)
            else:
                changed = True
        if changed:
            self._retry.ring()

    def _task_heard(self, event: CacheEvent) -> bool:
        task: Task = event.item.obj
        if event.type == DELETED:
            self._leave(event.item.key, task)
            return self._cluster.release(task.metadata.uid)
        before: Task | None = event.old.obj if event.old is not None else None
        if before is not None and before.metadata.uid != task.metadata.uid:
            self._cluster.release(before.metadata.uid)
            before = None
        return self._take_in(event.item.key, task, before)

    def _take_in(self, key: str, task: Task, before: Task | None) -> bool:
        """Account for a task as it is now; whether it gave something back."""
        state = task.status.state
        if state is _PENDING:
            if task.wanted:
                self._join(key, task)
            else:
                self._leave(key, task)
            return False
        if before is None or before.status.state is _PENDING:
            self._leave(key, task)
        if state not in TERMINAL:
            if task.spec.node and state is not TaskState.NEW:
                self._hold(task)
            return False
        if state in _FAILURES:
            self._remember_failure(task, before)
        return self._cluster.release(task.metadata.uid)

    def _hold(self, task: Task) -> None:
        uid, given = task.metadata.uid, task.spec.generic or {}
        if self._cluster.holds(uid) != task.spec.node or self._cluster.given(uid) != given:
            service, revision = _group_key(task)
            self._cluster.hold(uid, task.spec.node, service, self._demand(revision), given)

    def _remember_failure(self, task: Task, before: Task | None) -> None:
        if before is not None:
            if before.live:
                self._cluster.failed(task.spec.node, _group_key(task)[1], self._clock())
        elif task.status.since is not None:
            self._cluster.failed(task.spec.node, _group_key(task)[1], task.status.since)

    def _join(self, key: str, task: Task) -> None:
        group = _group_key(task)
        waiting = self._waiting.get(group)
        if waiting is None:
            waiting = self._waiting[group] = _Waiting(group)
        if key not in waiting.tasks:
            waiting.stuck = False
            self._wake.ring()
        waiting.tasks[key] = task

    def _leave(self, key: str, task: Task) -> None:
        group = _group_key(task)
        waiting = self._waiting.get(group)
        if waiting is not None and waiting.tasks.pop(key, None) is not None and not waiting.tasks:
            del self._waiting[group]

    def _demand(self, revision: str) -> Demand:
        known = self._demands.get(revision)
        if known is None:
            namespace, _, name = revision.partition("/")
            item = self._cache.get(REVISION, namespace, name)
            if item is None:
                return _NOTHING  # its tasks are history, or it is on its way
            found: Revision = item.obj
            try:
                known = demand_of(found.spec.template)
            except ValueError as error:
                # The schema lets no such quantity through; without it the task just reserves none.
                _log.warning("reservation not understood", revision=revision, error=str(error))
                known = _NOTHING
            self._demands[revision] = known
        return known

    async def _try_again(self) -> None:
        while True:
            await self._retry.wait(collect=PATIENCE)
            if self._waiting:
                for waiting in self._waiting.values():
                    waiting.stuck = False
                self._wake.ring()

    # A round

    async def _round(self, group: asyncio.TaskGroup, slots: asyncio.Semaphore) -> None:
        """Place everything that can be placed now, a slice of each group in turn."""
        more = True
        while more:
            more = False
            for waiting in list(self._waiting.values()):
                if waiting.stuck and not waiting.why:
                    continue
                await slots.acquire()
                writes = self._slice(waiting)
                if not writes:
                    slots.release()
                    continue
                more = True
                self._writing.update(write.key for _, write in writes)
                group.create_task(self._write(writes, slots), name="scheduler-write")
                await asyncio.sleep(0)  # others' turn: a slice takes milliseconds

    def _slice(self, waiting: _Waiting) -> list[tuple[Task, Write]]:
        """The next writes for that group; none: there is nothing to do for it now."""
        if waiting.stuck:
            return self._excuse_more(waiting)
        tasks = list(islice(self._undecided(waiting), SLICE))
        if not tasks:
            return []
        group = self._group(waiting.key)
        if isinstance(group, str):
            return self._give_up(waiting, tasks, group)
        now = self._clock()
        if tasks[0].spec.node:
            return self._place_bound(group, waiting, now)
        placed = place(group, len(tasks), self._sieve, now)
        writes = [
            self._assign(task, node, group, now)
            for task, node in zip(tasks, placed.nodes, strict=False)
        ]
        if placed.why:
            self._tell(group, placed.why)
            writes += self._give_up(waiting, tasks[len(placed.nodes) :], placed.why)
        return writes

    def _undecided(self, waiting: _Waiting) -> Iterator[Task]:
        writing = self._writing
        return (task for key, task in waiting.tasks.items() if key not in writing)

    def _place_bound(
        self, group: Group, waiting: _Waiting, now: datetime
    ) -> list[tuple[Task, Write]]:
        """Tasks made for one node each: there are no more of them than nodes."""
        writes: list[tuple[Task, Write]] = []
        waiting.stuck = True
        for task in list(self._undecided(waiting)):
            why = place_on(group, self._cluster.get(task.spec.node))
            if why is None:
                writes.append(self._assign(task, task.spec.node, group, now))
            else:
                writes += self._excuse([task], why)
                self._tell(group, why)
        return writes

    def _give_up(
        self, waiting: _Waiting, tasks: Sequence[Task], why: str
    ) -> list[tuple[Task, Write]]:
        """Until something changes. The first tasks are told at once, the others in their turn."""
        waiting.stuck = True
        waiting.why = why
        return self._excuse(tasks, why) or self._excuse_more(waiting)

    def _excuse_more(self, waiting: _Waiting) -> list[tuple[Task, Write]]:
        """Tell those that have no words yet. Words once told are not corrected for thousands."""
        silent = (task for task in self._undecided(waiting) if not task.status.message)
        writes = self._excuse(list(islice(silent, SLICE)), waiting.why)
        if not writes:
            waiting.why = ""
        return writes

    def _group(self, key: GroupKey) -> Group | str:
        """What placement needs to know of the group, or why it can't be known."""
        namespace, _, name = key[0].partition("/")
        item = self._cache.get(SERVICE, namespace, name)
        if item is None:
            return f"waiting for service {key[0]}, which does not exist"
        if self._cache.get(REVISION, namespace, key[1].partition("/")[2]) is None:
            return f"waiting for revision {key[1]}, which does not exist"
        placement = item.obj.spec.placement
        try:
            requirements = Requirements(placement)
        except ValueError as error:
            return f"placement constraint {error}"
        return Group(
            service=key[0],
            revision=key[1],
            demand=self._demand(key[1]),
            requirements=requirements,
            preferences=tuple(preference.spread for preference in placement.preferences),
            max_per_node=placement.max_replicas_per_node,
        )

    def _assign(self, task: Task, node: str, group: Group, now: datetime) -> tuple[Task, Write]:
        given = dict(self._cluster.choose(node, group.demand))
        self._cluster.hold(task.metadata.uid, node, group.service, group.demand, given)
        return task, _write_of(
            msgspec.structs.replace(
                task,
                spec=msgspec.structs.replace(task.spec, node=node, generic=given or None),
                status=TaskStatus(state=_ASSIGNED, since=now),
            )
        )

    def _excuse(self, tasks: Sequence[Task], why: str) -> list[tuple[Task, Write]]:
        """Put the words where the user looks for them, unless they are there."""
        return [
            (
                task,
                _write_of(
                    msgspec.structs.replace(
                        task, status=msgspec.structs.replace(task.status, message=why)
                    )
                ),
            )
            for task in tasks
            if task.status.message != why
        ]

    def _tell(self, group: Group, why: str) -> None:
        namespace, _, name = group.service.partition("/")
        item = self._cache.get(SERVICE, namespace, name)
        if item is not None:
            service: Service = item.obj
            self._recorder.note(service, "Warning", "NoNode", why, component=self.name)

    def _tell_short(self, node: Node) -> None:
        """Where tasks have of its generic resources what it has no more."""
        info = self._cluster.get(node.metadata.name)
        words = [] if info is None else [stock.short(kind) for kind, stock in info.stocks.items()]
        if any(words):
            why = f"tasks there keep until they end: {'; '.join(filter(None, words))}"
            self._recorder.note(node, "Warning", "ResourceGone", why, component=self.name)

    async def _write(self, writes: list[tuple[Task, Write]], slots: asyncio.Semaphore) -> None:
        try:
            results = await self._store.write([write for _, write in writes])
        except StoreError as error:
            await self._unsure(writes, error)
        else:
            self._failures = 0
            seen = [result for result in results if isinstance(result, int)]
            if seen:
                await self._cache.caught_up(max(seen))
            for (task, _), result in zip(writes, results, strict=True):
                if isinstance(result, Conflict):
                    self._settle(task)
        finally:
            self._writing.difference_update(write.key for _, write in writes)
            slots.release()

    async def _unsure(self, writes: list[tuple[Task, Write]], error: StoreError) -> None:
        """The writes may have happened: learn from the cache, once it is as far as the store."""
        self._failures += 1
        _log.warning("assignments not written yet", tasks=len(writes), error=str(error))
        while True:
            await asyncio.sleep(self._backoff.after(self._failures))
            try:
                await settled(self._cache, self._store)
                break
            except StoreError:
                self._failures += 1
        for task, _ in writes:
            self._settle(task)
        for waiting in self._waiting.values():
            waiting.stuck = False
        self._wake.ring()

    def _settle(self, task: Task) -> None:
        """Hold for the task what the cache says it has, in place of what was assumed."""
        item = self._cache.get(TASK, task.metadata.namespace, task.metadata.name)
        same = item is not None and item.obj.metadata.uid == task.metadata.uid
        if item is None or not same or item.obj.status.state is _PENDING:
            self._cluster.release(task.metadata.uid)
        if item is not None:
            self._take_in(item.key, item.obj, None)
            waiting = self._waiting.get(_group_key(item.obj))
            if waiting is not None and item.key in waiting.tasks:
                waiting.stuck = False
                self._wake.ring()


def _group_key(task: Task) -> GroupKey:
    namespace = task.metadata.namespace
    return f"{namespace}/{task.spec.service}", f"{namespace}/{task.spec.revision}"


def _write_of(task: Task) -> Write:
    metadata = task.metadata
    key = keys.object_key(TASK, metadata.namespace, metadata.name)
    return Write(key, codec.encode(task), int(metadata.resource_version))
