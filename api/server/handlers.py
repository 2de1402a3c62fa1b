"""Requests taken apart and answers put together; nothing is decided here."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from api import manifest
from api.server import audit, lists, status
from api.server.apply import Applier, Options
from api.server.assignments import GATHER, Assignments, NodeStream
from api.server.auth import Caller, refused
from api.server.documents import Document, Preconditions, as_document, parse_json
from api.server.metrics import Metrics
from api.server.middleware import answer
from api.server.nodes import Sessions
from api.server.paths import Target
from api.server.resources import DeleteOptions, Resources, Written
from api.server.selectors import Selection, SelectorError, selection
from api.server.statuses import Statuses
from api.server.streams import Streams, item_of_task
from api.server.watch import Watcher, Watches, bookmark
from api.store.cache import Cache
from api.store.contract import Store
from api.types.assignment import SessionRequest, StatusReports, StreamRequest
from api.types.kinds import NODE, TASK
from api.types.meta import API_VERSION

if TYPE_CHECKING:
    from api.server.app import Settings

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
_YAML = frozenset({"application/yaml", "text/yaml", "application/x-yaml"})
_REPORTS = msgspec.json.Decoder(StatusReports)
_SESSION = msgspec.json.Decoder(SessionRequest)
_READY_SECONDS = 2.0


class Handlers:
    """One method a sort of request."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Cache,
        settings: Settings,
        resources: Resources,
        applier: Applier,
        watches: Watches,
        sessions: Sessions,
        statuses: Statuses,
        assignments: Assignments,
        streams: Streams,
        components: Callable[[], list[dict[str, Any]]],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._cache = cache
        self._settings = settings
        self._resources = resources
        self._applier = applier
        self._watches = watches
        self._sessions = sessions
        self._statuses = statuses
        self._assignments = assignments
        self._streams = streams
        self._components = components
        self._metrics = metrics
        self._by_sub: dict[tuple[str, str], Callable[..., Awaitable[web.StreamResponse]]] = {
            (NODE.name, "session"): self._session,
            (NODE.name, "heartbeat"): self._heartbeat,
            (NODE.name, "assignments"): self._stream_assignments,
            (NODE.name, "statuses"): self._report,
            (NODE.name, "streams"): self._dialled,
            (TASK.name, "log"): self._log,
            (TASK.name, "exec"): self._exec,
        }

    async def object(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Whatever a path below /apis/skep.dev/v1/ names."""
        if target.sub == ("status",):
            return await self._status(request, target)
        if target.sub:
            handler = self._by_sub.get((target.kind.name, target.sub[0]))
            if handler is None:
                raise status.no_path(request.path)
            return await handler(request, target)
        if not target.name:
            return await self._collection(request, target)
        match request.method:
            case "GET" | "HEAD":
                return self._get(request, target)
            case "PUT":
                document = await self._document(request)
                return _written(
                    await self._resources.replace(*_id(target), document, dry_run=_dry_run(request))
                )
            case "PATCH":
                _require_merge_patch(request)
                patch = await self._document(request)
                return _written(
                    await self._resources.patch(*_id(target), patch, dry_run=_dry_run(request))
                )
            case "DELETE":
                options = await self._delete_options(request)
                return _deleted(await self._resources.delete(*_id(target), options))
        raise status.not_allowed(request.method, f"one of {target.kind.plural}")

    # Objects

    def _get(self, request: web.Request, target: Target) -> web.Response:
        item = self._resources.item(*_id(target))
        return web.Response(body=item.served(), content_type=JSON)

    async def _status(self, request: web.Request, target: Target) -> web.Response:
        match request.method:
            case "GET" | "HEAD":
                return self._get(request, target)
            case "PUT" | "PATCH":
                merge = request.method == "PATCH"
                if merge:
                    _require_merge_patch(request)
                document = await self._document(request)
                return _written(
                    await self._resources.write_status(
                        *_id(target), document, merge=merge, dry_run=_dry_run(request)
                    )
                )
        raise status.not_allowed(request.method, "a status")

    async def _collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        match request.method:
            case "GET" | "HEAD":
                if request.query.get("watch", "") in ("true", "1"):
                    return await self._watch(request, target)
                return await self._list(request, target)
            case "POST":
                if target.kind.namespaced and not target.namespace:
                    raise status.bad_request(
                        f"{target.kind.plural} are made in a namespace: POST to"
                        f" …/namespaces/<namespace>/{target.kind.plural}"
                    )
                document = await self._document(request)
                written = await self._resources.create(
                    target.kind, target.namespace, document, dry_run=_dry_run(request)
                )
                return _written(written, code=201)
            case "DELETE":
                return await self._delete_collection(request, target)
        raise status.not_allowed(request.method, target.kind.plural)

    async def _list(self, request: web.Request, target: Target) -> web.Response:
        token = request.query.get("continue", "")
        revision, after = lists.read_token(token) if token else (0, "")
        wanted = _revision(request)
        if wanted and not token:
            if request.query.get("resourceVersionMatch") == "Exact":
                revision = wanted
            elif wanted > self._cache.revision:
                await self._resources.seen(wanted)
        query = lists.Query(
            target.kind,
            target.namespace,
            _selection(request, target),
            limit=_number(request, "limit"),
            after=after,
            revision=revision,
        )
        page = await lists.page(self._cache, self._store, query)
        return web.Response(body=page.body(target.kind), content_type=JSON)

    async def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        options = await self._delete_options(request)
        chosen = _selection(request, target)
        items = lists.selected(self._cache, target.kind, target.namespace, chosen)
        gone = await self._resources.delete_many(items, dry_run=options.dry_run)
        served = [written.served() for written in gone]
        page = lists.Page(served, self._cache.revision, "")
        return web.Response(body=page.body(target.kind), content_type=JSON)

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        after = _revision(request)
        if after > self._cache.revision:
            await self._resources.seen(after)
        listed = request.query.get("sendInitialEvents", "") == "true"
        chosen = _selection(request, target)
        watcher = self._watches.open(
            target.kind, target.namespace, chosen, after=0 if listed else after, listed=listed
        )
        if request.transport is not None:
            watcher.on_overrun = request.transport.abort
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await self._tell(request, response, watcher)
            await response.write_eof()
        finally:
            self._watches.leave(watcher)
        return response

    async def _tell(
        self, request: web.Request, response: web.StreamResponse, watcher: Watcher
    ) -> None:
        """Write a watch's lines until its time is up."""
        loop = asyncio.get_running_loop()
        seconds = _number(request, "timeoutSeconds")
        end = loop.time() + seconds if seconds else float("inf")
        bookmarks = request.query.get("allowWatchBookmarks", "") in ("true", "1")
        while not watcher.ended:
            left = end - loop.time()
            if left <= 0:
                return
            lines = await watcher.next(min(left, self._settings.bookmark))
            if not lines and bookmarks and not watcher.ended:
                lines = bookmark(watcher.kind, self._cache.revision)
            if lines:
                await response.write(lines)

    async def apply(self, request: web.Request, caller: Caller) -> web.Response:
        body = parse_json(
            await _body(request, self._settings.max_apply_body, self._settings.body_time)
        )
        items = body.get("items") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise status.bad_request('the body must be {"items": [objects…]}')
        query = request.query
        options = Options(
            namespace=query.get("namespace", "") or "default",
            dry_run=_dry_run(request),
            prune=query.get("prune", ""),
            full=query.get("full", "") in ("true", "1"),
        )
        said = await self._applier.apply(items, options, functools.partial(refused, caller))
        audit.applied(request, said["items"])
        return web.Response(body=msgspec.json.encode(said), content_type=JSON)

    # Nodes

    async def _session(self, request: web.Request, target: Target) -> web.Response:
        _require(request, "POST")
        body = await _body(request, self._settings.max_body, self._settings.body_time)
        wanted = _decoded(_SESSION, body or b"{}")
        reply = await self._sessions.open(target.name, wanted, request.remote or "")
        return web.Response(body=msgspec.json.encode(reply), content_type=JSON)

    async def _heartbeat(self, request: web.Request, target: Target) -> web.Response:
        _require(request, "POST")
        await self._sessions.beat(target.name)
        return web.Response(body=b"{}", content_type=JSON)

    async def _report(self, request: web.Request, target: Target) -> web.Response:
        _require(request, "POST")
        body = await _body(request, self._settings.max_statuses_body, self._settings.body_time)
        reports: StatusReports = _decoded(_REPORTS, body)
        result = await self._statuses.report(target.name, reports.items)
        return web.Response(body=msgspec.json.encode(result), content_type=JSON)

    async def _stream_assignments(self, request: web.Request, target: Target) -> web.StreamResponse:
        _require(request, "GET")
        stream = self._assignments.open(target.name)
        try:
            first = await self._assignments.complete(stream)
            response = web.StreamResponse(headers={"Content-Type": JSON})
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(first)
            await self._tell_node(response, stream)
            await response.write_eof()
        finally:
            self._assignments.leave(stream)
        return response

    async def _tell_node(self, response: web.StreamResponse, stream: NodeStream) -> None:
        while not stream.closed:
            try:
                async with asyncio.timeout(self._settings.keep_alive):
                    await stream.there.wait()
            except TimeoutError:
                await response.write(b"\n")
                continue
            await asyncio.sleep(GATHER)
            lines = await self._assignments.increment(stream)
            if lines and not stream.closed:
                await response.write(lines)

    async def _dialled(self, request: web.Request, target: Target) -> web.StreamResponse:
        _require(request, "GET")
        if len(target.sub) != 2:
            raise status.no_path(request.path)
        return await self._streams.dialled(request, target.name, target.sub[1])

    # Tasks

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        _require(request, "GET")
        query = request.query
        wanted = StreamRequest(
            id="",
            verb="log",
            task_uid="",
            follow=_flag(request, "follow"),
            tail=_number(request, "tail") if "tail" in query else -1,
            since=query.get("since", ""),
            timestamps=_flag(request, "timestamps"),
        )
        item = item_of_task(self._cache, target.namespace, target.name)
        return await self._streams.log(request, item, wanted)

    async def _exec(self, request: web.Request, target: Target) -> web.StreamResponse:
        _require(request, "GET")
        wanted = StreamRequest(
            id="",
            verb="exec",
            task_uid="",
            command=request.query.getall("command", []),
            tty=_flag(request, "tty"),
            stdin=_flag(request, "stdin"),
        )
        if not wanted.command:
            raise status.bad_request("exec needs a command")
        item = item_of_task(self._cache, target.namespace, target.name)
        return await self._streams.exec(request, item, wanted)

    # The server itself

    async def components(self, request: web.Request) -> web.Response:
        body = {
            "apiVersion": API_VERSION,
            "kind": "ComponentList",
            "metadata": {},
            "items": self._components(),
        }
        return web.Response(body=msgspec.json.encode(body), content_type=JSON)

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(self, request: web.Request) -> web.Response:
        """Ready is: the cache is filled and the store answers."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self._cache.synced()
                await self._store.revision()
        except TimeoutError:
            return answer(status.unavailable("the store (etcd) does not answer"))
        return web.Response(text="ok")

    async def version(self, request: web.Request) -> web.Response:
        major, minor, *_ = self._settings.version.split(".")
        body = {
            "major": major,
            "minor": minor,
            "gitVersion": f"v{self._settings.version}",
            "cluster": self._sessions.cluster,
        }
        return web.Response(body=msgspec.json.encode(body), content_type=JSON)

    async def metrics(self, request: web.Request) -> web.Response:
        content_type = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.text(), headers=content_type)

    # Bodies

    async def _document(self, request: web.Request) -> Document:
        body = await _body(request, self._settings.max_body, self._settings.body_time)
        if request.content_type in _YAML:
            return _from_yaml(body)
        # Without a content type, or with one that merely is not YAML, it is taken for JSON.
        return as_document(parse_json(body))

    async def _delete_options(self, request: web.Request) -> DeleteOptions:
        body = await _body(request, self._settings.max_body, self._settings.body_time)
        given = as_document(parse_json(body)) if body.strip() else {}
        wanted = given.get("preconditions")
        wanted = wanted if isinstance(wanted, dict) else {}
        grace = request.query.get("gracePeriodSeconds", given.get("gracePeriodSeconds"))
        return DeleteOptions(
            preconditions=Preconditions(
                uid=str(wanted.get("uid") or ""),
                resource_version=str(wanted.get("resourceVersion") or ""),
            ),
            dry_run=_dry_run(request) or "All" in (given.get("dryRun") or ()),
            force=str(grace) == "0",
        )


def _id(target: Target) -> tuple[Any, str, str]:
    return target.kind, target.namespace, target.name


def _written(written: Written, code: int = 200) -> web.Response:
    response = web.Response(status=code, body=written.served(), content_type=JSON)
    return _with_warnings(response, written)


def _deleted(written: Written) -> web.Response:
    if not written.deleted:
        return _written(written)
    uid = msgspec.json.decode(written.value, type=_OnlyMetadata).metadata.uid
    body = status.success(written.kind, written.name, uid)
    response = web.Response(body=msgspec.json.encode(body), content_type=JSON)
    return _with_warnings(response, written)


class _Uid(msgspec.Struct):
    uid: str = ""


class _OnlyMetadata(msgspec.Struct):
    metadata: _Uid


def _with_warnings(response: web.Response, written: Written) -> web.Response:
    for warning in written.warnings:
        # ASCII within quotes, as the header's grammar has it
        text = warning.encode("ascii", "replace").decode().replace("\\", "\\\\")
        text = text.replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{text}"')
    return response


async def _body(request: web.Request, limit: int, seconds: float) -> bytes:
    """Raises Failure 413 as soon as it is too large, whatever its length was said to be, and 408
    where it does not arrive in time."""
    if request.content_length is not None and request.content_length > limit:
        raise status.too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit:
                    raise status.too_large(limit)
                parts.append(part)
    except TimeoutError:
        raise status.too_slow(seconds) from None
    return b"".join(parts)


def _from_yaml(body: bytes) -> Document:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise status.bad_request("the body is not UTF-8") from None
    loaded = manifest.load([manifest.Source("body", text)])
    if len(loaded.documents) != 1:
        raise status.bad_request("the body must be one YAML document")
    return as_document(loaded.documents[0].object)


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise status.bad_request(f"the body can't be understood: {error}") from None


def _selection(request: web.Request, target: Target) -> Selection:
    query = request.query
    try:
        return selection(
            target.kind, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
    except SelectorError as error:
        raise status.bad_request(str(error)) from None


def _revision(request: web.Request) -> int:
    text = request.query.get("resourceVersion", "")
    if text and not text.isdecimal():
        raise status.bad_request(f"resourceVersion {text!r} is not one that this server gave")
    return int(text or 0)


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not text:
        return 0
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise status.bad_request(f"{name} must be a number, 0 or more; it is {text!r}")
    return number


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "") in ("true", "1")


def _dry_run(request: web.Request) -> bool:
    given = request.query.getall("dryRun", [])
    if any(value not in ("All", "") for value in given):
        raise status.bad_request("dryRun must be All: every stage, and nothing written")
    return "All" in given


def _require(request: web.Request, method: str) -> None:
    if request.method != method:
        raise status.not_allowed(request.method, request.path)


def _require_merge_patch(request: web.Request) -> None:
    if request.content_type != MERGE_PATCH:
        raise status.unsupported_media(request.content_type, [MERGE_PATCH])
