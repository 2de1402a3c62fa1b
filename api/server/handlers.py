"""Requests taken apart and answers put together; nothing is decided here."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from api.server import audit, lists, patches, requests, status
from api.server.agents import Agents
from api.server.apply import Applier
from api.server.auth import Caller, refused
from api.server.deletions import Deletions
from api.server.discovery import verbs_of
from api.server.documents import parse_json
from api.server.entries import Options
from api.server.metrics import Metrics
from api.server.middleware import answer
from api.server.paths import Target
from api.server.reach import may_reach
from api.server.reading import Reading
from api.server.resources import Resources, Written
from api.server.scale import Scales
from api.server.secrets import SecretVersions
from api.server.ssa import ServerSide
from api.server.streams import Streams, item_of_task
from api.store.cache import Cache
from api.store.contract import Store
from api.types.assignment import StreamRequest
from api.types.kinds import SERVICE, TASK
from api.types.meta import API_VERSION

if TYPE_CHECKING:
    from api.server.app import Settings

JSON = "application/json"
_READY_SECONDS = 2.0


class Handlers:
    """One method a sort of request."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Cache,
        settings: Settings,
        cluster: str,
        resources: Resources,
        deletions: Deletions,
        applier: Applier,
        reading: Reading,
        agents: Agents,
        secrets: SecretVersions,
        streams: Streams,
        components: Callable[[], list[dict[str, Any]]],
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._cache = cache
        self._settings = settings
        self._resources = resources
        self._deletions = deletions
        self._server_side = ServerSide(resources)
        self._scales = Scales(resources)
        self._reading = reading
        self._applier = applier
        self._cluster = cluster
        self._streams = streams
        self._components = components
        self._metrics = metrics
        self._by_sub: dict[tuple[str, str], Callable[..., Awaitable[web.StreamResponse]]] = {
            **agents.by_sub(),
            **secrets.by_sub(),
            (SERVICE.name, "scale"): self._scale,
            (TASK.name, "log"): self._log,
            (TASK.name, "exec"): self._exec,
        }

    @property
    def subresources(self) -> frozenset[tuple[str, str]]:
        """The kinds' names and what each serves besides its objects and their status."""
        return frozenset(self._by_sub)

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
                return self._reading.get(target, requests.form(request))
            case "PUT":
                document = await requests.document(request, self._settings)
                options = requests.write_options(request)
                return _written(await self._resources.replace(*_id(target), document, options))
            case "PATCH":
                return await self._patch(request, target)
            case "DELETE":
                wanted = await requests.delete_options(request, self._settings)
                return _deleted(await self._deletions.one(*_id(target), wanted))
        raise status.not_allowed(request.method, f"one of {target.kind.plural}")

    # Objects

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        if request.content_type == patches.APPLY:
            document = await requests.document(request, self._settings)
            options = requests.write_options(request, manager=True)
            return _written(await self._server_side.apply(*_id(target), document, options))
        patch = await requests.patch(request, target.kind, self._settings)
        options = requests.write_options(request)
        return _written(await self._resources.patch(*_id(target), patch, options))

    async def _status(self, request: web.Request, target: Target) -> web.Response:
        match request.method:
            case "GET" | "HEAD":
                return self._reading.get(target, requests.form(request))
            case "PUT" | "PATCH":
                if request.method == "PUT":
                    document = await requests.document(request, self._settings)
                    patch = patches.replacing(document)
                else:
                    patch = await requests.patch(request, target.kind, self._settings)
                options = requests.write_options(request)
                return _written(await self._resources.write_status(*_id(target), patch, options))
        raise status.not_allowed(request.method, "a status")

    async def _collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        match request.method:
            case "GET" | "HEAD":
                chosen, form = requests.selection(request, target), requests.form(request)
                return await self._reading.collection(request, target, chosen, form)
            case "POST":
                if target.kind.namespaced and not target.namespace:
                    raise status.bad_request(
                        f"{target.kind.plural} are made in a namespace: POST to"
                        f" …/namespaces/<namespace>/{target.kind.plural}"
                    )
                document = await requests.document(request, self._settings)
                options = requests.write_options(request)
                return _written(
                    await self._resources.create(target.kind, target.namespace, document, options)
                )
            case "DELETE":
                return await self._delete_collection(request, target)
        raise status.not_allowed(request.method, target.kind.plural)

    async def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        if "deletecollection" not in verbs_of(target.kind):
            raise status.not_allowed("DELETE", target.kind.plural)
        if target.kind.namespaced and not target.namespace:
            raise status.bad_request(
                f"{target.kind.plural} are deleted in a namespace, not in all at once: DELETE"
                f" …/namespaces/<namespace>/{target.kind.plural}"
            )
        options = await requests.delete_options(request, self._settings)
        chosen = requests.selection(request, target)
        items = lists.selected(self._cache, target.kind, target.namespace, chosen)
        gone = await self._deletions.every(items, options)
        served = [written.served() for written in gone]
        page = lists.Page(served, self._cache.revision, "")
        return web.Response(body=page.body(target.kind), content_type=JSON)

    async def apply(self, request: web.Request, caller: Caller) -> web.Response:
        body = parse_json(
            await requests.body(request, self._settings.max_apply_body, self._settings.body_time)
        )
        items = body.get("items") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise status.bad_request('the body must be {"items": [objects…]}')
        query = request.query
        options = Options(
            namespace=query.get("namespace", "") or "default",
            dry_run=requests.dry_run(request),
            prune=query.get("prune", ""),
            full=query.get("full", "") in ("true", "1"),
            confined=not may_reach(caller.grants),
        )
        said = await self._applier.apply(items, options, functools.partial(refused, caller))
        audit.applied(request, said["items"])
        return web.Response(body=msgspec.json.encode(said), content_type=JSON)

    async def _scale(self, request: web.Request, target: Target) -> web.Response:
        options = requests.write_options(request)
        said: list[str] = []
        match request.method:
            case "GET" | "HEAD":
                body = self._scales.get(target.namespace, target.name)
            case "PUT":
                patch = patches.replacing(await requests.document(request, self._settings))
                body, said = await self._scales.write(target.namespace, target.name, patch, options)
            case "PATCH":
                patch = await requests.patch(request, target.kind, self._settings)
                body, said = await self._scales.write(target.namespace, target.name, patch, options)
            case _:
                raise status.not_allowed(request.method, "a scale")
        response = web.Response(body=msgspec.json.encode(body), content_type=JSON)
        return _with_warnings(response, said)

    # Tasks

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        requests.require(request, "GET")
        query = request.query
        wanted = StreamRequest(
            id="",
            verb="log",
            task_uid="",
            follow=requests.flag(request, "follow"),
            tail=requests.number(request, "tail") if "tail" in query else -1,
            since=query.get("since", ""),
            timestamps=requests.flag(request, "timestamps"),
        )
        item = item_of_task(self._cache, target.namespace, target.name)
        return await self._streams.log(request, item, wanted)

    async def _exec(self, request: web.Request, target: Target) -> web.StreamResponse:
        requests.require(request, "GET")
        wanted = StreamRequest(
            id="",
            verb="exec",
            task_uid="",
            command=request.query.getall("command", []),
            tty=requests.flag(request, "tty"),
            stdin=requests.flag(request, "stdin"),
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
            "cluster": self._cluster,
        }
        return web.Response(body=msgspec.json.encode(body), content_type=JSON)

    async def metrics(self, request: web.Request) -> web.Response:
        content_type = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.text(), headers=content_type)


def _id(target: Target) -> tuple[Any, str, str]:
    return target.kind, target.namespace, target.name


def _written(written: Written) -> web.Response:
    code = 201 if written.created else 200
    response = web.Response(status=code, body=written.served(), content_type=JSON)
    return _with_warnings(response, written.warnings)


def _deleted(written: Written) -> web.Response:
    if not written.deleted:
        return _written(written)
    uid = msgspec.json.decode(written.value, type=_OnlyMetadata).metadata.uid
    body = status.success(written.kind, written.name, uid)
    response = web.Response(body=msgspec.json.encode(body), content_type=JSON)
    return _with_warnings(response, written.warnings)


class _Uid(msgspec.Struct):
    uid: str = ""


class _OnlyMetadata(msgspec.Struct):
    metadata: _Uid


def _with_warnings(response: web.Response, warnings: Iterable[str]) -> web.Response:
    for warning in warnings:
        # Printable ASCII within quotes, as the header's grammar has it
        text = "".join(c if c.isascii() and c.isprintable() else "?" for c in warning)
        text = text.replace("\\", "\\\\")
        text = text.replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{text}"')
    return response
