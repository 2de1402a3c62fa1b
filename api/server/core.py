"""Kubernetes' core group, as far as it shadows nothing of ours: pods and events.

Never its services, secrets and nodes: clients would take them for what our kinds' names mean.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from api.server import pods, requests, status
from api.server.deletions import Deletions
from api.server.discovery import CORE
from api.server.paths import Target
from api.server.reading import Reading
from api.server.resources import Resources
from api.server.selectors import Selection, SelectorError
from api.server.streams import Streams, item_of_task
from api.server.tables import View
from api.store.cache import Cache, Item
from api.types.assignment import StreamRequest
from api.types.columns import COLUMNS
from api.types.kinds import BY_PLURAL, EVENT, NAMESPACE, TASK
from api.types.meta import API_VERSION

if TYPE_CHECKING:
    from api.server.app import Settings

JSON = "application/json"
_EVENTS = View("v1", "Event", COLUMNS[EVENT.name], pods.event)
_SUBS = {sub.name for resource in CORE.resources for sub in resource.subs}


class Core:
    """One method a sort of request."""

    def __init__(
        self,
        cache: Cache,
        settings: Settings,
        resources: Resources,
        deletions: Deletions,
        reading: Reading,
        streams: Streams,
    ) -> None:
        self._cache = cache
        self._settings = settings
        self._resources = resources
        self._deletions = deletions
        self._reading = reading
        self._streams = streams
        self._pods = pods.Pods(cache)

    async def object(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Whatever a path below /api/v1/ names. Raises Failure, StoreError."""
        if target.sub:
            return await self._sub(request, target)
        view = self._pods.view if target.kind is TASK else _EVENTS
        form = requests.form(request)._replace(view=view)
        match request.method:
            case "GET" | "HEAD" if target.name:
                return self._reading.get(target, form)
            case "GET" | "HEAD":
                chosen = self._selection(request, target)
                return await self._reading.collection(request, target, chosen, form)
            case "DELETE" if target.name:
                return await self._delete(request, target, view)
        raise status.not_allowed(
            request.method,
            "pods: they are tasks, which their service makes; change the service"
            if target.kind is TASK
            else "events: the system writes them",
        )

    def _selection(self, request: web.Request, target: Target) -> Selection:
        labels = request.query.get("labelSelector", "")
        fields = request.query.get("fieldSelector", "")
        try:
            if target.kind is EVENT:
                return pods.event_selection(labels, fields)
            return self._pods.selection(labels, fields)
        except SelectorError as error:
            raise status.bad_request(str(error)) from None

    async def _delete(self, request: web.Request, target: Target, view: View) -> web.Response:
        options = await requests.delete_options(request, self._settings)
        id = (target.kind, target.namespace, target.name)
        written = await self._deletions.one(*id, options)
        if written.deleted:
            done = status.success(target.kind, target.name)
            return web.Response(body=msgspec.json.encode(done), content_type=JSON)
        return web.Response(body=view.convert(written.served()), content_type=JSON)

    async def _sub(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.kind is not TASK or target.sub[0] not in _SUBS or len(target.sub) > 1:
            raise status.no_path(request.path)
        item = item_of_task(self._cache, target.namespace, target.name)
        _require_container(request, item)
        if target.sub[0] == "log":
            requests.require(request, "GET")
            return await self._streams.log(
                request, item, self._log_request(request), requests.number(request, "limitBytes")
            )
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
        return await self._streams.exec(request, item, wanted)

    def _log_request(self, request: web.Request) -> StreamRequest:
        query = request.query
        if requests.flag(request, "previous"):
            raise status.bad_request(
                "a pod's container is never started again: the one before is another pod's; find it"
                " with `kubectl get pods` and ask for its log"
            )
        since = query.get("sinceTime", "")
        seconds = requests.number(request, "sinceSeconds")
        if seconds:
            try:
                moment = self._resources.now() - timedelta(seconds=seconds)
            except OverflowError:
                raise status.bad_request(f"sinceSeconds {seconds} is too long ago") from None
            since = moment.isoformat().replace("+00:00", "Z")
        return StreamRequest(
            id="",
            verb="log",
            task_uid="",
            follow=requests.flag(request, "follow"),
            tail=requests.number(request, "tailLines") if "tailLines" in query else -1,
            since=since,
            timestamps=requests.flag(request, "timestamps"),
        )


def nothing_at(path: str) -> status.Failure:
    """404 for what is not in the core group; says where it is, where it is in ours."""
    failure = status.no_path(path)
    words = path.strip("/").split("/")[2:]  # below api/v1
    word = words[2] if words[:1] == [NAMESPACE.plural] and len(words) > 2 else words[0]
    if word in BY_PLURAL:
        failure.message += (
            f"; {word} are {API_VERSION}'s here: write `apiVersion: {API_VERSION}` in a manifest"
            " and apply it, or use ctl"
        )
    return failure


def _require_container(request: web.Request, item: Item) -> None:
    """A pod has one container. Raises Failure 400 for another's name."""
    given, only = request.query.get("container", ""), item.obj.spec.service
    if given and given != only:
        raise status.bad_request(
            f"pod {item.namespace}/{item.name} has no container {given}; its only one is {only}"
        )
