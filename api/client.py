"""The async client: what the agent knows of a manager, and `ctl` where it watches and streams.

What is asked in one request is in `api.calls`; here is what is held open, and the agent's side.
Several managers may be given: the client stays with one and goes to the next when that does not
answer.

Errors are those of `api.rest`.

What is safe to repeat is repeated while `patience` lasts: anything where no connection came
about; reads, and writes that may be done twice, where the manager was busy (429, 503) or the
connection broke.
"""

from __future__ import annotations

import asyncio
import io
import math
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, unquote

import aiohttp
import msgspec
from aiohttp import WSMsgType
from yarl import URL

from api.calls import ACCEPT, Calls, Request
from api.calls import ApplyResult as ApplyResult
from api.rest import (
    BASE,
    BUSY,
    PATIENCE,
    distrust,
    given,
    hung_up,
    not_reached,
    object_path,
    refusal,
)
from api.rest import ApiError as ApiError
from api.rest import ClientError as ClientError
from api.rest import Listing as Listing
from api.rest import Unreachable as Unreachable
from api.rest import Untrusted as Untrusted
from api.types.assignment import (
    CLOSE,
    RESIZE,
    STATUS_HEADER,
    STDIN,
    Assignments,
    ImageAgreed,
    ImageFound,
    SessionReply,
    SessionRequest,
    StatusReport,
    StatusReports,
    StatusResult,
)
from api.types.join import RENEW_HEADER, Sign
from api.types.kinds import Kind

Document = dict[str, Any]
T = TypeVar("T")

EXEC_PROTOCOL = "v5.channel.k8s.io"
_CONNECT_SECONDS = 5.0
# A manager that hangs must leave time to reach another before the session's three periods are over.
_BEAT_SECONDS = 4.0
_QUIET_WATCH_SECONDS = 90.0  # managers say where they are every 30 s
_QUIET_NODE_SECONDS = 30.0  # managers say that they live every 10 s
_FIRST_WAIT = 0.1
_LAST_WAIT = 2.0
_FRAME_BYTES = 4 * 1024 * 1024
_LARGE = 1024 * 1024  # bytes


class WatchEvent(NamedTuple):
    type: str  # ADDED | MODIFIED | DELETED
    object: Document


