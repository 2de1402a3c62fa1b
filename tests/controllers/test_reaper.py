"""Tasks that nobody else would finish."""

from __future__ import annotations

import msgspec

from api.store.contract import Write
from api.types import codec
from api.types.kinds import NODE, SERVICE, TASK
from api.types.service import RestartPolicy
from api.types.task import Task, TaskState
from tests.controllers.world import World, a_world, node, service


async def want(world: World, task: Task, desired: TaskState) -> None:
    item = world.item(TASK, task.metadata.name)
    spec = msgspec.structs.replace(item.obj.spec, desired_state=desired)
    changed = msgspec.structs.replace(item.obj, spec=spec)
    await world.truth.commit([Write(item.key, codec.encode(changed), item.revision)])
    await world.caught_up()


async def test_a_task_that_never_reached_a_node_is_shut_down_without_one() -> None:
    async with a_world(0) as world:
        await world.put(service(replicas=1))
        await world.until(lambda: world.tasks() != [])
        first = world.tasks()[0]
        await want(world, first, TaskState.SHUTDOWN)
        name = first.metadata.name
        await world.until(lambda: world.item(TASK, name).obj.status.state is TaskState.SHUTDOWN)
        await world.join(node("n1"))
        await world.steady(1)


async def test_what_is_to_be_forgotten_on_a_silent_node_is_not_waited_for() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=3))
        await world.steady(3)
        await world.cut_off("n1")
        await world.until(lambda: world.ready("n1")[0] == "Unknown")
        await world.delete(SERVICE, "web")
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)
        assert world.tasks() == []


async def test_tasks_of_a_deleted_node_are_orphaned() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=2))
        await world.steady(2)
        there = next(t for t in world.running() if t.spec.node == "n1")
        await world.cut_off("n1")
        await world.until(lambda: world.on("n2") == 2)
        await world.delete(NODE, "n1")
        name = there.metadata.name
        await world.until(lambda: world.item(TASK, name).obj.status.state is TaskState.ORPHANED)
        assert "node n1 was deleted" in world.item(TASK, name).obj.status.error


async def test_a_policy_with_a_window_keeps_what_it_has_to_count() -> None:
    async with a_world(1) as world:
        world.behave = lambda _task, _revision: TaskState.FAILED
        policy = RestartPolicy(delay="1s", max_attempts=9, window="10m")
        await world.put(service(replicas=1, restart=policy))
        await world.until(lambda: world.condition("Progressing")[1] == "RestartsExhausted", 900)
        assert len(world.tasks()) == 10


async def test_components_are_reported() -> None:
    async with a_world(1) as world:
        await world.pause(1)
        report = {str(one["name"]): one["state"] for one in world.controllers.report()}
        names = "namespaces", "nodes", "services", "scheduler", "reaper", "owners"
        made = "event recorder", "secrets", "secret generator", "secret fetcher"
        assert report == dict.fromkeys((*made, *names), "Running")
