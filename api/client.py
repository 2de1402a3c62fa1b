"""The async client: what `ctl` and the agent know of a manager.

Objects are plain JSON documents for `ctl`, which must not lose a field it doesn't know, and typed
messages for the agent. Several managers may be given: the client stays with one and goes to the
next when that does not answer.

Errors are those of `api.rest`.

What is safe to repeat is repeated while `patience` lasts: anything where no connection came
about; reads, and writes that may be done twice, where the manager was busy (429, 503) or the
connection broke.
"""

from __future__ import annotations

import asyncio
import io
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

from api.rest import (
    BASE,
    BUSY,
    PAGE,
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
    SessionReply,
    SessionRequest,
    StatusReport,
    StatusReports,
    StatusResult,
)
from api.types.join import (
    RENEW_HEADER,
    AuthorityStatus,
    JoinOffer,
    JoinReply,
    JoinRequest,
    RenewReply,
    RenewRequest,
    Sign,
    TokenReply,
    UserCertificateRequest,
)
from api.types.kinds import BY_NAME, Kind

Document = dict[str, Any]
T = TypeVar("T")

EXEC_PROTOCOL = "v5.channel.k8s.io"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
# A manager that hangs must leave time to reach another before the session's three periods are over.
_BEAT_SECONDS = 4.0
_APPLY_SECONDS = 600.0
_QUIET_WATCH_SECONDS = 90.0  # managers say where they are every 30 s
_QUIET_NODE_SECONDS = 30.0  # managers say that they live every 10 s
_FIRST_WAIT = 0.1
_LAST_WAIT = 2.0
_FRAME_BYTES = 4 * 1024 * 1024
_MERGE_PATCH = "application/merge-patch+json"
_LARGE = 1024 * 1024  # bytes


class WatchEvent(NamedTuple):
    type: str  # ADDED | MODIFIED | DELETED
    object: Document


class Applied(msgspec.Struct, kw_only=True):
    kind: str
    namespace: str = ""
    name: str
    result: str  # created | configured | unchanged | pruned
    warnings: list[str] = []
    object: Document | None = None  # where it was asked for, and in a dry run


class ApplyResult(msgspec.Struct, kw_only=True):
    items: list[Applied]


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


