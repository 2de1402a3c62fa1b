"""A whole cluster in memory: the store, the cache, the controllers, and agents of ten lines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from api.store import keys
from api.store.cache import Cache, CacheEvent, Item
from api.store.contract import Conflict, Store, Write
from api.store.indexes import standard
from api.store.memory import MemoryStore
from api.types import codec
from api.types.kinds import BY_TYPE, EVENT, NODE, SERVICE, TASK, Kind
from api.types.meta import Metadata, Object, condition
from api.types.node import Engine, Node, NodeResources, NodeStatus
from api.types.service import TASKS_FINALIZER, Service, ServiceSpec
from api.types.task import ContainerStatus, Task, TaskState, TaskStatus, forward
from api.types.template import TaskTemplate
from controllers.manager import Controllers

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 2**30

Behaviour = Callable[[Task, str], TaskState]  # what becomes of a started task, by its revision


def loop_clock() -> datetime:
    """A wall clock that goes with the loop's, so that virtual hours pass on it too."""
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


def key_of(obj: Object) -> str:
    return keys.object_key(BY_TYPE[type(obj)], obj.metadata.namespace, obj.metadata.name)


def service(
    name: str = "web", *, image: str = "web:1", namespace: str = "default", **spec: Any
) -> Service:
    template = spec.pop("template", None) or TaskTemplate(image=image)
    return Service(
        metadata=Metadata(
            name=name, namespace=namespace, uid=f"uid-{name}", generation=1,
            creation_timestamp=EPOCH, finalizers=[TASKS_FINALIZER],
        ),
        spec=ServiceSpec(template=template, **spec),
    )  # fmt: skip


def node(name: str, *, cpus: float = 16, memory: int = 64 * GIB, **labels: str) -> Node:
    return Node(
        metadata=Metadata(name=name, uid=f"uid-{name}", labels=labels, creation_timestamp=EPOCH),
        status=NodeStatus(
            hostname=name, os="linux", architecture="amd64", address="10.0.0.1",
            resources=NodeResources(cpus=cpus, memory=memory),
            engine=Engine(driver="simulated", ready=True),
        ),
    )  # fmt: skip


