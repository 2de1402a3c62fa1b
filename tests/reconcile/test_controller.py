"""The loop: every outcome, and that one key's trouble is its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from api.store.contract import Conflict, Unavailable
from controllers.reconcile.controller import DONE, After, Controller, GiveUp, Outcome
from controllers.reconcile.queue import Backoff

pytestmark = pytest.mark.looptime

Reconcile = Callable[[str], Awaitable[Outcome]]


@contextlib.asynccontextmanager
async def working(controller: Controller[str]) -> AsyncIterator[Controller[str]]:
    task = asyncio.create_task(controller.run())
    try:
        yield controller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Script:
    """A reconciler that does what it is told, one outcome a call, and notes when it was called."""

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.outcomes = list(outcomes)
        self.times: list[float] = []

    async def __call__(self, key: str) -> Outcome:
        self.times.append(asyncio.get_running_loop().time())
        outcome = self.outcomes.pop(0) if self.outcomes else DONE
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def run(script: Script, seconds: float = 100) -> list[float]:
    """Seconds after the first call at which it was called."""
    async with working(Controller("test", script, backoff=Backoff(1, 60))) as controller:
        controller.queue.add("a")
        await asyncio.sleep(seconds)
    return [round(time - script.times[0], 2) for time in script.times]


async def test_done_is_the_end() -> None:
    assert await run(Script(DONE)) == [0]


async def test_after_looks_again_then() -> None:
    assert await run(Script(After(7))) == [0, 7]


@pytest.mark.parametrize("error", [Conflict(["k"]), Unavailable("gone"), RuntimeError("a bug")])
async def test_errors_are_tried_again_with_backoff(error: Exception) -> None:
    assert await run(Script(error, error, error)) == [0, 1, 3, 7]


async def test_success_makes_the_next_failure_the_first() -> None:
    error = Conflict(["k"])
    assert await run(Script(error, error, After(10), error)) == [0, 1, 3, 13, 14]


async def test_giving_up_is_told_and_ends() -> None:
    told: list[tuple[str, str, str]] = []

    async def tell(key: str, why: GiveUp) -> None:
        told.append((key, why.reason, why.message))

    script = Script(GiveUp("InvalidSpec", "no such thing"))
    controller = Controller("test", script, given_up=tell)
    async with working(controller):
        controller.queue.add("a")
        await asyncio.sleep(100)
    assert told == [("a", "InvalidSpec", "no such thing")]
    assert len(script.times) == 1


async def test_giving_up_that_could_not_be_told_is_told_later() -> None:
    told = 0

    async def tell(_key: str, _why: GiveUp) -> None:
        nonlocal told
        told += 1
        if told == 1:
            raise Unavailable("gone")

    script = Script(GiveUp("InvalidSpec", "x"), GiveUp("InvalidSpec", "x"))
    controller = Controller("test", script, given_up=tell)
    async with working(controller):
        controller.queue.add("a")
        await asyncio.sleep(100)
    assert told == 2


async def test_a_key_that_fails_leaves_the_others_alone() -> None:
    done: list[str] = []

    async def reconcile(key: str) -> Outcome:
        if key == "bad":
            raise RuntimeError("a bug")
        done.append(key)
        return DONE

    async with working(Controller("test", reconcile, workers=1)) as controller:
        for key in ("bad", "a", "b"):
            controller.queue.add(key)
        await asyncio.sleep(1)
        assert done == ["a", "b"]
        assert controller.queue.failing == 1


async def test_no_more_workers_than_asked_for() -> None:
    busy = most = 0

    async def reconcile(_key: int) -> Outcome:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(1)
        busy -= 1
        return DONE

    controller: Controller[int] = Controller("test", reconcile, workers=3)
    task = asyncio.create_task(controller.run())
    for key in range(10):
        controller.queue.add(key)
    await asyncio.sleep(20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert most == 3
