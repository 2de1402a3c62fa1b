"""Events: the first says that the subscription stands, and no change after it is missed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controllers.agent.drivers.contract import EngineDown, Phase
from controllers.agent.drivers.docker import DockerDriver
from tests.agent.ground import FOREVER, PATIENCE, Ground, changes, until
from tests.agent.relay import Relay


async def test_an_end_is_heard(ground: Ground) -> None:
    async with changes(ground.driver) as events:
        uid = await ground.start("sleep 0.3; exit 3")
        await until(events, uid)
        seen = await ground.driver.inspect(uid)
        while seen.phase is not Phase.EXITED:  # a start may be heard of, too
            await until(events, uid)
            seen = await ground.driver.inspect(uid)
    assert seen.exit_code == 3


async def test_what_ended_between_subscribing_and_listing_is_in_the_list(ground: Ground) -> None:
    uid = await ground.start(FOREVER)
    async with changes(ground.driver):
        await ground.peer().stop(uid, grace=1)
        (seen,) = await ground.driver.containers()
        assert seen.phase is Phase.EXITED


@pytest.mark.parametrize("fate", ["stopped", "removed"])
async def test_what_others_do_is_heard(ground: Ground, fate: str) -> None:
    """Another agent, or a user with the engine's own command line."""
    uid = await ground.start(FOREVER)
    other = ground.peer()
    async with changes(ground.driver) as events:
        await (other.stop(uid, grace=1) if fate == "stopped" else other.remove(uid))
        await until(events, uid)


async def test_what_happens_after_our_own_stop_is_heard(ground: Ground) -> None:
    """Somebody starts it again by hand, and it ends."""
    uid = await ground.start(FOREVER)
    async with changes(ground.driver) as events:
        await ground.driver.stop(uid, grace=1)
        await ground.driver.stop(uid, grace=1)
        await ground.peer().start(uid)
        async with asyncio.timeout(PATIENCE):
            while (await ground.driver.inspect(uid)).phase is not Phase.RUNNING:
                await until(events, uid)
        await ground.peer().stop(uid, grace=1)
        async with asyncio.timeout(PATIENCE):
            while (await ground.driver.inspect(uid)).phase is not Phase.EXITED:
                await until(events, uid)


async def test_many_changes_at_once_are_all_heard(ground: Ground) -> None:
    uids = {await ground.start(FOREVER) for _ in range(6)}
    other = ground.peer()
    async with changes(ground.driver) as events:
        await asyncio.gather(*(other.stop(uid, grace=1) for uid in uids))
        async with asyncio.timeout(PATIENCE):
            while uids:
                uids.discard(await anext(events))


async def test_others_containers_are_not_heard(ground: Ground) -> None:
    there = ground.peer(node="there")
    theirs = ground.spec("exit 0")
    heard = set()
    async with changes(ground.driver) as events:
        await there.create(theirs)
        await there.start(theirs.task_uid)
        await there.stop(theirs.task_uid, grace=0)
        mine = await ground.start("exit 0")
        async with asyncio.timeout(PATIENCE):
            while mine not in heard:
                heard.add(await anext(events))
    assert theirs.task_uid not in heard


async def test_two_who_listen_hear_the_same(ground: Ground) -> None:
    uid = await ground.start(FOREVER)
    other = ground.peer()
    async with changes(other) as first, changes(ground.peer()) as second:
        await ground.driver.stop(uid, grace=1)
        await until(first, uid)
        await until(second, uid)


async def test_an_engine_that_is_not_there_says_so_with_what_to_do() -> None:
    driver = DockerDriver("unix:///nowhere/docker.sock", cluster="c", node="n")
    try:
        asked = [driver.info(), driver.containers(), anext(driver.events()), driver.inspect("uid")]
        for ask in asked:
            with pytest.raises(EngineDown, match=r"/nowhere/docker\.sock.*start it"):
                await ask
    finally:
        await driver.close()


async def test_an_engine_that_goes_away_ends_the_events_and_comes_back(tmp_path: Path) -> None:
    ground = Ground("simulated", tmp_path)
    uid = await ground.start(FOREVER)
    events = ground.driver.events()
    assert await anext(events) == ""
    ground.engine.fail("it is being mended")
    with pytest.raises(EngineDown):
        await anext(events)
    with pytest.raises(EngineDown, match="mended"):
        await ground.driver.inspect(uid)
    ground.engine.recover()
    assert (await ground.driver.inspect(uid)).phase is Phase.RUNNING
    async with changes(ground.driver) as again:
        ground.engine.crash(uid)
        await until(again, uid)


@pytest.mark.engine
async def test_an_engine_that_hangs_is_found_out_though_nothing_happens(tmp_path: Path) -> None:
    relay = Relay(tmp_path / "docker.sock")
    await relay.start()
    driver = DockerDriver(relay.url, cluster="c", node="n", quiet=2.0)
    try:
        events = driver.events()
        assert await anext(events) == ""
        next_event = asyncio.ensure_future(anext(events))
        async with asyncio.timeout(PATIENCE):
            while relay.requests.count("GET _ping") < 2:
                await relay.asked.wait()
                relay.asked.clear()
        assert not next_event.done(), "it lives, and nothing happens"
        relay.hang()
        with pytest.raises(EngineDown, match=r"took too long to answer.*start it"):
            await next_event
    finally:
        await driver.close()
        await relay.stop()
