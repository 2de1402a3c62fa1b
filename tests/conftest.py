"""Every test ends clean, and none hangs.

- A coroutine test that leaves an asyncio task running fails, with the task's stack.
- A test session that leaves a child process running fails, with its command line.
- A test that takes longer than its time (`@pytest.mark.deadline(seconds)`, 60 by default and
  300 with a cluster) fails, after the stacks of all threads and all asyncio tasks are printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import inspect
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest

DEADLINE = 60.0  # seconds, for each of a test's set-up, call and tear-down
CLUSTER_DEADLINE = 300.0
SETTLE = 20  # turns of the loop that a cancelled task may take to end


@pytest.fixture(autouse=True)
def no_tasks_left(request: pytest.FixtureRequest) -> None:
    """Set up first, so torn down last: when all of the test's own fixtures are gone."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_tasks_watched")


@pytest.fixture
async def _tasks_watched() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(SETTLE):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        for task in left:
            task.print_stack(file=sys.stderr)
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        names = ", ".join(repr(task.get_coro()) for task in left)
        pytest.fail(f"asyncio tasks are still running after the test: {names}")


@pytest.fixture(scope="session", autouse=True)
def no_stray_loop() -> None:
    """looptime asks for the current loop in plain tests too; say that there is none, or asyncio
    makes one for it that nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session", autouse=True)
def no_processes_left() -> Iterator[None]:
    before = _children()
    yield
    left = {pid: line for pid, line in _children().items() if pid not in before}
    left = {pid: line for pid, line in left.items() if "multiprocessing" not in line}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        lines = "\n".join(f"  {pid} {line}" for pid, line in left.items())
        pytest.fail(f"processes are still running after the tests (killed now):\n{lines}")


def _children() -> dict[int, str]:
    """This process's children that run, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(entry) == os.getpid():
            line = _command_line(entry)
            if line:  # none: it has ended, and waits to be collected
                found[int(entry.name)] = line
    return found


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class _DeadlinePassed(BaseException):
    """Not an Exception, so that no `except Exception` in the code under test takes it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _deadline(item, "its set-up"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with _deadline(item, "it"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with _deadline(item, "its tear-down"):
        return (yield)


@contextlib.contextmanager
def _deadline(item: pytest.Item, what: str) -> Iterator[None]:
    mark = item.get_closest_marker("deadline")
    default = CLUSTER_DEADLINE if item.get_closest_marker("cluster") else DEADLINE
    seconds = float(mark.args[0]) if mark else default

    def passed(signum: int, frame: FrameType | None) -> None:
        sys.stderr.write(f"\n{item.nodeid}: {what} took longer than {seconds:g} s\n")
        _print_tasks()
        if threading.active_count() > 1:
            faulthandler.dump_traceback(sys.__stderr__ or 2)
        raise _DeadlinePassed(f"{what} took longer than {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, passed)
    # Again every few seconds: a task may have swallowed the first.
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _print_tasks() -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    for task in asyncio.all_tasks(loop):
        task.print_stack(file=sys.stderr)
