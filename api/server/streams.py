"""Logs and exec: a client on one side, an agent on the other, the server a pipe between them.

The agent can't be reached, it only dials out: so it is asked, on its assignment stream, to dial a
WebSocket under an id that nobody can guess; what it then sends and gets is passed through, frame
by frame, with the back pressure of both connections. Frames begin with a channel byte, see
`api.types.assignment`. The one who asked says who may answer: only the node of the task.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from api.server import status
from api.server.assignments import Assignments
from api.store.cache import Cache, Item
from api.types.assignment import STATUS, STDERR, STDOUT, StreamRequest
from api.types.kinds import NODE, TASK
from api.types.task import Task, TaskState

DIAL_SECONDS = 10.0
FRAME_BYTES = 4 * 1024 * 1024
PING_SECONDS = 20.0
V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"  # the same, but that stdin can't be closed

_CONTAINER = frozenset({TaskState.STARTING, TaskState.RUNNING})


class _Dial:
    """An agent expected to dial: its end, and when the pipe is done with it."""

    def __init__(self, node: str) -> None:
        loop = asyncio.get_running_loop()
        self.node = node
        self.arrived: asyncio.Future[web.WebSocketResponse] = loop.create_future()
        self.done = asyncio.Event()


class Streams:
    """Pipes between clients and agents."""

    def __init__(self, cache: Cache, assignments: Assignments) -> None:
        self._cache = cache
        self._assignments = assignments
        self._dials: dict[str, _Dial] = {}

    @property
    def count(self) -> int:
        return len(self._dials)

    # The agent's side

    async def dialled(self, request: web.Request, node: str, id: str) -> web.StreamResponse:
        """An agent that was asked to. Raises Failure 404 for one that was not."""
        dial = self._dials.get(id)
        if dial is None or dial.node != node or dial.arrived.done():
            raise status.Failure(404, "NotFound", "nobody waits for this stream any more")
        socket = web.WebSocketResponse(
            max_msg_size=FRAME_BYTES, heartbeat=PING_SECONDS, compress=False
        )
        await socket.prepare(request)
        if not dial.arrived.done():
            dial.arrived.set_result(socket)
            await dial.done.wait()
        await socket.close()
        return socket

    # The client's side

    async def log(
        self, request: web.Request, item: Item, wanted: StreamRequest, limit: int = 0
    ) -> web.StreamResponse:
        """A task's output, as it is; at most `limit` bytes of it (0: all). Raises Failure."""
        left = limit or sys.maxsize
        self._require_placed(item)
        async with self._dialled(item, wanted) as agent:
            frames = _frames(agent)
            first = await anext(frames, None)
            if first is not None and first[:1] == bytes([STATUS]):
                _raise_failure(first[1:])
            response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            ended = False
            frame = first
            while frame is not None:
                if frame[0] in (STDOUT, STDERR):
                    await response.write(frame[1 : left + 1])
                    left -= len(frame) - 1
                    if left <= 0:
                        ended = True
                        break
                elif frame[0] == STATUS:
                    ended = _succeeded(frame[1:])
                    break
                frame = await anext(frames, None)
            if not ended and request.transport is not None:
                # The node went away: an end without the end of the chunks says that it is none.
                request.transport.abort()
            return response

    async def exec(
        self, request: web.Request, item: Item, wanted: StreamRequest
    ) -> web.StreamResponse:
        """A process in a task's container, on the client's WebSocket. Raises Failure."""
        self._require_running(item)
        client = web.WebSocketResponse(
            protocols=(V5, V4), max_msg_size=FRAME_BYTES, heartbeat=PING_SECONDS, compress=False
        )
        if not client.can_prepare(request).ok:
            raise status.bad_request("exec needs a WebSocket with the protocol v5.channel.k8s.io")
        async with self._dialled(item, wanted) as agent:
            await client.prepare(request)
            await _pipe(client, agent)
        return client

    def _require_placed(self, item: Item) -> None:
        task: Task = item.obj
        if not task.spec.node:
            why = task.status.message or "it waits for a node"
            raise status.bad_request(
                f"task {item.namespace}/{item.name} has no output yet: it is"
                f" {task.status.state} ({why})"
            )

    def _require_running(self, item: Item) -> None:
        self._require_placed(item)
        state = item.obj.status.state
        if state not in _CONTAINER:
            raise status.bad_request(
                f"task {item.namespace}/{item.name} has no running container: it is {state}"
            )

    @contextlib.asynccontextmanager
    async def _dialled(
        self, item: Item, wanted: StreamRequest
    ) -> AsyncIterator[web.WebSocketResponse]:
        """The agent's end of a new stream. Raises Failure where the node doesn't come."""
        node = item.obj.spec.node
        id = secrets.token_urlsafe(24)
        dial = _Dial(node)
        self._dials[id] = dial
        request = msgspec.structs.replace(wanted, id=id, task_uid=item.obj.metadata.uid)
        try:
            if not self._assignments.ask(node, request):
                raise status.unavailable(self._absent(node))
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    socket = await dial.arrived
            except TimeoutError:
                raise status.unavailable(
                    f"node {node} did not answer within {DIAL_SECONDS:.0f} s"
                ) from None
            yield socket
        finally:
            del self._dials[id]
            dial.done.set()
            dial.arrived.cancel()

    def _absent(self, node: str) -> str:
        if self._cache.get(NODE, "", node) is None:
            return f"node {node} is no longer part of the cluster"
        return f"node {node} is not connected, so its containers can't be reached now"


def item_of_task(cache: Cache, namespace: str, name: str) -> Item:
    """Raises Failure 404."""
    item = cache.get(TASK, namespace, name)
    if item is None:
        raise status.not_found(TASK, namespace, name)
    return item


async def _frames(socket: web.WebSocketResponse) -> AsyncIterator[bytes]:
    async for message in socket:
        if message.type is WSMsgType.BINARY and message.data:
            yield message.data
        elif message.type is WSMsgType.TEXT and message.data:  # as Kubernetes' Python client does
            yield message.data.encode()


async def _pipe(client: web.WebSocketResponse, agent: web.WebSocketResponse) -> None:
    """Pass frames both ways until either end closes; the other end is closed then."""

    async def pass_on(source: web.WebSocketResponse, sink: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):  # its reader has gone: that ends the pipe
            async for frame in _frames(source):
                await sink.send_bytes(frame)

    ways = [
        asyncio.create_task(pass_on(agent, client)),
        asyncio.create_task(pass_on(client, agent)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await client.close()


def _raise_failure(frame: bytes) -> None:
    said = _status(frame)
    if said.get("status") != "Success":
        code = said.get("code")
        raise status.Failure(
            code if isinstance(code, int) and 400 <= code < 600 else 500,
            str(said.get("reason") or "InternalError"),
            str(said.get("message") or "the node could not read the log"),
        )


def _succeeded(frame: bytes) -> bool:
    return _status(frame).get("status") == "Success"


def _status(frame: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(frame)
    except msgspec.DecodeError:
        return {}
    return said if isinstance(said, dict) else {}
