"""Files made from secrets, as the agent asks for them.

The texts are users', so they are rendered in a process of their own: see `renderer`, which is
started with the first of them and ends when none has come for a while.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from controllers.agent.files import Trouble

_IDLE_SECONDS = 30.0
_AT_ONCE = 4
# The child ends itself long before; this is for a machine that stands still.
_PATIENCE_SECONDS = 30.0
_MOST_BYTES = 4 * 1024 * 1024


class _Process(NamedTuple):
    control: socket.socket
    process: asyncio.subprocess.Process

    def ends(self) -> None:
        self.control.close()  # which it takes as its end


class Renderer:
    def __init__(self) -> None:
        self._process: _Process | None = None
        self._starting = asyncio.Lock()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._busy = 0
        self._idle: asyncio.TimerHandle | None = None
        self._ended: set[asyncio.Task[int]] = set()

    async def render(
        self,
        content: str,
        secrets: Mapping[str, Mapping[str, bytes]],
        fields: Mapping[str, str | int],
    ) -> bytes:
        """The file's bytes. Raises Trouble, whose words hold names and never a value."""
        request = msgspec.msgpack.encode({"content": content, "secrets": secrets, "fields": fields})
        self._busy += 1
        try:
            async with self._turns:
                for _ in range(2):  # the process may have been killed since the last time
                    answer = await self._ask(request)
                    if answer:
                        return _data(answer)
            raise Trouble("the process that renders it ended at once; see the node's memory")
        finally:
            self._busy -= 1
            self._rest()

    async def close(self) -> None:
        self._end()
        await asyncio.gather(*self._ended)

    async def _ask(self, request: bytes) -> bytes:
        """What the child said: that it began, and its reply; empty: there was no child."""
        known = await self._running()
        mine, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(known.control, [b"."], [theirs.fileno()])
            except OSError:  # it was killed
                mine.close()
                self._give_up(known)
                return b""
        reader, writer = await asyncio.open_connection(sock=mine, limit=_MOST_BYTES)
        begun = b""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                begun = await reader.read(1)
                if begun:
                    writer.write(request)
                    await writer.drain()
                    writer.write_eof()
                    return begun + await reader.read(-1)
        except (ConnectionError, TimeoutError):  # it was ended in the midst
            pass
        finally:
            writer.close()
        if not begun:
            self._give_up(known)
        return begun

    async def _running(self) -> _Process:
        async with self._starting:
            known = self._process
            if known is None or known.process.returncode is not None:
                self._end()
                known = self._process = await _start()
            return known

    def _rest(self) -> None:
        """End the process when nothing is asked of it for a while."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._process is not None and not self._busy:
            self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end)

    def _give_up(self, known: _Process) -> None:
        if self._process is known:
            self._end()

    def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._process is not None:
            self._process.ends()
            wait = asyncio.create_task(self._process.process.wait())
            self._ended.add(wait)
            wait.add_done_callback(self._ended.discard)
            self._process = None


async def _start() -> _Process:
    mine, theirs = socket.socketpair()
    with theirs:
        # Nothing of the agent's environment but where Python's packages are.
        environment = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "controllers.agent.renderer", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
        )
    return _Process(mine, process)


def _data(answer: bytes) -> bytes:
    """Raises Trouble."""
    from controllers.agent import renderer

    if answer == renderer.BEGUN:
        raise Trouble(
            f"takes more than {renderer.CPU_SECONDS} s or {renderer.MEMORY >> 20} MiB to render"
        )
    reply = renderer.REPLY.decode(answer[len(renderer.BEGUN) :])
    if reply.trouble:
        raise Trouble(reply.trouble)
    return reply.data