class Client:
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
        self.told_to_renew = False  # our certificate, by a manager
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

    # Objects

    async def get(self, kind: Kind, namespace: str, name: str) -> Document:
        """Raises ApiError 404 where there is none."""
        return await self._document("GET", object_path(kind, namespace, name))

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        """All that match, read in pages of one moment; `namespace` "" is all of them."""
        query = given(labelSelector=label_selector, fieldSelector=field_selector, limit=PAGE)
        for _ in range(3):
            try:
                return await self._pages(object_path(kind, namespace), query)
            except ApiError as error:
                if error.code != 410:
                    raise
        # It changes faster than it can be read in pages.
        del query["limit"]
        return await self._pages(object_path(kind, namespace), query)

    async def _pages(self, path: str, query: Mapping[str, str]) -> Listing:
        items: list[Document] = []
        following = dict(query)
        while True:
            page = await self._document("GET", path, query=following)
            items += page["items"]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(items, metadata["resourceVersion"])
            following = {**query, "continue": metadata["continue"]}

    async def create(self, document: Document, *, dry_run: bool = False) -> Document:
        """Raises ApiError 409 where it exists."""
        kind, namespace, _ = _identity(document)
        return await self._document(
            "POST",
            object_path(kind, namespace),
            query=_dry(dry_run),
            body=document,
            repeatable=False,
        )

    async def replace(self, document: Document, *, dry_run: bool = False) -> Document:
        """With its resourceVersion, only if it is still at that. Raises ApiError 409."""
        kind, namespace, name = _identity(document)
        path = object_path(kind, namespace, name)
        return await self._document("PUT", path, query=_dry(dry_run), body=document)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Document,
        *,
        status: bool = False,
        dry_run: bool = False,
    ) -> Document:
        """A merge patch (RFC 7386) of the object, or of its status alone."""
        path = object_path(kind, namespace, name) + ("/status" if status else "")
        return await self._document(
            "PATCH", path, query=_dry(dry_run), body=patch, content_type=_MERGE_PATCH
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        dry_run: bool = False,
        force: bool = False,
    ) -> Document:
        """The object on its way, or a Status where it is gone. Raises ApiError 404."""
        body: Document = {"preconditions": {"uid": uid}} if uid else {}
        if force:
            body["gracePeriodSeconds"] = 0
        path = object_path(kind, namespace, name)
        return await self._document("DELETE", path, query=_dry(dry_run), body=body)

    async def delete_collection(
        self,
        kind: Kind,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        dry_run: bool = False,
    ) -> Listing:
        """Delete all that match; what they were."""
        query = given(labelSelector=label_selector, fieldSelector=field_selector) | _dry(dry_run)
        page = await self._document("DELETE", object_path(kind, namespace), query=query, body={})
        return Listing(page["items"], page["metadata"]["resourceVersion"])

    async def apply(
        self,
        documents: Sequence[Document],
        *,
        namespace: str = "",
        dry_run: bool = False,
        prune: str = "",
        full: bool = False,
        field_manager: str = "ctl",
    ) -> ApplyResult:
        """All of them or, where one is invalid, none. `namespace` is for those that name none.

        Raises ApiError 422, whose causes have `index` and `field` (`items[3].spec.replicas`).
        """
        query = given(namespace=namespace, prune=prune, fieldManager=field_manager)
        query |= _dry(dry_run) | given(full="true" if full else "")
        raw = await self._bytes(
            "POST",
            f"{BASE}/apply",
            query=query,
            body=msgspec.json.encode({"items": documents}),
            seconds=_APPLY_SECONDS,
        )
        return msgspec.json.decode(raw, type=ApplyResult)

    # The cluster's authority

    async def join_offer(self) -> JoinOffer:
        """Who the manager says it is; asked before it is trusted."""
        return msgspec.json.decode(await self._bytes("GET", f"{BASE}/join"), type=JoinOffer)

    async def join(self, request: JoinRequest) -> JoinReply:
        """Raises ApiError 403 where the token is refused, 409 where the name is taken."""
        body = msgspec.json.encode(request)
        raw = await self._bytes("POST", f"{BASE}/join", body=body)
        return msgspec.json.decode(raw, type=JoinReply)

    async def renew(self, request: str) -> RenewReply:
        """Our next certificate, for the key of a certificate request."""
        body = msgspec.json.encode(RenewRequest(request=request))
        raw = await self._bytes("POST", f"{BASE}/certificate", body=body)
        return msgspec.json.decode(raw, type=RenewReply)

    async def user_certificate(
        self, name: str, request: str, *, days: float, withdraw: bool = False
    ) -> RenewReply:
        """A user's certificate, for the key of a certificate request. Raises ApiError 404."""
        wanted = UserCertificateRequest(request=request, days=days, withdraw=withdraw)
        path = f"{BASE}/users/{quote(name, safe='')}/certificate"
        raw = await self._bytes("POST", path, body=msgspec.json.encode(wanted), repeatable=False)
        return msgspec.json.decode(raw, type=RenewReply)

    async def token(self, role: str, *, rotate: bool = False) -> str:
        """What lets a machine join as a `worker` or `manager`; with `rotate` a new one."""
        path = f"{BASE}/tokens/{quote(role, safe='')}"
        raw = await (
            self._bytes("POST", f"{path}/rotate", repeatable=False)
            if rotate
            else self._bytes("GET", path)
        )
        return msgspec.json.decode(raw, type=TokenReply).token

    async def authority(self, *, rotate: bool = False, keep: float = 0.0) -> AuthorityStatus:
        """How the cluster's authority is; with `rotate` its root begins to be replaced, and is
        accepted for `keep` seconds more at least."""
        path = f"{BASE}/authority"
        raw = await (
            self._bytes(
                "POST", f"{path}/rotate", query={"keepSeconds": f"{keep:.0f}"}, repeatable=False
            )
            if rotate
            else self._bytes("GET", path)
        )
        return msgspec.json.decode(raw, type=AuthorityStatus)

    async def components(self) -> Sequence[Document]:
        """The manager's parts and how they are."""
        items: Sequence[Document] = (await self._document("GET", f"{BASE}/components"))["items"]
        return items

    async def version(self) -> Document:
        return await self._document("GET", "/version")

    async def metrics(self) -> str:
        """The manager's own figures, as Prometheus reads them."""
        return (await self._bytes("GET", "/metrics")).decode()

    async def ready(self) -> bool:
        """Whether the manager has read the store and reaches it. Raises Unreachable."""
        try:
            await self._bytes("GET", "/readyz", patience=0)
        except ApiError:
            return False
        return True

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

    async def dial_stream(self, node: str, id: str) -> Pipe:
        """Answer a `stream` message: the agent's end of a log or exec. Close it when done."""
        return await self._dial(f"{_node(node, 'streams')}/{quote(id)}", [])

    # Requests

    async def _document(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        content_type: str = "application/json",
        repeatable: bool = True,
    ) -> Document:
        raw = await self._bytes(
            method,
            path,
            query=query,
            body=None if body is None else msgspec.json.encode(body),
            content_type=content_type,
            repeatable=repeatable,
        )
        document: Document = msgspec.json.decode(raw)
        return document

    async def _bytes(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        repeatable: bool = True,
        seconds: float = _ANSWER_SECONDS,
        patience: float | None = None,
    ) -> bytes:
        async def once() -> bytes:
            response = await self._send(method, path, query, body, content_type, seconds)
            async with response:
                return await response.read()

        return await self._patiently(once, repeatable, patience)

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

        async def once() -> aiohttp.ClientResponse:
            return await self._send(method, path, query, None, "", None, quiet=quiet)

        return await self._patiently(once, True, patience)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        content_type: str,
        seconds: float | None,
        *,
        quiet: float | None = None,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        response = await self._connected().request(
            method,
            self._url(path),
            params=query,
            data=io.BytesIO(body) if body and len(body) > _LARGE else body,  # in pieces
            headers=headers,
            ssl=self._tls,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=seconds, sock_connect=_CONNECT_SECONDS, sock_read=quiet
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


def _identity(document: Document) -> tuple[Kind, str, str]:
    kind = BY_NAME.get(str(document.get("kind")))
    if kind is None:
        raise ClientError(f"{document.get('kind')!r} is not a kind that this version knows")
    metadata = document.get("metadata") or {}
    namespace = metadata.get("namespace") or "default" if kind.namespaced else ""
    return kind, namespace, str(metadata.get("name") or "")


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


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
