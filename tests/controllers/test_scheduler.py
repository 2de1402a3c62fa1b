"""Where tasks go, what they say while they wait, and that they are placed when they can be."""

from __future__ import annotations

from typing import Any

from api.types.kinds import NODE, SERVICE, TASK
from api.types.node import Node
from api.types.service import Placement, Service, SpreadPreference
from api.types.task import TaskState
from api.types.template import Port, Reservations, Resources, TaskTemplate
from tests.controllers.world import GIB, a_world, node, service


def reserving(memory: str, **more: Any) -> TaskTemplate:
    resources = Resources(reservations=Reservations(memory=memory))
    return TaskTemplate(image="web:1", resources=resources, **more)


async def test_what_finds_no_room_says_so_until_there_is() -> None:
    async with a_world(0) as world:
        await world.join(node("a", memory=4 * GIB), node("b", memory=4 * GIB))
        await world.put(service(replicas=5, template=reserving("2Gi")))
        await world.until(lambda: len(world.running()) == 4)
        await world.until(lambda: any(t.status.message for t in world.tasks()))
        waiting = next(t for t in world.tasks() if t.status.state is TaskState.PENDING)
        assert waiting.status.message == "no suitable node (insufficient memory on 2 nodes)"
        await world.until(lambda: waiting.status.message in world.condition("Available")[2])
        await world.until(lambda: world.events("NoNode") != [])
        assert [e.message for e in world.events("NoNode")] == [waiting.status.message]
        await world.join(node("c", memory=4 * GIB))
        await world.steady(5)
        assert world.on("c") == 1


async def test_room_comes_back_when_a_task_ends() -> None:
    async with a_world(0) as world:
        await world.join(node("a", memory=2 * GIB))
        await world.put(service("one", replicas=2, template=reserving("1Gi")))
        await world.steady(2, "one")
        await world.put(service("two", replicas=1, template=reserving("1Gi")))
        await world.until(lambda: world.tasks("two") != [])
        await world.delete(SERVICE, "one")
        await world.steady(1, "two")


async def test_named_resources_go_to_one_task_each_whatever_happens() -> None:
    async with a_world(0) as world:
        gpus = [node("a"), node("b")]
        for one in gpus:
            one.status.resources.generic = {"gpu": ["G1", "G2"]}
        await world.join(*gpus)
        resources = Resources(reservations=Reservations(generic={"gpu": 1}))
        template = TaskTemplate(image="web:1", resources=resources)
        await world.put(service(replicas=5, template=template))

        def had() -> list[tuple[str, list[str]]]:
            live = [task for task in world.tasks() if task.live and task.spec.node]
            return sorted((task.spec.node, task.spec.generic["gpu"]) for task in live)  # type: ignore[index, misc]

        all_of_them = [("a", ["G1"]), ("a", ["G2"]), ("b", ["G1"]), ("b", ["G2"])]
        words = "no suitable node (insufficient gpu on 2 nodes)"
        await world.until(lambda: words in world.condition("Available")[2])
        assert had() == all_of_them
        await world.restart()
        await world.kill(world.running()[0])
        await world.until(lambda: len(world.running()) == 4)
        assert had() == all_of_them

        def shrink(found: Node) -> None:
            found.status.resources.generic = {"gpu": ["G1"]}

        await world.change(NODE, "b", shrink)
        await world.until(lambda: world.events("ResourceGone") != [])
        assert world.events("ResourceGone")[0].message == (
            "tasks there keep until they end: gpu G2, which the node no longer has"
        )
        assert had() == all_of_them
        (loser,) = (task for task in world.running() if task.spec.generic == {"gpu": ["G2"]}
                    and task.spec.node == "b")  # fmt: skip
        await world.kill(loser)
        await world.until(lambda: len(world.running()) == 3 and len(had()) == 3)
        assert ("b", ["G2"]) not in had()


