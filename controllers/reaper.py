"""The reaper: finishes tasks that nobody else will finish, and forgets those that are over.

    wanted Remove, and over, or never assigned,
                   or its node is lost or gone    → deleted
    wanted Shutdown, and never assigned           → Shutdown
    live, and its node's object is gone           → Orphaned
    over, and older than a slot's history         → deleted

A slot's history is its five newest tasks that are over, and those that a restart policy with a
window still has to count.

Events say which tasks to look at; what is done follows from their state alone. Work is gathered
for a moment and written in one go. A write that ends in Conflict needs nothing: what won is an
event, and the task is looked at again for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
import structlog

from api.store.cache import ADDED, DELETED, Cache, CacheEvent, Item
from api.store.contract import Store, StoreError, Write
from api.types import codec
from api.types.kinds import NODE, SERVICE, TASK
from api.types.meta import condition
from api.types.node import Node
from api.types.quantity import parse_duration
from api.types.service import RestartPolicy, Service
from api.types.task import RANK, TERMINAL, Task, TaskState
from controllers.reconcile.queue import Backoff
from controllers.reconcile.wake import Wake

HISTORY = 5
GATHER = 0.05  # seconds
_SLICE = 1000  # tasks looked at between two looks at other work

_ASSIGNED = RANK[TaskState.ASSIGNED]
_REMOVE = TaskState.REMOVE
_SHUTDOWN = TaskState.SHUTDOWN

_log = structlog.get_logger("skep.reaper")

T = TypeVar("T")
SlotKey = tuple[str, int, int | str]  # namespace/service; run of a job; slot or node


class Reaper:
    name = "reaper"

    def __init__(self, cache: Cache, store: Store, clock: Callable[[], datetime]) -> None:
        self._cache = cache
        self._store = store
        self._clock = clock
        self._wake = Wake()
        self._backoff = Backoff(0.1, 10.0)
        self._due: dict[str, Item] = {}  # tasks to look at, by store key
        self._history: dict[SlotKey, dict[str, Item]] = {}  # tasks that are over
        self._overfull: set[SlotKey] = set()

    async def run(self) -> None:
        await self._cache.synced()
        self._due.clear()
        self._history.clear()
        self._overfull.clear()
        stop = self._cache.listen(self._heard, kinds={TASK, NODE})
        try:
            for item in self._cache.items(TASK):
                self._see(item)
            self._wake.ring()
            await self._work()
        finally:
            stop()
            self._wake.close()

    # What to look at

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            if event.kind is TASK:
                if event.type == DELETED:
                    self._forget(event.item)
                else:
                    self._see(event.item)
            elif event.type != ADDED:
                self._node_heard(event)
        if self._due or self._overfull:
            self._wake.ring()

    def _node_heard(self, event: CacheEvent) -> None:
        if event.type == DELETED or _silent(event.item.obj):
            for item in self._cache.by(TASK, "node", event.item.name):
                self._see(item)

    def _see(self, item: Item) -> None:
        task: Task = item.obj
        over = task.status.state in TERMINAL
        if over:
            key = _slot_of(task)
            slot = self._history.setdefault(key, {})
            slot[item.key] = item
            if len(slot) > HISTORY:
                self._overfull.add(key)
        if not task.wanted or (not over and self._node_gone(task)):
            self._due[item.key] = item

    def _forget(self, item: Item) -> None:
        self._due.pop(item.key, None)
        key = _slot_of(item.obj)
        slot = self._history.get(key)
        if slot is not None:
            slot.pop(item.key, None)
            if not slot:
                del self._history[key]
                self._overfull.discard(key)

    def _node_gone(self, task: Task) -> bool:
        return bool(task.spec.node) and self._cache.get(NODE, "", task.spec.node) is None

    # What to do

    async def _work(self) -> None:
        failures = 0
        while True:
            await self._wake.wait(collect=GATHER)
            try:
                await self._round()
                failures = 0
            except StoreError as error:
                failures += 1
                _log.warning("tasks not finished yet", error=str(error))
                await asyncio.sleep(self._backoff.after(failures))
                for item in self._cache.items(TASK):
                    self._see(item)
                self._wake.ring()

    async def _round(self) -> None:
        due, self._due = self._due, {}
        overfull, self._overfull = self._overfull, set()
        for some in _slices(list(due)):
            writes = {
                write.key: write for key in some if (write := self._finish(due[key])) is not None
            }
            if writes:
                await self._store.write(list(writes.values()))
        trims = [write for key in overfull for write in self._trim(key)]
        for batch in _slices(trims):
            await self._store.write(batch)

    def _finish(self, seen: Item) -> Write | None:
        """The write that brings the task to its end, if that is ours to do."""
        item = self._cache.get(TASK, seen.namespace, seen.name)
        if item is None:
            return None
        task: Task = item.obj
        over = task.status.state in TERMINAL
        unknown = RANK[task.status.state] < _ASSIGNED  # to any agent
        desired = task.spec.desired_state
        if desired is _REMOVE and (over or unknown or self._lost(task)):
            return Write(item.key, None, item.revision)
        if over:
            return None
        if self._node_gone(task) and not unknown:
            error = f"node {task.spec.node} was deleted while the task was there"
            return self._end(item, TaskState.ORPHANED, "its node is gone", error)
        if desired is _SHUTDOWN and unknown:
            return self._end(item, _SHUTDOWN, "stopped before it was assigned to a node", "")
        return None

    def _lost(self, task: Task) -> bool:
        """Whether no agent will report on it: the node is gone or silent."""
        item = self._cache.get(NODE, "", task.spec.node)
        return item is None or _silent(item.obj)

    def _end(self, item: Item, state: TaskState, message: str, error: str) -> Write:
        task: Task = item.obj
        now = self._clock()
        status = msgspec.structs.replace(
            task.status, state=state, message=message, error=error, since=now, finished_at=now
        )
        return Write(
            item.key, codec.encode(msgspec.structs.replace(task, status=status)), item.revision
        )

    def _trim(self, key: SlotKey) -> Iterable[Write]:
        """What is too much of a slot's history."""
        slot = self._history.get(key)
        if slot is None or len(slot) <= HISTORY:
            return
        newest_first = sorted(slot.values(), key=_age, reverse=True)
        counted = self._counted_until(key[0])
        for item in newest_first[HISTORY:]:
            if counted is None or _age(item) < counted:
                yield Write(item.key, None, item.revision)

    def _counted_until(self, service: str) -> datetime | None:
        """Tasks made since then are counted by the restart policy; None: it counts none."""
        namespace, _, name = service.partition("/")
        item = self._cache.get(SERVICE, namespace, name)
        if item is None:
            return None
        found: Service = item.obj
        return _window(found.spec.restart, self._clock())


def _window(policy: RestartPolicy, now: datetime) -> datetime | None:
    if not policy.max_attempts:
        return None
    try:
        seconds = parse_duration(policy.window)
    except ValueError:
        return None  # the service controller says so in the service's status
    return now - timedelta(seconds=seconds) if seconds else None


def _slot_of(task: Task) -> SlotKey:
    spec = task.spec
    return f"{task.metadata.namespace}/{spec.service}", spec.run, spec.slot or spec.node


def _age(item: Item) -> datetime:
    made: datetime | None = item.obj.metadata.creation_timestamp
    return made or datetime(1970, 1, 1, tzinfo=UTC)


def _silent(node: Node) -> bool:
    ready = condition(node.status.conditions, "Ready")
    return ready is not None and ready.status == "Unknown"


def _slices(things: list[T]) -> Iterable[list[T]]:
    for start in range(0, len(things), _SLICE):
        yield things[start : start + _SLICE]
