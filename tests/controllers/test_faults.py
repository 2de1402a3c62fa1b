"""Every step interrupted, and the world comes to rest where it should all the same."""

from __future__ import annotations

import pytest

from api.store.contract import Store
from api.types.kinds import NAMESPACE, SERVICE, TASK
from api.types.service import RestartPolicy, Service
from tests.controllers.faulty import Faulty
from tests.controllers.world import World, a_world, node, service

HOURS = 3 * 3600.0  # virtual: retries back off


async def a_life(world: World) -> None:
    """Made, killed, updated, scaled, moved, deleted."""
    await world.put(service(replicas=8, restart=RestartPolicy(delay="1s")))
    await world.steady(8, seconds=HOURS)
    await world.kill(world.running()[0])

    def newer(found: Service) -> None:
        found.spec.template.image = "web:2"
        found.spec.replicas = 5

    await world.change(SERVICE, "web", newer)
    await world.steady(5, seconds=HOURS)
    await world.cut_off("n1")
    await world.until(lambda: world.on("n2") + world.on("n3") == 5, HOURS)
    await world.join(node("n1"))
    await world.steady(5, seconds=HOURS)
    await world.delete(SERVICE, "web")
    await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None, HOURS)
    assert world.tasks() == []


@pytest.mark.parametrize("seed", range(6))
async def test_a_store_that_fails_by_chance(seed: int) -> None:
    stores: list[Faulty] = []

    def wrapped(inner: Store) -> Store:
        stores.append(Faulty(inner, rate=0.25, seed=seed))
        return stores[0]

    async with a_world(3, store=wrapped) as world:
        await a_life(world)
    assert stores[0].failures > 20


@pytest.mark.parametrize("seed", range(2))
async def test_two_managers_on_a_failing_store(seed: int) -> None:
    async with a_world(
        3, store=lambda inner: Faulty(inner, rate=0.15, seed=seed), managers=2
    ) as world:
        await a_life(world)


@pytest.mark.parametrize("seconds", [0.0, 0.011, 0.02, 0.05, 0.1, 0.15, 0.2])
async def test_a_manager_that_dies_anywhere_is_followed_by_one_that_goes_on(
    seconds: float,
) -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=10))
        await world.pause(seconds)
        await world.restart()
        await world.steady(10)

        def newer(found: Service) -> None:
            found.spec.template.image = "web:2"

        await world.change(SERVICE, "web", newer)
        await world.pause(seconds)
        await world.restart()
        await world.steady(10)
        await world.delete(SERVICE, "web")
        await world.pause(seconds)
        await world.restart()
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)


async def test_a_restart_alone_changes_nothing() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=6), service("everywhere", mode="global"))
        await world.steady(6)
        await world.steady(3, "everywhere")
        await world.pause(60)
        seen: list[object] = []
        stop = world.cache.listen(seen.extend, kinds={TASK, SERVICE, NAMESPACE})
        await world.restart()
        await world.pause(120)
        stop()
        assert seen == []


async def test_a_service_that_cant_be_read_says_what_is_wrong_and_others_go_on() -> None:
    async with a_world(1) as world:
        await world.put(service("bad", restart=RestartPolicy(delay="soon")), service(replicas=2))
        await world.steady(2)
        await world.until(lambda: world.condition("Progressing", "bad")[1] == "InvalidSpec")
        assert "'soon' is not a duration" in world.condition("Progressing", "bad")[2]

        def corrected(found: Service) -> None:
            found.spec.restart.delay = "1s"

        await world.change(SERVICE, "bad", corrected)
        await world.steady(1, "bad")
