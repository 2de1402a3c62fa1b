"""The service controller: carries out what `decide` decides.

One key is one service, and one key is worked on once at a time. After its writes it waits until
the cache has seen them, so the next decision never repeats this one. After a store error it first
asks the store how far it is and waits for the cache to get there, because the write may have
happened.

A service of 20,000 tasks changes thousands of times a second while it starts. So a service rests
after each look, the longer the more tasks it has, and the longer the more is looked at of others:
the cost of looking stays at a few percent of a core, whatever their sizes and however many they
are. A service that has rested is looked at as soon as something happens.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from api.rendering import pinned_secrets
from api.store import keys
from api.store.batch import Writer
from api.store.cache import DELETED, Cache, CacheEvent, Item
from api.store.contract import ABSENT, Conflict, Store, StoreError, Write
from api.types import codec
from api.types.kinds import NODE, REVISION, SECRET, SERVICE, TASK
from api.types.node import Node
from api.types.revision import Revision
from api.types.secret import SecretStatus
from api.types.service import TASKS_FINALIZER, Service, ServiceStatus
from api.types.task import TERMINAL, Task, TaskState
from controllers.orchestrator.census import refused_status
from controllers.orchestrator.decide import cascade, decide
from controllers.orchestrator.decision import Decision, Observed, World
from controllers.orchestrator.dependencies import Other, waits_for
from controllers.orchestrator.secrets import Find, Wanted, lost, seen, wanted
from controllers.orchestrator.slots import made
from controllers.placement.cluster import is_ready, offer
from controllers.reconcile.barrier import settled
from controllers.reconcile.controller import DONE, After, Controller, GiveUp, Outcome
from controllers.reconcile.recorder import Recorder
from controllers.reconcile.share import Share

# Seconds between two writes of one service's status: where it has come to another turn, for which
# people and programs wait, and where only counts and words differ, which change with every task.
TURN_GAP, COUNTS_GAP = 0.1, 0.5
WORKERS = 64  # services at a time; all they do is wait for the store
_IN_DOUBT = 5.0  # seconds until another look at a service that can't be read
_REST = 0.02  # seconds of rest after a look, at least
_LONGEST_REST = 10.0
_LOOK, _LOOK_A_TASK = 40e-6, 2e-6  # seconds that a look costs, about
_PART_OF_ONE, _PART_OF_ALL = 0.08, 0.04  # of a core, for looking at services
_CHUNK = 1000  # tasks encoded and written between two looks at other work

_RUNNING = TaskState.RUNNING
_TELLING = (TaskState.PENDING, TaskState.PREPARING)  # states whose messages the status quotes


class ServiceController:
    name = "services"

    def __init__(
        self, cache: Cache, store: Store, recorder: Recorder, clock: Callable[[], datetime]
    ) -> None:
        self._cache = cache
        self._store = store
        self._writer = Writer(store)  # puts many services' writes into one commit
        self._recorder = recorder
        self._clock = clock
        self._observed = Observed()
        self._nodes: dict[str, Node] = {}
        self._status_written: dict[str, float] = {}  # loop's time
        self._names: dict[str, tuple[int, Wanted]] = {}  # of services without secrets
        self._awaited: dict[str, set[str]] = {}  # by service: those that wait for it to come up
        self._unsure: set[str] = set()  # keys whose last write may or may not have happened
        self._share = Share(_PART_OF_ALL)
        self._controller = Controller(
            self.name, self._reconcile, workers=WORKERS, pace=self._pace, given_up=self._refuse
        )

    async def run(self) -> None:
        await self._cache.synced()
        self._writer = Writer(self._store)
        stop = self._cache.listen(self._heard, kinds={SERVICE, TASK, NODE, SECRET})
        try:
            self._begin()
            await self._controller.run()
        finally:
            stop()
            await self._writer.close()

    # What wakes a service

    def _begin(self) -> None:
        now = self._clock()
        self._observed = Observed()
        for item in self._cache.items(TASK):
            task: Task = item.obj
            status = task.status
            if status.state is _RUNNING:
                began = min(max(status.since or now, made(task)), now)
                self._observed.running[task.metadata.uid] = began
            if task.live and not task.wanted:
                self._observed.told[task.metadata.uid] = now
        self._nodes = {item.name: item.obj for item in self._cache.items(NODE)}
        for name, node in self._nodes.items():
            if node.spec.availability == "drain":
                self._observed.draining[name] = now
        every = {f"{item.namespace}/{item.name}" for item in self._cache.items(SERVICE)}
        every.update(self._cache.by_values(TASK, "service"))
        every.update(self._cache.by_values(REVISION, "service"))
        for key in every:
            self._controller.queue.add(key)

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        add = self._controller.queue.add
        for event in events:
            self._wake_waiting(event)
            if event.kind is TASK:
                if self._task_matters(event):
                    task: Task = event.item.obj
                    add(f"{event.item.namespace}/{task.spec.service}")
            elif event.kind is SERVICE:
                if event.old is None or event.type == DELETED or _rewritten(event):
                    add(f"{event.item.namespace}/{event.item.name}")
            elif event.kind is NODE:
                self._node_heard(event)
            elif event.kind is SECRET:
                id = f"{event.item.namespace}/{event.item.name}"
                for user in self._cache.by(SERVICE, "secret", id):
                    add(f"{user.namespace}/{user.name}")

    def _task_matters(self, event: CacheEvent) -> bool:
        """Whether a decision may differ for it; remembers when it was seen to end."""
        task: Task = event.item.obj
        uid, state = task.metadata.uid, task.status.state
        if event.type == DELETED:
            self._observed.running.pop(uid, None)
            self._observed.ended.pop(uid, None)
            self._observed.told.pop(uid, None)
            return True
        if event.old is None:
            return True
        before: Task = event.old.obj
        if before.spec.desired_state is not task.spec.desired_state:
            self._observed.told.setdefault(uid, self._clock())
            return True
        if before.status.state is not state:
            if state in TERMINAL:
                self._observed.told.pop(uid, None)
                self._observed.ended.setdefault(uid, self._clock())
                return True
            if state is _RUNNING:
                self._observed.running.setdefault(uid, self._clock())
                return True
        return before.status.message != task.status.message and (
            state in _TELLING or before.status.state in _TELLING
        )

    def _node_heard(self, event: CacheEvent) -> None:
        node: Node = event.item.obj
        if event.type == DELETED:
            self._nodes.pop(event.item.name, None)
        else:
            self._nodes[event.item.name] = node
        if event.type == DELETED or node.spec.availability != "drain":
            self._observed.draining.pop(event.item.name, None)
        else:
            self._observed.draining.setdefault(event.item.name, self._clock())
        if event.type != DELETED and event.old is not None and offer(event.old.obj) == offer(node):
            return
        add = self._controller.queue.add
        there = self._cache.by(TASK, "node", event.item.name)
        for key in {f"{item.namespace}/{item.obj.spec.service}" for item in there}:
            add(key)
        if event.type != DELETED and is_ready(node):
            self._wake_stranded()
        for item in self._cache.items(SERVICE):
            if item.obj.spec.mode in ("global", "global-job"):
                add(f"{item.namespace}/{item.name}")

    def _wake_stranded(self) -> None:
        """Tasks on silent nodes may have a place to go to now."""
        for name, node in self._nodes.items():
            if not is_ready(node):
                for item in self._cache.by(TASK, "node", name):
                    self._controller.queue.add(f"{item.namespace}/{item.obj.spec.service}")

    def _pace(self, key: str) -> float:
        """Seconds of rest after a look: for what it cost, and for what was looked at lately of all
        services."""
        tasks = self._cache.count(TASK, "service", key)
        cost = _LOOK + tasks * _LOOK_A_TASK
        return min(max(_REST + cost / _PART_OF_ONE, self._share.rest(cost)), _LONGEST_REST)

    # One service

    async def _reconcile(self, key: str) -> Outcome:
        if key in self._unsure:
            await settled(self._cache, self._store)
            self._unsure.discard(key)
        namespace, _, name = key.partition("/")
        item = self._cache.get(SERVICE, namespace, name)
        if item is None and self._cache.in_doubt(SERVICE, namespace, name):
            return After(_IN_DOUBT)
        decision = self._decide(key, item)
        try:
            await self._carry_out(key, item, decision)
        except StoreError:
            self._unsure.add(key)
            raise
        if item is None:
            self._status_written.pop(key, None)
            self._names.pop(key, None)
            return DONE
        if decision.record and decision.status is not None:
            await self._record(key, item, decision.status)
        for note in decision.notes:
            self._recorder.note(
                item.obj, note.type, note.reason, note.message, count=note.count,
                component=self.name,
            )  # fmt: skip
        if decision.expired:
            await self._delete(item)
        elif decision.status is not None and not decision.record:
            wait = await self._write_status(key, item, decision.status)
            if wait:
                decision.look_again(wait)
        if decision.requeue_after is not None:
            return After(decision.requeue_after)
        return DONE

    def _decide(self, key: str, item: Item | None) -> Decision:
        tasks: list[Task] = [i.obj for i in self._cache.by(TASK, "service", key)]
        revisions: list[Revision] = [i.obj for i in self._cache.by(REVISION, "service", key)]
        if item is None:
            return cascade(tasks, revisions)
        find = self._finder(item.namespace)
        target = self._wanted(key, item, revisions, find)
        world = World(
            nodes=self._nodes,
            observed=self._observed,
            now=self._clock(),
            waits_for="" if tasks or revisions else self._waits_for(key, item),
            secrets=target.secrets,
            newest=seen(item.obj, find),
            lost=lost(revisions, find),
        )
        try:
            return decide(item.obj, target.name, tasks, revisions, world)
        except ValueError as error:
            raise GiveUp(
                "InvalidSpec", f"{error}; correct it and apply the service again"
            ) from None

    def _waits_for(self, key: str, item: Item) -> str:
        """What its first start waits for; it is looked at again when something happens there."""

        def find(name: str) -> Other | None:
            there = self._cache.get(SERVICE, item.namespace, name)
            if there is None:
                return None
            tasks = self._cache.by(TASK, "service", f"{item.namespace}/{name}")
            return Other(there.obj, [task.obj for task in tasks])

        wanted = item.obj.spec.depends_on
        words = waits_for(wanted, find)
        for one in wanted if words else ():
            self._awaited.setdefault(f"{item.namespace}/{one.service}", set()).add(key)
        return words

    def _wake_waiting(self, event: CacheEvent) -> None:
        """Services that wait for that one, or for that task's, to come up."""
        if self._awaited and event.kind in (SERVICE, TASK):
            name = event.item.name if event.kind is SERVICE else event.item.obj.spec.service
            for key in self._awaited.pop(f"{event.item.namespace}/{name}", ()):
                self._controller.queue.add(key)

    def _wanted(self, key: str, item: Item, revisions: Sequence[Revision], find: Find) -> Wanted:
        """What its tasks are to be of."""
        if pinned_secrets(item.obj.spec.template):
            return wanted(item.obj, revisions, find)
        known = self._names.get(key)
        if known is None or known[0] != item.revision:
            known = (item.revision, wanted(item.obj, revisions, find))
            self._names[key] = known
        return known[1]

    def _finder(self, namespace: str) -> Find:
        def find(name: str) -> SecretStatus | None:
            there = self._cache.get(SECRET, namespace, name)
            return None if there is None else there.obj.status

        return find

    async def _carry_out(self, key: str, item: Item | None, decision: Decision) -> None:
        """All of the decision's writes; returns when the cache has seen them."""
        newest = 0
        if decision.revision is not None:
            newest = await self._writer.write(_creation(decision.revision))
        refused: list[str] = []
        for writes in _chunks(_task_writes(decision)):
            for result in await self._writer.write_all(writes):
                if isinstance(result, Conflict):
                    refused += result.keys
                else:
                    newest = max(newest, result)
        if decision.drop and not refused:
            drops = [Write(_key(old), None, _seen(old)) for old in decision.drop]
            for result in await self._writer.write_all(drops):
                if isinstance(result, int):
                    newest = max(newest, result)
        if newest:
            await self._cache.caught_up(newest)
        if refused:
            raise Conflict(refused)
        if decision.finished and item is not None:
            await self._release(item)

    async def _release(self, item: Item) -> None:
        """Nothing of a deleted service is left: take our finalizer, and with the last, delete."""
        service: Service = item.obj
        left = [one for one in service.metadata.finalizers if one != TASKS_FINALIZER]
        value = None
        if left:
            metadata = msgspec.structs.replace(service.metadata, finalizers=left)
            value = codec.amended(SERVICE, item.value, metadata=metadata)
        if value is None or left != service.metadata.finalizers:
            revision = await self._writer.write(Write(item.key, value, item.revision))
            await self._cache.caught_up(revision)

    async def _write_status(self, key: str, item: Item, status: ServiceStatus) -> float:
        """Write it if it changed; if it was written just now, the seconds to wait first."""
        service: Service = item.obj
        if status == service.status:
            return 0.0
        now = asyncio.get_running_loop().time()
        wait = self._status_written.get(key, -math.inf) + gap(service.status, status) - now
        if wait > 0:
            return wait
        self._status_written[key] = now
        value = codec.amended(SERVICE, item.value, status=status)
        revision = await self._writer.write(Write(item.key, value, item.revision))
        await self._cache.caught_up(revision)
        return 0.0

    async def _record(self, key: str, item: Item, status: ServiceStatus) -> None:
        """Write a status that what follows depends on: at once, or not at all."""
        self._status_written.pop(key, None)
        await self._write_status(key, item, status)

    async def _delete(self, item: Item) -> None:
        """As a user would: its finalizer lets it go when its tasks are gone."""
        metadata = msgspec.structs.replace(
            item.obj.metadata, deletion_timestamp=self._clock().replace(microsecond=0)
        )
        value = codec.amended(SERVICE, item.value, metadata=metadata)
        revision = await self._writer.write(Write(item.key, value, item.revision))
        await self._cache.caught_up(revision)

    async def _refuse(self, key: str, why: GiveUp) -> None:
        namespace, _, name = key.partition("/")
        item = self._cache.get(SERVICE, namespace, name)
        if item is None:
            return
        newest = seen(item.obj, self._finder(namespace))
        status = refused_status(item.obj, newest, why.reason, why.message, self._clock())
        if status != item.obj.status:
            self._recorder.note(item.obj, "Warning", why.reason, why.message, component=self.name)
            value = codec.amended(SERVICE, item.value, status=status)
            await self._writer.write(Write(item.key, value, item.revision))