class Pipe:
    """The frames of a log or exec: a channel and bytes each. See `api.types.assignment`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, channel: int, data: bytes) -> None:
        """Raises ConnectionError when the other end has gone."""
        await self._socket.send_bytes(bytes([channel]) + data)

    async def end_input(self) -> None:
        """No more bytes for stdin."""
        await self._socket.send_bytes(bytes([CLOSE, STDIN]))

    async def resize(self, width: int, height: int) -> None:
        await self.send(RESIZE, msgspec.json.encode({"Width": width, "Height": height}))

    async def frames(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Channel and bytes, until the other end closes or goes."""
        async for message in self._socket:
            if message.type is WSMsgType.BINARY and message.data:
                yield message.data[0], message.data[1:]

    async def close(self) -> None:
        await self._socket.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Client(Calls):
    """One identity's connections to the managers at `servers` (https URLs). Use `async with`."""

    def __init__(
        self, servers: str | Sequence[str], tls: ssl.SSLContext, *, patience: float = PATIENCE
    ) -> None:
        urls = [servers] if isinstance(servers, str) else list(servers)
        self._servers = [_checked(url) for url in urls]
        if not self._servers:
            raise ClientError("no manager's address is given")
        self._at = 0
        self._tls = tls
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            auto_decompress=True,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def use(self, tls: ssl.SSLContext) -> None:
        """For connections that are made from now on; those that are open go on as they are."""
        self._tls = tls

    @property
    def server(self) -> str:
        """The manager in use."""
        return str(self._servers[self._at]).rstrip("/")

    # Watching

    async def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after a version ("": what there is first, as ADDED), for ever.

        Where the connection ends it goes on from the last version it knows; where that is too
        old it lists anew and tells the difference to what it had told. Raises ApiError, and
        Unreachable when no manager has answered for as long as patience lasts.
        """
        query = given(labelSelector=label_selector, fieldSelector=field_selector)
        query["allowWatchBookmarks"] = "true"
        known: dict[tuple[str, str], Document] = {}
        version = resource_version
        while True:
            at = query | {"watch": "true"} | given(resourceVersion=version)
            try:
                async with aclosing(self._watched(object_path(kind, namespace), at)) as events:
                    async for event in events:
                        metadata = event.object["metadata"]
                        version = metadata.get("resourceVersion", version)
                        if event.type != "BOOKMARK":
                            _remember(known, event)
                            yield event
            except ApiError as error:
                if error.code != 410:
                    raise
                version = ""
            if not version:
                listing = await self.list(
                    kind, namespace, label_selector=label_selector, field_selector=field_selector
                )
                for event in _difference(known, listing.items):
                    _remember(known, event)
                    yield event
                version = listing.resource_version

    async def _watched(
        self, path: str, query: Mapping[str, str]
    ) -> AsyncGenerator[WatchEvent, None]:
        """One connection's events; it ends when the connection does. Raises ApiError."""
        response = await self._open("GET", path, query=query, quiet=_QUIET_WATCH_SECONDS)
        async with _held(response), aclosing(_lines(response)) as lines:
            async for line in lines:
                event = msgspec.json.decode(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"])
                yield WatchEvent(event["type"], event["object"])

    # Logs and exec

    async def logs(
        self,
        namespace: str,
        task: str,
        *,
        follow: bool = False,
        tail: int = -1,
        since: str = "",
        timestamps: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """A task's output as it comes. `since` is RFC 3339. Raises ApiError, Unreachable."""
        query = given(
            follow="true" if follow else "",
            tail=str(tail) if tail >= 0 else "",
            since=since,
            timestamps="true" if timestamps else "",
        )
        path = f"{BASE}/namespaces/{quote(namespace)}/tasks/{quote(task)}/log"
        response = await self._open("GET", path, query=query, quiet=None)
        async with _held(response):
            try:
                async for part in response.content.iter_any():
                    yield part
            except (aiohttp.ClientError, OSError) as error:
                raise Unreachable(
                    f"the output of task {namespace}/{task} broke off: its node or the manager"
                    " went away"
                ) from error

    @asynccontextmanager
    async def exec(
        self,
        namespace: str,
        task: str,
        command: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> AsyncIterator[Pipe]:
        """A process in the task's container. Its last frame (channel 3) is a Status."""
        query = [("command", word) for word in command]
        query += [("tty", "true")] if tty else []
        query += [("stdin", "true")] if stdin else []
        path = f"{BASE}/namespaces/{quote(namespace)}/tasks/{quote(task)}/exec"
        pipe = await self._dial(path, query, protocols=(EXEC_PROTOCOL,))
        async with pipe:
            yield pipe

    # The agent's side

    async def open_session(self, node: str, request: SessionRequest) -> SessionReply:
        """Say what the machine is; also to say that it has changed. Raises ApiError."""
        body = msgspec.json.encode(request)
        raw = await self._bytes(
            "POST", _node(node, "session"), body=body, patience=0, seconds=_BEAT_SECONDS
        )
        return msgspec.json.decode(raw, type=SessionReply)

    async def heartbeat(self, node: str) -> Sign:
        """Raises ApiError 410 where the session has ended: open a new one."""
        raw = await self._bytes(
            "POST", _node(node, "heartbeat"), body=b"{}", patience=0, seconds=_BEAT_SECONDS
        )
        return msgspec.json.decode(raw, type=Sign)

    async def assignments(self, node: str) -> AsyncGenerator[Assignments, None]:
        """What the node is to do; ends when the connection does. Raises ApiError, Unreachable."""
        response = await self._open(
            "GET", _node(node, "assignments"), quiet=_QUIET_NODE_SECONDS, patience=0
        )
        decoder = msgspec.json.Decoder(Assignments)
        async with _held(response), aclosing(_lines(response)) as lines:
            async for line in lines:
                yield decoder.decode(line)

    async def report(self, node: str, reports: Sequence[StatusReport]) -> StatusResult:
        """When it returns, all but what was rejected is stored. Report again after an error."""
        body = msgspec.json.encode(StatusReports(items=[*reports]))
        raw = await self._bytes("POST", _node(node, "statuses"), body=body, patience=0)
        return msgspec.json.decode(raw, type=StatusResult)

    async def agree_on_image(self, node: str, found: ImageFound) -> ImageAgreed:
        """Raises ApiError 404 where the node has no task of that revision, and 403 from a manager
        of an earlier version."""
        body = msgspec.json.encode(found)
        raw = await self._bytes("POST", _node(node, "images"), body=body, patience=0)
        return msgspec.json.decode(raw, type=ImageAgreed)

    async def dial_stream(self, node: str, id: str) -> Pipe:
        """Answer a `stream` message: the agent's end of a log or exec. Close it when done."""
        return await self._dial(f"{_node(node, 'streams')}/{quote(id)}", [])

    # Requests

    async def _carry(self, request: Request) -> bytes:
        async def once() -> bytes:
            async with await self._send(request) as response:
                return await response.read()

        return await self._patiently(once, request.repeatable, request.patience)

    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        quiet: float | None,
        patience: float | None = None,
    ) -> aiohttp.ClientResponse:
        """A response that is held open; broken when nothing came for `quiet` seconds."""
        request = Request(method, path, query or {}, None, ACCEPT, True, math.inf, patience)
        return await self._patiently(lambda: self._send(request, quiet), True, patience)

    async def _send(self, request: Request, quiet: float | None = None) -> aiohttp.ClientResponse:
        body, seconds = request.body, request.seconds
        response = await self._connected().request(
            request.method,
            self._url(request.path),
            params=request.query,
            data=io.BytesIO(body) if body and len(body) > _LARGE else body,  # in pieces
            headers=request.headers,
            ssl=self._tls,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None if seconds == math.inf else seconds,
                sock_connect=_CONNECT_SECONDS,
                sock_read=quiet,
            ),
        )
        self.told_to_renew = self.told_to_renew or RENEW_HEADER in response.headers
        if response.status >= 400:
            async with response:
                raise await _refusal(response)
        return response

    async def _dial(
        self, path: str, query: Sequence[tuple[str, str]], *, protocols: Sequence[str] = ()
    ) -> Pipe:
        url = self._url(path).with_query(query)
        try:
            socket = await self._connected().ws_connect(
                url, ssl=self._tls, protocols=protocols, max_msg_size=_FRAME_BYTES, heartbeat=20.0
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _handshake_refusal(error) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error
        return Pipe(socket)

    async def _patiently(
        self, once: Callable[[], Awaitable[T]], repeatable: bool, patience: float | None
    ) -> T:
        """Do it, again where that is safe, at the next manager where this one is not there."""
        loop = asyncio.get_running_loop()
        end = loop.time() + (self._patience if patience is None else patience)
        wait = _FIRST_WAIT
        untried = len(self._servers)
        while True:
            try:
                return await once()
            except ApiError as error:
                if error.code not in BUSY or not repeatable:
                    raise
                failure: ClientError = error
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = self._unreachable(error)
                failure.__cause__ = error
                sent = not isinstance(error, aiohttp.ClientConnectorError)
                if isinstance(failure, Untrusted) or (sent and not repeatable):
                    raise failure from error
                self._at = (self._at + 1) % len(self._servers)
            untried -= 1
            if untried > 0:
                continue
            if loop.time() + wait > end:
                raise failure
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
            wait = min(2 * wait, _LAST_WAIT)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise ClientError("the client is closed; use it within `async with`")
        return self._session

    def _url(self, path: str) -> URL:
        return self._servers[self._at].join(URL(path, encoded=True))

    def _unreachable(self, error: Exception) -> Unreachable:
        where = self.server
        cause: Exception = error
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            cause = error.certificate_error
        trust = distrust(cause)
        if trust:
            return Untrusted(f"{where}: {trust}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return not_reached(where, error.os_error)
        if isinstance(error, TimeoutError):
            return not_reached(where, error)
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return hung_up(where)
        return Unreachable(f"the connection to {where} broke: {error or type(error).__name__}")


def _checked(url: str) -> URL:
    parsed = URL(url)
    if parsed.scheme != "https" or not parsed.host:
        raise ClientError(
            f"{url!r} is not a manager's address; it looks like https://127.0.0.1:7443"
        )
    return parsed.with_path("/").with_query(None)


def _node(node: str, sub: str) -> str:
    return f"{BASE}/nodes/{quote(node, safe='')}/{sub}"


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    return refusal(response.status, await response.read(), str(response.url.origin()))


def _handshake_refusal(error: aiohttp.WSServerHandshakeError) -> ApiError:
    """The Status is in a header: the body of a refused handshake is not at hand."""
    text = error.headers.get(STATUS_HEADER, "") if error.headers is not None else ""
    try:
        said = msgspec.json.decode(unquote(text))
    except msgspec.DecodeError:
        said = {"message": f"the manager answered {error.status} {error.message}"}
    return ApiError(said if isinstance(said, dict) else {}, code=error.status)


@asynccontextmanager
async def _held(response: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """A stream while it is read. One that is left before its end is cut: a polite end of TLS
    takes until the manager answers, and aiohttp lets nobody wait for that."""
    try:
        yield
    finally:
        connection = response.connection  # None at the stream's own end
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        response.close()


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Lines of any length, without the empty ones; ends when the connection does."""
    begun: list[bytes] = []
    try:
        async for part in response.content.iter_any():
            *whole, rest = part.split(b"\n")
            for line in whole:
                begun.append(line)
                joined = b"".join(begun)
                begun = []
                if joined:
                    yield joined
            if rest:
                begun.append(rest)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return  # cut off, or quiet for too long: a half line is no line


def _remember(known: dict[tuple[str, str], Document], event: WatchEvent) -> None:
    if event.type == "DELETED":
        known.pop(_key(event.object), None)
    else:
        known[_key(event.object)] = event.object


def _difference(
    known: Mapping[tuple[str, str], Document], items: Sequence[Document]
) -> list[WatchEvent]:
    """What turns what was told into what there is."""
    there = {_key(item): item for item in items}
    events = [WatchEvent("DELETED", known[key]) for key in known if key not in there]
    for key, item in there.items():
        was = known.get(key)
        if was is None:
            events.append(WatchEvent("ADDED", item))
        elif was["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
            events.append(WatchEvent("MODIFIED", item))
    return events


def _key(document: Document) -> tuple[str, str]:
    metadata = document["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
