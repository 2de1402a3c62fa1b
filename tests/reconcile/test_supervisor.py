"""The supervisor: what crashes comes back, and everybody can see that it did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from controllers.reconcile.queue import Backoff
from controllers.reconcile.supervisor import Named, Supervisor

pytestmark = pytest.mark.looptime


def clock() -> datetime:
    seconds = asyncio.get_running_loop().time()
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


@contextlib.asynccontextmanager
async def supervised(*components: Named) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(components, clock=clock, backoff=Backoff(1, 8), healthy=60)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def forever() -> None:
    await asyncio.Event().wait()


async def test_what_runs_is_reported() -> None:
    async with supervised(Named("steady", forever)) as supervisor:
        await asyncio.sleep(5)
        assert supervisor.report() == [
            {
                "name": "steady", "state": "Running", "since": "2026-01-01T00:00:00Z",
                "restarts": 0, "lastError": "", "message": "",
            }
        ]  # fmt: skip
    assert supervisor.report()[0]["state"] == "Stopped"


async def test_a_crash_is_restarted_and_its_neighbour_never_notices() -> None:
    starts: list[float] = []

    async def crash_twice() -> None:
        starts.append(asyncio.get_running_loop().time())
        if len(starts) <= 2:
            raise ValueError("a bug")
        await forever()

    async with supervised(Named("shaky", crash_twice), Named("steady", forever)) as supervisor:
        await asyncio.sleep(0.5)
        shaky, steady = supervisor.report()
        assert (shaky["state"], shaky["lastError"]) == ("Restarting", "ValueError: a bug")
        await asyncio.sleep(30)
        shaky, steady = supervisor.report()
        assert (shaky["state"], shaky["restarts"]) == ("Running", 2)
        assert (steady["restarts"], steady["since"]) == (0, "2026-01-01T00:00:00Z")
    assert [round(start - starts[0]) for start in starts] == [0, 1, 3]


async def test_a_component_that_ends_is_restarted_too() -> None:
    async def ends() -> None:
        return

    async with supervised(Named("short", ends)) as supervisor:
        await asyncio.sleep(20)
        report = supervisor.report()[0]
        assert report["restarts"] == 5  # after 1, 2, 4, 8, 8 seconds
        assert report["lastError"] == "it ended by itself"


async def test_a_long_good_run_makes_the_next_crash_the_first() -> None:
    starts: list[float] = []

    async def every_minute() -> None:
        starts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(61)
        raise RuntimeError

    async with supervised(Named("c", every_minute)):
        await asyncio.sleep(200)
    assert [round(start - starts[0]) for start in starts] == [0, 62, 124, 186]


async def test_the_error_inside_a_group_is_what_is_told() -> None:
    async def nested() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            raise KeyError("x")

    async with supervised(Named("c", nested)) as supervisor:
        await asyncio.sleep(0.1)
        assert supervisor.report()[0]["lastError"] == "KeyError: 'x'"


async def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match="names"):
        Supervisor([Named("a", forever), Named("a", forever)], clock=clock)