async def test_without_nodes_tasks_wait_for_the_first() -> None:
    async with a_world(0) as world:
        await world.put(service(replicas=2))
        await world.until(lambda: "no nodes" in world.condition("Available")[2])
        await world.join(node("a"))
        await world.steady(2)


async def test_constraints_follow_a_label_that_changes() -> None:
    async with a_world(0) as world:
        await world.join(node("a", disk="ssd"), node("b", disk="hdd"))
        await world.put(
            service(replicas=3, placement=Placement(constraints=["node.labels.disk == ssd"]))
        )
        await world.steady(3)
        assert world.on("a") == 3

        def swap(disk: str) -> Any:
            def change(found: Node) -> None:
                found.metadata.labels["disk"] = disk

            return change

        await world.change(NODE, "b", swap("ssd"))
        await world.change(NODE, "a", swap("hdd"))
        await world.until(lambda: world.on("b") == 3)
        await world.steady(3)


async def test_a_constraint_no_node_meets_is_named() -> None:
    async with a_world(2) as world:
        await world.put(service(placement=Placement(constraints=["node.labels.gpu"])))
        await world.until(lambda: world.condition("Available")[2] != "")
        await world.until(
            lambda: (
                "constraint node.labels.gpu not met on 2 nodes" in world.condition("Available")[2]
            )
        )


async def test_host_ports_are_taken_once_a_node() -> None:
    async with a_world(2) as world:
        template = TaskTemplate(image="web:1", ports=[Port(target=80, published=8080)])
        await world.put(service(replicas=3, template=template))
        await world.until(lambda: len(world.running()) == 2)
        await world.until(
            lambda: "host port 8080/tcp in use on 2 nodes" in world.condition("Available")[2]
        )
        assert world.on("n1") == world.on("n2") == 1


async def test_no_more_than_the_limit_a_node() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=5, placement=Placement(max_replicas_per_node=2)))
        await world.until(
            lambda: "limit of 2 per node reached on 2 nodes" in world.condition("Available")[2]
        )
        assert len(world.running()) == 4


async def test_preferences_even_out_branches_not_nodes() -> None:
    async with a_world(0) as world:
        await world.join(node("a1", zone="a"), node("b1", zone="b"), node("b2", zone="b"))
        preference = SpreadPreference(spread="node.labels.zone")
        await world.put(service(replicas=8, placement=Placement(preferences=[preference])))
        await world.steady(8)
        assert (world.on("a1"), world.on("b1"), world.on("b2")) == (4, 2, 2)


async def test_a_paused_node_keeps_its_tasks_and_gets_no_more() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=2))
        await world.steady(2)

        def pause(found: Node) -> None:
            found.spec.availability = "pause"

        await world.change(NODE, "n1", pause)

        def more(found: Service) -> None:
            found.spec.replicas = 5

        await world.change(SERVICE, "web", more)
        await world.steady(5)
        assert (world.on("n1"), world.on("n2")) == (1, 4)


async def test_a_global_task_waits_for_room_on_its_own_node() -> None:
    async with a_world(0) as world:
        await world.join(node("big", memory=8 * GIB), node("small", memory=1 * GIB))
        await world.put(service(mode="global", template=reserving("2Gi")))
        await world.until(lambda: world.on("big") == 1)
        await world.until(
            lambda: "insufficient memory on node small" in world.condition("Available")[2]
        )


async def test_waiting_costs_no_writes() -> None:
    async with a_world(1) as world:
        await world.put(service(placement=Placement(constraints=["node.labels.gpu"])))
        await world.until(lambda: "not met" in world.condition("Available")[2])
        await world.until(lambda: world.events("NoNode") != [])
        before = await world.truth.revision()
        seen: list[object] = []
        stop = world.cache.listen(seen.extend, kinds={TASK, SERVICE})
        await world.pause(600)
        stop()
        assert seen == []
        assert await world.truth.revision() == before
