"""What a container costs the engine in calls: the agent asks no more than needed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from api.types.task import TaskState
from controllers.agent.agent import Agent
from controllers.agent.drivers.docker import DockerDriver
from tests.agent.ground import FOREVER, IMAGE, PATIENCE, docker
from tests.agent.managers import NODE, ToyManagers
from tests.agent.relay import Relay

pytestmark = pytest.mark.engine

TASKS = 5


class Counted:
    """An agent on a real engine, whose calls are counted, with managers that are toys."""

    def __init__(self, managers: ToyManagers, relay: Relay) -> None:
        self.managers = managers
        self.relay = relay

    async def until(self, reached: Callable[[], bool]) -> Counter[str]:
        """The calls until then, and until no more come."""
        async with asyncio.timeout(PATIENCE):
            while not reached():
                await self.managers.changed.wait()
                self.managers.changed.clear()
        return await self.rest()

    async def rest(self) -> Counter[str]:
        """The calls until no more come."""
        seen = -1
        while seen != len(self.relay.requests):
            seen = len(self.relay.requests)
            await asyncio.sleep(0.5)
        return Counter(self.relay.take())

    def all_are(self, state: TaskState) -> bool:
        return all(task.status.state is state for task in self.managers.tasks.values())


@pytest.fixture
async def counted(tmp_path: Path, busybox: None) -> AsyncIterator[Counted]:
    relay = Relay(tmp_path / "docker.sock")
    await relay.start()
    managers = ToyManagers()
    cluster = tmp_path.name
    driver = DockerDriver(relay.url, cluster=cluster, node=NODE, run_dir=tmp_path)
    running = asyncio.create_task(Agent(managers, driver, NODE, tmp_path).run())
    it = Counted(managers, relay)
    try:
        await it.until(lambda: bool(managers.sessions))
        yield it
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await driver.close()
        await relay.stop()
        ids = docker("ps", "-aq", "--filter", f"label=dev.skep.cluster={cluster}").split()
        if ids:
            docker("rm", "-f", *ids)


async def test_a_container_costs_six_calls_in_its_life(counted: Counted) -> None:
    add = counted.managers.add
    uids = [add(FOREVER, revision="web-a", image=IMAGE) for _ in range(TASKS)]
    started = await counted.until(lambda: counted.all_are(TaskState.RUNNING))
    assert started == {
        f"GET images/{quote(IMAGE, safe='')}/json": 1,
        "POST containers/create": TASKS,
        "POST containers/*/start": TASKS,
        "GET containers/*/json": TASKS,
    }

    for uid in uids:
        counted.managers.unwant(uid)
    stopped = await counted.until(lambda: counted.all_are(TaskState.SHUTDOWN))
    assert stopped == {"POST containers/*/stop": TASKS, "GET containers/*/json": TASKS}

    for uid in uids:
        counted.managers.delete(uid)
    assert await counted.rest() == {"DELETE containers/*": TASKS}


async def test_a_container_that_ends_by_itself_costs_one_look(counted: Counted) -> None:
    counted.managers.add("sleep 1; exit 0", image=IMAGE)
    await counted.until(lambda: counted.all_are(TaskState.RUNNING))
    ended = await counted.until(lambda: counted.all_are(TaskState.COMPLETE))
    assert ended == {"GET containers/*/json": 1}


async def test_nothing_is_asked_while_nothing_happens(counted: Counted) -> None:
    counted.managers.add(FOREVER, image=IMAGE)
    await counted.until(lambda: counted.all_are(TaskState.RUNNING))
    await asyncio.sleep(3)
    assert counted.relay.take() == []
