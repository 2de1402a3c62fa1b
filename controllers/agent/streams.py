"""Logs and exec for clients far away: the agent dials back and serves one stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import datetime

import msgspec
import structlog

from api.client import ClientError
from api.types.assignment import CLOSE, RESIZE, STATUS, STDIN, StreamRequest
from controllers.agent.drivers.contract import Driver, DriverError, LogLine, NotFound, Terminal
from controllers.agent.managers import Managers, Pipe

_MOST = 200  # streams at a time
# How long a process started by hand may go on printing for nobody. The Engine can't end it: what
# doesn't read its input's end stays in its container.
_LEFT_ALONE_SECONDS = 10.0

_log = structlog.get_logger("skep.agent.streams")


class Streams:
    def __init__(self, client: Managers, driver: Driver, node: str) -> None:
        self._client = client
        self._driver = driver
        self._node = node
        self._open: set[asyncio.Task[None]] = set()

    def serve(self, request: StreamRequest) -> None:
        """Answer a request in the background. Past the bound it is left to time out."""
        if len(self._open) >= _MOST:
            _log.warning("a stream was not served: too many are open", open=len(self._open))
            return
        task = asyncio.create_task(self._serve(request))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, request: StreamRequest) -> None:
        try:
            pipe = await self._client.dial_stream(self._node, request.id)
            try:
                if request.verb == "exec":
                    await self._exec(request, pipe)
                else:
                    await self._log(request, pipe)
            except DriverError as error:
                await pipe.send(STATUS, _failure(error))
            finally:
                await pipe.close()
        except (ClientError, ConnectionError) as error:
            _log.info("a stream ended early", verb=request.verb, why=str(error))
        except Exception:  # a bug; its client hears that the stream broke off
            _log.exception("a stream failed", verb=request.verb, task=request.task_uid)

    async def _log(self, request: StreamRequest, pipe: Pipe) -> None:
        lines = self._driver.logs(
            request.task_uid,
            follow=request.follow,
            tail=None if request.tail < 0 else request.tail,
            since=datetime.fromisoformat(request.since) if request.since else None,
            timestamps=request.timestamps,
        )
        gone = asyncio.create_task(_until_closed(pipe))
        copy = asyncio.create_task(_copy(lines, pipe))
        try:
            await asyncio.wait({gone, copy}, return_when=asyncio.FIRST_COMPLETED)
            if copy.done():
                copy.result()
                await pipe.send(STATUS, _success())
        finally:
            for task in (gone, copy):
                task.cancel()
            await asyncio.gather(gone, copy, return_exceptions=True)

    async def _exec(self, request: StreamRequest, pipe: Pipe) -> None:
        terminal = await self._driver.exec(
            request.task_uid, request.command, tty=request.tty, stdin=request.stdin
        )
        feeding = asyncio.create_task(_feed(pipe, terminal))
        copying = asyncio.create_task(_copy(terminal.output(), pipe))
        try:
            await asyncio.wait({feeding, copying}, return_when=asyncio.FIRST_COMPLETED)
            if not copying.done():  # its client has gone; it may still end by itself
                await asyncio.wait({copying}, timeout=_LEFT_ALONE_SECONDS)
            if copying.done():
                copying.result()
                await pipe.send(STATUS, _exited(await terminal.exit_code()))
        finally:
            for task in (feeding, copying):
                task.cancel()
            await asyncio.gather(feeding, copying, return_exceptions=True)


async def _copy(lines: AsyncGenerator[LogLine, None], pipe: Pipe) -> None:
    async with contextlib.aclosing(lines):
        async for line in lines:
            await pipe.send(line.stream, line.data)


async def _until_closed(pipe: Pipe) -> None:
    async for _ in pipe.frames():
        pass


async def _feed(pipe: Pipe, terminal: Terminal) -> None:
    """The client's frames into the process, until the client goes."""
    async for channel, data in pipe.frames():
        if channel == STDIN:
            await terminal.send(data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            await terminal.end_input()
        elif channel == RESIZE:
            with contextlib.suppress(DriverError, msgspec.MsgspecError):  # a wrong size is no harm
                size = msgspec.json.decode(data, type=_Size)
                await terminal.resize(size.width, size.height)
    with contextlib.suppress(DriverError):  # it has ended already
        await terminal.end_input()


class _Size(msgspec.Struct, rename="pascal"):
    width: int
    height: int


def _success() -> bytes:
    return msgspec.json.encode({"metadata": {}, "status": "Success"})


def _exited(code: int) -> bytes:
    """As Kubernetes' v5.channel.k8s.io says a process's exit code."""
    if code == 0:
        return _success()
    status: dict[str, object] = {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with exit code {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
    return msgspec.json.encode(status)


def _failure(error: DriverError) -> bytes:
    missing = isinstance(error, NotFound)
    status: dict[str, object] = {
        "metadata": {},
        "status": "Failure",
        "reason": "NotFound" if missing else "BadRequest",
        "message": str(error),
        "code": 404 if missing else 400,
    }
    return msgspec.json.encode(status)