class World:
    """Reads go through the cache, writes to the store as an API server would make them."""

    def __init__(self, store: Store | None = None) -> None:
        self.truth = MemoryStore()
        self.store: Store = store or self.truth
        self.cache = Cache(self.truth)
        standard(self.cache)
        self.controllers = Controllers(self.store, self.cache, clock=loop_clock)
        self.alive: set[str] = set()  # nodes whose agent works
        self.behave: Behaviour = lambda _task, _revision: TaskState.RUNNING
        self.reports = 0
        self.managing: asyncio.Task[None]

    # As a user

    async def put(self, *objects: Object) -> None:
        for obj in objects:
            await self.truth.commit([Write(key_of(obj), codec.encode(obj))])
        await self.caught_up()

    async def change(
        self, kind: Kind, name: str, how: Callable[[Any], None], namespace: str = "default"
    ) -> None:
        """Read, change and write an object, bumping its generation."""
        item = self.item(kind, name, namespace)
        obj = codec.copy(item.obj)
        how(obj)
        obj.metadata.generation += 1
        await self.truth.commit([Write(item.key, codec.encode(obj), item.revision)])
        await self.caught_up()

    async def delete(self, kind: Kind, name: str, namespace: str = "default") -> None:
        item = self.item(kind, name, namespace)
        value = None
        if item.obj.metadata.finalizers:
            metadata = msgspec.structs.replace(item.obj.metadata, deletion_timestamp=loop_clock())
            value = codec.amended(kind, item.value, metadata=metadata)
        await self.truth.commit([Write(item.key, value, item.revision)])
        await self.caught_up()

    async def caught_up(self) -> None:
        await self.cache.caught_up(await self.truth.revision())

    # Looking

    def item(self, kind: Kind, name: str, namespace: str = "default") -> Item:
        item = self.cache.get(kind, namespace if kind.namespaced else "", name)
        assert item is not None, f"there is no {kind.name} {name}"
        return item

    def service(self, name: str = "web") -> Service:
        found: Service = self.item(SERVICE, name).obj
        return found

    def tasks(self, name: str = "web", *states: TaskState) -> list[Task]:
        found: list[Task] = [item.obj for item in self.cache.by(TASK, "service", f"default/{name}")]
        return [task for task in found if not states or task.status.state in states]

    def running(self, name: str = "web") -> list[Task]:
        return [task for task in self.tasks(name, TaskState.RUNNING) if task.wanted]

    def on(self, node_name: str, name: str = "web") -> int:
        return sum(task.spec.node == node_name for task in self.running(name))

    def condition(self, kind: str, name: str = "web") -> tuple[str, str, str]:
        found = condition(self.service(name).status.conditions, kind)
        return (found.status, found.reason, found.message) if found else ("", "", "")

    def update_state(self, name: str = "web") -> str:
        update = self.service(name).status.update
        return "" if update is None else update.state

    def ready(self, name: str) -> tuple[str, str]:
        found = condition(self.item(NODE, name).obj.status.conditions, "Ready")
        return (found.status, found.reason) if found else ("", "")

    def events(self, reason: str) -> list[Any]:
        return [item.obj for item in self.cache.items(EVENT) if item.obj.reason == reason]

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def restart(self, while_down: Callable[[World], Awaitable[None]] | None = None) -> None:
        """The manager's controllers end, wherever they are, and new ones begin."""
        self.managing.cancel()
        await asyncio.gather(self.managing, return_exceptions=True)
        if while_down is not None:
            await while_down(self)
        self.controllers = Controllers(self.store, self.cache, clock=loop_clock)
        self.managing = asyncio.create_task(self.controllers.run())

    async def until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait in virtual time; fails with what the world looks like."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not true():
            if loop.time() > end:
                raise AssertionError("\n".join(self.picture()))
            await asyncio.sleep(0.05)

    async def steady(self, count: int, name: str = "web", seconds: float = 60.0) -> None:
        """Until so many run, of the wanted revision alone, and the status says so."""

        def is_steady() -> bool:
            status = self.service(name).status
            live = [task for task in self.tasks(name) if task.live]
            return (
                len(self.running(name)) == count == len(live)
                and status.running == status.updated == status.replicas == count
                and self.condition("Progressing", name)[1] == "Complete"
                and status.observed_generation == self.service(name).metadata.generation
            )

        await self.until(is_steady, seconds)

    def picture(self) -> list[str]:
        lines = [
            f"{item.kind.name} {item.name} {item.obj.status}"
            for kind in (NODE, SERVICE)
            for item in self.cache.items(kind)
        ]
        for item in self.cache.items(TASK):
            task: Task = item.obj
            lines.append(
                f"{task.metadata.name} {task.spec.revision} on {task.spec.node or '-'} wanted "
                f"{task.spec.desired_state} is {task.status.state}: {task.status.message}"
            )
        return [*lines, str(self.controllers.report())]

    # Nodes and agents

    async def join(self, *nodes: Node) -> None:
        for one in nodes:
            if self.cache.get(NODE, "", one.metadata.name) is None:
                await self.put(one)
            self.alive.add(one.metadata.name)
            await self.truth.commit([Write(keys.session_key(one.metadata.name), b"{}")])

    async def cut_off(self, name: str) -> None:
        """The node falls silent: its session ends, and its agent does nothing any more."""
        self.alive.discard(name)
        await self.truth.commit([Write(keys.session_key(name), None)])
        await self.caught_up()

    async def agents(self) -> None:
        """All nodes' agents: each moves its tasks a state at a time, a batch every 20 ms."""
        due: dict[str, Item] = {}

        def heard(events: Sequence[CacheEvent]) -> None:
            for event in events:
                if event.kind is TASK and event.type != "DELETED" and event.item.obj.spec.node:
                    due[event.item.key] = event.item

        stop = self.cache.listen(heard, kinds={TASK})
        for item in self.cache.items(TASK):
            due[item.key] = item
        try:
            while True:
                await asyncio.sleep(0.02)
                writes = []
                for key in list(due):
                    now = self.cache.get(TASK, due[key].namespace, due[key].name)
                    if now is None:
                        del due[key]
                    elif now.obj.spec.node in self.alive:
                        del due[key]
                        writes += self.act(now)
                results = await self.truth.write(writes) if writes else []
                self.reports += len(results)
                seen = [one for one in results if not isinstance(one, Conflict)]
                if seen:
                    await self.cache.caught_up(max(seen))
        finally:
            stop()

    def act(self, item: Item) -> list[Write]:
        task: Task = item.obj
        state = task.status.state
        if state in (TaskState.NEW, TaskState.PENDING) or not task.live:
            return []
        error = ""
        if not task.wanted:
            new = TaskState.SHUTDOWN
        elif state is TaskState.RUNNING:
            return []
        elif state is TaskState.ASSIGNED:
            new = TaskState.PREPARING
        elif state is TaskState.PREPARING:
            new = TaskState.STARTING
        else:
            new = self.behave(task, task.spec.revision)
            error = "exit code 1" if new is TaskState.FAILED else ""
        return [self.report(item, new, error)]

    def report(self, item: Item, state: TaskState, error: str = "", message: str = "") -> Write:
        task: Task = item.obj
        assert forward(task.status.state, state)
        status = TaskStatus(
            state=state,
            since=loop_clock(),
            error=error,
            message=message,
            container=ContainerStatus(id="c"),
        )
        changed = msgspec.structs.replace(task, status=status)
        return Write(item.key, codec.encode(changed), item.revision)

    async def kill(self, task: Task, error: str = "exit code 137") -> None:
        item = self.item(TASK, task.metadata.name)
        await self.truth.commit([self.report(item, TaskState.FAILED, error)])
        await self.caught_up()


async def _nothing() -> None:
    return None


@contextlib.asynccontextmanager
async def a_world(
    nodes: int = 3, *, store: Callable[[Store], Store] | None = None, managers: int = 1
) -> AsyncIterator[World]:
    """A world that runs; `managers` controllers at once."""
    world = World()
    if store is not None:
        world.store = store(world.truth)
        world.controllers = Controllers(world.store, world.cache, clock=loop_clock)
    running = [asyncio.create_task(world.cache.run()), asyncio.create_task(world.agents())]
    world.managing = asyncio.create_task(_nothing())
    try:
        await world.cache.synced()
        world.managing = asyncio.create_task(world.controllers.run())
        for _ in range(managers - 1):
            cache = Cache(world.truth)
            standard(cache)
            running.append(asyncio.create_task(cache.run()))
            other = Controllers(world.store, cache, clock=loop_clock)
            running.append(asyncio.create_task(other.run()))
        await world.join(
            *(node(f"n{number}", zone=f"z{number % 2}") for number in range(1, nodes + 1))
        )
        yield world
    finally:
        running.append(world.managing)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await world.truth.close()