def gap(before: ServiceStatus, after: ServiceStatus) -> float:
    """Seconds since the last write after which `after` may be written."""
    return COUNTS_GAP if _turn(before) == _turn(after) else TURN_GAP


def _turn(status: ServiceStatus) -> tuple[object, ...]:
    """What a status says without its counts and words."""
    update = None if status.update is None else (status.update.state, status.update.revision)
    told = [(one.type, one.status, one.reason) for one in status.conditions]
    seen = (status.observed_generation, status.observed_secrets, status.revision)
    return seen, update, told


def _rewritten(event: CacheEvent) -> bool:
    """Whether more than the status of a service changed."""
    if event.old is None:
        return True
    before: Service = event.old.obj
    after: Service = event.item.obj
    return (
        before.spec != after.spec
        or before.metadata.generation != after.metadata.generation
        or before.metadata.annotations != after.metadata.annotations
        or before.metadata.deletion_timestamp != after.metadata.deletion_timestamp
        or before.metadata.uid != after.metadata.uid
    )


def _task_writes(decision: Decision) -> Iterable[Write]:
    for task in decision.create:
        yield _creation(task)
    for task, desired in decision.update:
        spec = msgspec.structs.replace(task.spec, desired_state=desired)
        changed = msgspec.structs.replace(task, spec=spec)
        yield Write(_key(task), codec.encode(changed), _seen(task))
    for task in decision.delete:
        yield Write(_key(task), None, _seen(task))


def _creation(obj: Task | Revision) -> Write:
    return Write(_key(obj), codec.encode(obj), ABSENT)


def _key(obj: Task | Revision) -> str:
    kind = TASK if isinstance(obj, Task) else REVISION
    return keys.object_key(kind, obj.metadata.namespace, obj.metadata.name)


def _seen(obj: Task | Revision) -> int:
    """The revision of the store at which the object was read."""
    return int(obj.metadata.resource_version)


def _chunks(writes: Iterable[Write]) -> Iterable[list[Write]]:
    chunk: list[Write] = []
    for write in writes:
        chunk.append(write)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
