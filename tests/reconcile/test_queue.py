"""The work queue: once at a time, in order, as late and as seldom as asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from controllers.reconcile.queue import Backoff, WorkQueue

pytestmark = pytest.mark.looptime


@pytest.fixture
async def queue() -> AsyncIterator[WorkQueue[str]]:
    made: WorkQueue[str] = WorkQueue(backoff=Backoff(1, 8))
    yield made
    made.clear()


async def soon(queue: WorkQueue[str], seconds: float = 0.0) -> str | None:
    """The next key, if there is one within that time."""
    try:
        async with asyncio.timeout(seconds + 0.001):
            return await queue.get()
    except TimeoutError:
        return None


async def test_a_key_added_often_is_handed_out_once(queue: WorkQueue[str]) -> None:
    for _ in range(5):
        queue.add("a")
    assert await soon(queue) == "a"
    assert await soon(queue) is None


async def test_keys_leave_in_the_order_they_came(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "c"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]


async def test_a_key_is_not_handed_out_while_it_runs(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert await soon(queue, 100) is None
    queue.done("a")
    assert await soon(queue) == "a"
    queue.done("a")
    assert await soon(queue) is None


async def test_a_delayed_key_comes_at_its_time(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 10)
    assert await soon(queue, 9.9) is None
    assert await soon(queue, 0.2) == "a"


async def test_the_earliest_of_several_delays_counts(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 2)
    queue.add_after("a", 50)
    assert await soon(queue, 2.1) == "a"
    queue.done("a")
    assert await soon(queue, 100) is None


async def test_an_add_takes_the_place_of_a_delay(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    assert await soon(queue) == "a"
    queue.done("a")
    assert await soon(queue, 20) is None


async def test_retries_double_up_to_a_limit_until_forgotten(queue: WorkQueue[str]) -> None:
    delays = []
    for _ in range(6):
        delays.append(queue.retry("a"))
        assert await soon(queue, delays[-1]) == "a"
        queue.done("a")
    assert delays == [1, 2, 4, 8, 8, 8]
    assert queue.failing == 1
    queue.forget("a")
    assert queue.retry("a") == 1


async def test_a_key_rests_and_what_came_meanwhile_is_one() -> None:
    queue: WorkQueue[str] = WorkQueue(pace=lambda _key: 5.0)
    queue.add("a")
    assert await soon(queue) == "a"
    queue.done("a")
    queue.add("a")
    queue.add("a")
    assert len(queue) == 1
    assert await soon(queue, 4.9) is None
    assert await soon(queue, 0.2) == "a"
    queue.done("a")
    # A rest that nobody interrupted ends quietly, and the next add is served at once.
    await asyncio.sleep(6)
    queue.add("a")
    assert await soon(queue) == "a"
    queue.clear()


async def test_a_busy_key_does_not_starve_the_others(queue: WorkQueue[str]) -> None:
    queue.add("busy")
    queue.add("quiet")
    seen = []
    for _ in range(4):
        key = await queue.get()
        seen.append(key)
        queue.add("busy")
        queue.done(key)
    assert "quiet" in seen[:2]
