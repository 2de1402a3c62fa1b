"""Values that a program prints: one that the operator has named, with words that nobody can change.

It runs without a shell, in a session of its own that is killed whole when it takes too long or
prints too much, with an environment that holds nothing of the manager's. What it prints to stderr
is thrown away: programs complain with what they have at hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import msgspec

from api.types.quantity import parse_duration
from controllers.fetcher.contract import MOST_BYTES, FetchError, Wanted
from controllers.fetcher.definitions import Program
from controllers.fetcher.values import from_json

_END_SECONDS = 5.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Command:
    trouble = ""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def fetch(self, wanted: Wanted) -> dict[str, bytes]:
        if wanted.path or wanted.version:
            raise FetchError("a command takes no path and no version: remove them")
        printed = await self._printed(wanted)
        match self._program.format:
            case "json":
                try:
                    return from_json(msgspec.json.decode(printed))
                except (msgspec.DecodeError, ValueError):
                    raise FetchError("its command did not print one JSON object") from None
            case "text":
                return {self._program.key: printed.removesuffix(b"\n").removesuffix(b"\r")}
        return {self._program.key: printed}

    async def close(self) -> None:
        return None

    async def _printed(self, wanted: Wanted) -> bytes:
        environment = {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "SKEP_NAMESPACE": wanted.namespace,
            "SKEP_SECRET": wanted.name,
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *self._program.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise FetchError(f"its command can't be started: {error.strerror}") from None
        try:
            async with asyncio.timeout(parse_duration(self._program.timeout)):
                printed = await _bounded(process)
                code = await process.wait()
        except TimeoutError:
            took = self._program.timeout
            raise FetchError(f"its command did not end within {took}, and was killed") from None
        finally:
            await _end(process)
        if code:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            raise FetchError(
                f"its command failed with {how}; what it said is not shown, since it may hold"
                " secrets: run it by hand on the manager"
            )
        return printed


async def _bounded(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise FetchError("its command has no output")
    parts = bytearray()
    while chunk := await process.stdout.read(1 << 16):
        parts += chunk
        if len(parts) > MOST_BYTES:
            raise FetchError("its command printed more than a secret can hold, and was killed")
    return bytes(parts)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it is left, children included."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # asyncio says that it ended when its pipe did, and a full pipe does not end unread. One that a
    # child in another session holds open never does.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            while process.stdout is not None and await process.stdout.read(1 << 16):
                pass
            await process.wait()
