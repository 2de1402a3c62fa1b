"""What both daemons need of a process: a directory of their own, parts that run beside them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from controllers.settings import Fatal

log = structlog.get_logger("skep")

_PR_SET_DUMPABLE = 4
_ROOM = 64 * 1024  # bytes; less is as good as none

RETRY = 1.0  # seconds between tries to reach what a daemon needs to start


def wall_clock() -> datetime:
    return datetime.now(UTC)


async def pause(stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), RETRY)


@contextlib.asynccontextmanager
async def background(
    work: Coroutine[Any, Any, None], name: str, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Run it beside the block. Should it end by itself, the daemon is told to stop."""
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("a part of the daemon ended", part=name, exc_info=task.exception())
            stop.set()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.remove_done_callback(ended)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: two daemons in one would undo each other's work. Raises Fatal."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable("data", data_dir, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(handle, 20, 0).decode().strip()
        os.close(handle)
        raise Fatal(f"the data directory {data_dir} is in use by process {owner}") from None
    try:
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            has_room(data_dir, "data")
        except OSError as error:
            raise _unusable("data", data_dir, error) from error
        yield
    finally:
        os.close(handle)


def has_room(directory: Path, what: str) -> None:
    """Make the directory (`what`: data | run) where it is missing. Raises Fatal where nothing can
    be kept in it: better said now than of the first secret."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(_ROOM))
            probe.flush()
    except OSError as error:
        raise _unusable(what, directory, error) from error


def _unusable(what: str, directory: Path, error: OSError) -> Fatal:
    return Fatal(
        f"the {what} directory {directory} can't be used: {error.strerror}; "
        f"make room there or have it writable, or give another with --{what}-dir"
    )


def keep_out_of_dumps() -> None:
    """A crash of this process writes no memory to disk: there are secrets in it.

    Not its children's either, as a limit is inherited; nor to a program that takes dumps, which
    heeds only the flag.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the process can't be kept out of core dumps")
