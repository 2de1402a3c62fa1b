"""A process started by the Engine inside a container, over a hijacked connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any

import aiodocker
import aiohttp
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from controllers.agent.drivers.contract import DriverError, LogLine
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.drivers.engine.processes import kill

_KNOWN_SECONDS, _KNOWN_WAIT = 5.0, 0.05  # until the engine knows a process that it has started


class EngineTerminal:
    def __init__(self, client: EngineClient, process: Exec, stream: Stream) -> None:
        self._client = client
        self._process = process
        self._stream = stream
        self._begun = False
        self._size: tuple[int, int] | None = None  # columns and lines, as asked for last

    async def output(self) -> AsyncGenerator[LogLine, None]:
        try:
            while True:
                message = await self._stream.read_out()
                if message is None:
                    return
                await self._size_again()
                yield LogLine(message.stream, message.data)
        except (aiodocker.DockerError, aiohttp.ClientError, OSError) as error:
            raise self._client.words(error) from error
        finally:
            await self.close()

    async def send(self, data: bytes) -> None:
        if self._connected():
            await self._stream.write_in(data)

    async def end_input(self) -> None:
        """The process reads its input's end; its output still comes."""
        response = self._stream._resp
        if self._connected() and response is not None and response.connection is not None:
            transport = response.connection.transport
            if transport is not None and transport.can_write_eof():
                transport.write_eof()

    async def resize(self, width: int, height: int) -> None:
        self._size = (width, height)
        await self._apply(width, height)

    async def _size_again(self) -> None:
        """With the first output: what was asked for before the process ran, the engine loses."""
        if not self._begun and self._size is not None:
            with contextlib.suppress(DriverError):  # it has ended already
                await self._apply(*self._size)
        self._begun = True

    async def _apply(self, width: int, height: int) -> None:
        await self._client.call(
            "POST", f"exec/{self._process.id}/resize", params={"w": str(width), "h": str(height)}
        )

    async def exit_code(self) -> int:
        answer = await self._client.call("GET", f"exec/{self._process.id}/json")
        return int(answer["ExitCode"] or 0)

    async def kill(self) -> None:
        answer = await self._known()
        if not answer["Running"] or kill(answer["Pid"], answer["ContainerID"]):
            return
        again = await self._client.call("GET", f"exec/{self._process.id}/json")
        if again["Running"]:
            raise DriverError(f"process {answer['Pid']} of the engine's machine is not to be found")

    async def _known(self) -> Any:
        """What the engine says of it. It passes on what a process prints a moment before it knows
        which process that is. Raises DriverError."""
        end = time.monotonic() + _KNOWN_SECONDS
        while True:
            answer = await self._client.call("GET", f"exec/{self._process.id}/json")
            if answer["Pid"] or not answer["Running"]:
                return answer
            if time.monotonic() > end:
                raise DriverError("the engine does not say which process it has started")
            await asyncio.sleep(_KNOWN_WAIT)

    async def close(self) -> None:
        self._stream._closed = True  # aiodocker's own close fails where the engine closed first
        if self._stream._resp is not None:
            self._stream._resp.close()

    def _connected(self) -> bool:
        response = self._stream._resp
        if response is None or response.connection is None or self._stream._closed:
            return False
        transport = response.connection.transport
        return transport is not None and not transport.is_closing()
