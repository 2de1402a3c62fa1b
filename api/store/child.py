"""A child process that never outlives this one, and is found again if it did all the same.

The kernel kills it when the thread that started it ends, however that ends (PR_SET_PDEATHSIG),
so start it from a thread that lives as long as the program: the main one. The signal is set by a
few lines of Python that then become the child; setting it between fork and exec from here would
not be safe, with the threads that gRPC runs.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_LAUNCH = """
import ctypes, os, sys
parent, program, *arguments = sys.argv[1:]
PR_SET_PDEATHSIG, SIGKILL = 1, 9
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0):
    sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
if os.getppid() != int(parent):
    sys.exit("the parent has ended already")
os.execv(program, [program, *arguments])
"""


async def start(
    command: Sequence[str], *, output: IO[bytes], env: Mapping[str, str], pid_file: Path
) -> asyncio.subprocess.Process:
    """Run `command` (an absolute path and arguments), in a session of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command,
        stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=dict(env),
        start_new_session=True,
    )  # fmt: skip
    await asyncio.to_thread(pid_file.write_text, f"{process.pid}\n")
    return process


async def stop(process: asyncio.subprocess.Process, *, grace: float) -> None:
    """Ask it to end, and after `grace` seconds make it."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def end_stale(pid_file: Path, marker: str, *, grace: float) -> int:
    """End the process that an earlier run left behind; its pid, or 0 if there is none.

    It is that process only if `marker` is in its command line: pids are used again.
    """
    try:
        pid = int(pid_file.read_text())
        handle = os.pidfd_open(pid)
    except (OSError, ValueError):
        return 0
    try:
        if marker not in _command_line(pid):
            return 0
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if _ended(handle, seconds):
                break
        return pid
    finally:
        os.close(handle)


def _ended(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
