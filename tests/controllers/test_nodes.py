"""Nodes that fall silent, break, drain, go and return, and what becomes of their tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.store import keys
from api.store.contract import Write
from api.types.kinds import NODE
from api.types.node import Node
from api.types.service import RestartPolicy
from api.types.task import TaskState
from tests.controllers.world import World, a_world, node, service


def availability(word: str) -> Callable[[Node], None]:
    def change(found: Node) -> None:
        found.spec.availability = word

    return change


async def test_a_silent_node_is_replaced_at_once_and_cleans_up_when_it_returns() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=6))
        await world.steady(6)
        await world.cut_off("n1")
        await world.until(lambda: world.on("n2") == world.on("n3") == 3, 5)
        assert world.ready("n1") == ("Unknown", "HeartbeatMissed")
        await world.until(lambda: world.events("HeartbeatMissed") != [])
        assert world.events("HeartbeatMissed")[0].involved_object.name == "n1"
        left = [t for t in world.tasks() if t.spec.node == "n1"]
        assert [t.spec.desired_state for t in left] == [TaskState.SHUTDOWN] * 2
        await world.join(node("n1"))
        await world.until(lambda: world.ready("n1") == ("True", "EngineReady"))
        await world.steady(6)
        assert world.on("n1") == 0


async def test_tasks_of_silent_nodes_wait_where_there_is_no_other_node() -> None:
    """On a cluster of one machine an agent may take its time: it adopts what still runs."""
    async with a_world(1) as world:
        await world.put(service(replicas=3))
        await world.steady(3)
        before = {t.metadata.uid for t in world.running()}
        await world.cut_off("n1")
        await world.until(lambda: world.ready("n1") == ("Unknown", "HeartbeatMissed"), 30)
        await world.pause(600)
        assert {t.metadata.uid for t in world.tasks() if t.wanted} == before
        await world.join(node("n1"))
        await world.until(lambda: world.ready("n1") == ("True", "EngineReady"))
        await world.steady(3)
        assert {t.metadata.uid for t in world.running()} == before


async def test_stranded_tasks_move_as_soon_as_there_is_another_node() -> None:
    async with a_world(1) as world:
        await world.put(service(replicas=3))
        await world.steady(3)
        await world.cut_off("n1")
        await world.pause(120)
        await world.join(node("n2"))
        await world.until(lambda: world.on("n2") == 3, 30)
        left = [t for t in world.tasks() if t.spec.node == "n1"]
        assert {t.spec.desired_state for t in left} == {TaskState.SHUTDOWN}
        await world.join(node("n1"))
        await world.steady(3)
        assert world.on("n1") == 0


async def test_a_broken_engine_is_given_half_a_minute() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=2))
        await world.steady(2)

        def broken(found: Node) -> None:
            found.status.engine.ready = False
            found.status.engine.message = "no docker socket"

        await world.change(NODE, "n1", broken)
        world.alive.discard("n1")
        await world.until(lambda: world.ready("n1") == ("False", "EngineDown"))
        await world.pause(25)
        assert world.on("n2") == 1
        await world.until(lambda: world.on("n2") == 2, 10)


async def test_an_engine_that_comes_back_in_time_keeps_its_tasks() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=2))
        await world.steady(2)
        before = {t.metadata.uid for t in world.running()}

        def engine(ready: bool) -> Callable[[Node], None]:
            def change(found: Node) -> None:
                found.status.engine.ready = ready

            return change

        await world.change(NODE, "n1", engine(False))
        await world.pause(20)
        await world.change(NODE, "n1", engine(True))
        await world.pause(60)
        assert {t.metadata.uid for t in world.running()} == before


async def test_draining_keeps_the_service_up() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=3))
        await world.steady(3)
        fewest = 3

        def look(_events: object) -> None:
            nonlocal fewest
            fewest = min(fewest, len({t.spec.slot for t in world.running()}))

        world.cache.listen(look)
        await world.change(NODE, "n1", availability("drain"))
        await world.until(lambda: not [t for t in world.running() if t.spec.node == "n1"], 20)
        await world.steady(3)
        assert fewest == 3


async def test_a_drain_ends_even_where_nothing_replaces() -> None:
    async with a_world(1) as world:
        await world.put(service(replicas=2))
        await world.steady(2)
        await world.change(NODE, "n1", availability("drain"))
        await world.until(lambda: not world.tasks("web", TaskState.RUNNING), 70)
        await world.change(NODE, "n1", availability("active"))
        await world.steady(2)


async def test_a_deleted_node_leaves_nothing_behind() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=4), service("everywhere", mode="global"))
        await world.steady(4)
        await world.steady(2, "everywhere")
        await world.cut_off("n1")
        await world.delete(NODE, "n1")
        await world.steady(4)
        await world.steady(1, "everywhere")
        await world.until(lambda: not [t for t in world.tasks() if t.spec.node == "n1" and t.live])
        assert all(t.spec.node == "n2" for t in world.tasks("everywhere"))


async def test_a_global_service_follows_the_nodes() -> None:
    async with a_world(2) as world:
        await world.put(service(mode="global", restart=RestartPolicy(delay="1s")))
        await world.steady(2)
        await world.join(node("n3"))
        await world.steady(3)
        await world.change(NODE, "n2", availability("drain"))
        await world.steady(2)
        assert world.on("n2") == 0
        # A silent node's task is left alone: it may well run, and nobody else can run it.
        before = {t.metadata.uid for t in world.running()}
        await world.cut_off("n1")
        await world.until(lambda: world.service().status.replicas == 1)
        await world.join(node("n1"))
        await world.steady(2)
        assert {t.metadata.uid for t in world.running()} == before


async def test_most_nodes_silent_at_once_get_time_to_renew() -> None:
    async with a_world(4) as world:
        await world.put(service(replicas=4))
        await world.steady(4)
        await world.pause(30)
        before = {t.metadata.uid for t in world.running()}
        # The store stood still: every lease ends in the same moment.
        names = ["n1", "n2", "n3", "n4"]
        await world.truth.write([Write(keys.session_key(name), None) for name in names])
        await world.pause(8)
        await world.truth.write([Write(keys.session_key(name), b"{}") for name in names])
        await world.pause(60)
        assert {t.metadata.uid for t in world.running()} == before
        assert world.events("HeartbeatMissed") == []


async def test_silent_nodes_are_lost_when_the_time_is_over() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=2))
        await world.steady(2)
        await world.pause(30)
        await world.cut_off("n1")
        await world.cut_off("n2")
        await world.until(lambda: world.ready("n1")[0] == world.ready("n2")[0] == "Unknown", 20)


async def test_a_manager_that_starts_does_not_take_nodes_for_lost() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=2))
        await world.steady(2)
        before = {t.metadata.uid for t in world.running()}
        await world.restart(while_down=_sessions_end)
        await world.pause(5)
        await world.join(node("n1"), node("n2"))
        await world.pause(60)
        assert {t.metadata.uid for t in world.running()} == before


async def _sessions_end(world: World) -> None:
    for name in ("n1", "n2"):
        await world.truth.commit([Write(keys.session_key(name), None)])
    await asyncio.sleep(1)
