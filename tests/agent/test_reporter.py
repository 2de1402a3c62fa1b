"""Statuses on their way: the newest of each, in batches, until they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from api.client import ApiError, Unreachable
from api.types.assignment import Rejection, StatusReport, StatusResult
from api.types.task import TaskState, TaskStatus
from controllers.agent.reporter import Reporter

pytestmark = pytest.mark.looptime


class Line:
    """What reports go through: slow, broken or fine."""

    def __init__(self) -> None:
        self.batches: list[list[StatusReport]] = []
        self.tries = 0
        self.seconds = 0.0
        self.failure: Exception | None = None
        self.rejected: list[Rejection] = []

    async def send(self, reports: Sequence[StatusReport]) -> StatusResult:
        self.tries += 1
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        self.batches.append(list(reports))
        return StatusResult(rejected=self.rejected)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
async def reporter(line: Line) -> AsyncIterator[Reporter]:
    it = Reporter(line.send, batch=100)
    running = asyncio.create_task(it.run())
    yield it
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def report(uid: str, state: TaskState = TaskState.RUNNING) -> StatusReport:
    return StatusReport(namespace="default", name=uid, uid=uid, status=TaskStatus(state=state))


def said(line: Line) -> list[tuple[str, str]]:
    return [(each.uid, each.status.state) for batch in line.batches for each in batch]


async def test_what_is_said_at_once_goes_together(line: Line, reporter: Reporter) -> None:
    for number in range(250):
        reporter.report(report(f"{number}"))
    await reporter.delivered()
    assert [len(batch) for batch in line.batches] == [100, 100, 50]


async def test_only_the_newest_of_a_task_is_said(line: Line, reporter: Reporter) -> None:
    reporter.report(report("a", TaskState.PREPARING))
    reporter.report(report("b", TaskState.PREPARING))
    reporter.report(report("a", TaskState.RUNNING))
    await reporter.delivered()
    assert sorted(said(line)) == [("a", "Running"), ("b", "Preparing")]


async def test_a_task_that_starts_quickly_is_said_once(line: Line, reporter: Reporter) -> None:
    reporter.report(report("a", TaskState.PREPARING))
    await asyncio.sleep(0.1)
    reporter.report(report("a", TaskState.READY))
    await asyncio.sleep(0.1)
    reporter.report(report("a"))
    await reporter.delivered()
    assert said(line) == [("a", "Running")]


async def test_what_takes_its_time_is_said_on_the_way(line: Line, reporter: Reporter) -> None:
    reporter.report(report("a", TaskState.PREPARING))
    await asyncio.sleep(0.3)
    assert said(line) == [("a", "Preparing")]


async def test_news_takes_along_what_waits_and_does_not_wait_itself(
    line: Line, reporter: Reporter
) -> None:
    reporter.report(report("a", TaskState.PREPARING))
    reporter.report(report("b", TaskState.FAILED))
    await asyncio.sleep(0.05)
    assert sorted(said(line)) == [("a", "Preparing"), ("b", "Failed")]


async def test_while_much_happens_tasks_that_run_gather_and_those_that_end_do_not(
    line: Line, reporter: Reporter
) -> None:
    for number in range(20):
        reporter.report(report(f"{number}"))
        await asyncio.sleep(0.05)
    assert len(line.batches) < 12
    reporter.report(report("late"))
    reporter.report(report("0", TaskState.FAILED))
    await asyncio.sleep(0.03)
    assert said(line)[-2:] == [("late", "Running"), ("0", "Failed")]


async def test_progress_that_failed_is_news(line: Line, reporter: Reporter) -> None:
    ill = TaskStatus(state=TaskState.STARTING, error="health check failed")
    reporter.report(StatusReport(namespace="default", name="a", uid="a", status=ill))
    await asyncio.sleep(0.05)
    assert said(line) == [("a", "Starting")]


async def test_what_comes_while_a_batch_is_under_way_is_next(
    line: Line, reporter: Reporter
) -> None:
    line.seconds = 1
    reporter.report(report("a", TaskState.STARTING))
    await asyncio.sleep(0.5)
    reporter.report(report("a", TaskState.RUNNING))
    await reporter.delivered()
    assert said(line) == [("a", "Starting"), ("a", "Running")]


@pytest.mark.parametrize(
    "failure", [Unreachable("no manager answers"), ApiError({"message": "wait"}, code=503)]
)
async def test_what_was_not_taken_is_said_again(
    line: Line, reporter: Reporter, failure: Exception
) -> None:
    line.failure = failure
    reporter.report(report("a", TaskState.STARTING))
    reporter.report(report("b", TaskState.STARTING))
    await asyncio.sleep(600)
    assert line.tries < 200, "it waits longer each time"
    reporter.report(report("a", TaskState.RUNNING))
    line.failure = None
    await asyncio.sleep(10)
    assert sorted(said(line)) == [("a", "Running"), ("b", "Starting")]


async def test_an_older_word_never_follows_a_newer(line: Line, reporter: Reporter) -> None:
    line.failure, line.seconds = Unreachable("no manager answers"), 1
    reporter.report(report("a", TaskState.STARTING))
    await asyncio.sleep(0.5)  # it is on its way, and will fail
    reporter.report(report("a", TaskState.RUNNING))
    await asyncio.sleep(0.9)
    line.failure = None
    await reporter.delivered()
    assert said(line) == [("a", "Running")]


async def test_what_is_forgotten_is_not_said_even_after_a_failure(
    line: Line, reporter: Reporter
) -> None:
    line.failure, line.seconds = Unreachable("no manager answers"), 1
    reporter.report(report("a"))
    reporter.report(report("b"))
    await asyncio.sleep(0.5)
    reporter.forget("a")
    await asyncio.sleep(1)
    line.failure = None
    await reporter.delivered()
    assert said(line) == [("b", "Running")]


async def test_a_rejected_report_is_not_said_again(line: Line, reporter: Reporter) -> None:
    line.rejected = [Rejection(namespace="default", name="a", uid="a", reason="NotFound")]
    reporter.report(report("a"))
    await reporter.delivered()
    await asyncio.sleep(60)
    assert len(line.batches) == 1


async def test_a_report_that_managers_can_t_read_does_not_hold_up_the_others(
    line: Line,
) -> None:
    """A request that is refused as a whole is taken apart until the one to blame is alone."""
    send = line.send

    async def particular(reports: Sequence[StatusReport]) -> StatusResult:
        if any(each.uid == "bad" for each in reports):
            raise ApiError({"message": "items[3]: not a status", "reason": "Invalid"}, code=422)
        return await send(reports)

    reporter = Reporter(particular)
    running = asyncio.create_task(reporter.run())
    for uid in ("a", "bad", "b", "c"):
        reporter.report(report(uid))
    async with asyncio.timeout(600):
        await reporter.delivered()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sorted(uid for uid, _ in said(line)) == ["a", "b", "c"]
