"""What agents ask: a session, heartbeats, reports, the stream of their assignments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from api.server import audit, requests, status
from api.server.assignments import Assignments, NodeStream
from api.server.auth import peer_certificate
from api.server.images import Images
from api.server.join import Joins
from api.server.nodes import Sessions
from api.server.paths import Target
from api.server.statuses import Statuses
from api.server.streams import Streams
from api.types.assignment import ImageFound, SessionRequest, StatusReports
from api.types.kinds import NODE, REVISION

if TYPE_CHECKING:
    from api.server.app import Settings

JSON = "application/json"
_REPORTS = msgspec.json.Decoder(StatusReports)
_IMAGE = msgspec.json.Decoder(ImageFound)
_SESSION = msgspec.json.Decoder(SessionRequest)

Handle = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]


class Agents:
    """One method a sort of request."""

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        joins: Joins,
        statuses: Statuses,
        images: Images,
        assignments: Assignments,
        streams: Streams,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._joins = joins
        self._statuses = statuses
        self._images = images
        self._assignments = assignments
        self._streams = streams

    def by_sub(self) -> dict[tuple[str, str], Handle]:
        """The subresources of nodes that this serves."""
        return {
            (NODE.name, "session"): self.session,
            (NODE.name, "heartbeat"): self.heartbeat,
            (NODE.name, "assignments"): self.stream_assignments,
            (NODE.name, "statuses"): self.report,
            (NODE.name, "images"): self.agree_on_image,
            (NODE.name, "streams"): self.dialled,
        }

    async def session(self, request: web.Request, target: Target) -> web.Response:
        requests.require(request, "POST")
        body = await requests.body(request, self._settings.max_body, self._settings.body_time)
        wanted = requests.decoded(_SESSION, body or b"{}")
        shown = peer_certificate(request) or {}
        reply = await self._sessions.open(target.name, wanted, request.remote or "", shown)
        return web.Response(body=msgspec.json.encode(reply), content_type=JSON)

    async def heartbeat(self, request: web.Request, target: Target) -> web.Response:
        requests.require(request, "POST")
        await self._sessions.beat(target.name)
        sign = self._joins.sign(target.name)
        return web.Response(body=msgspec.json.encode(sign), content_type=JSON)

    async def report(self, request: web.Request, target: Target) -> web.Response:
        requests.require(request, "POST")
        body = await requests.body(
            request, self._settings.max_statuses_body, self._settings.body_time
        )
        reports: StatusReports = requests.decoded(_REPORTS, body)
        result = await self._statuses.report(target.name, reports.items)
        return web.Response(body=msgspec.json.encode(result), content_type=JSON)

    async def agree_on_image(self, request: web.Request, target: Target) -> web.Response:
        requests.require(request, "POST")
        body = await requests.body(request, self._settings.max_body, self._settings.body_time)
        found: ImageFound = requests.decoded(_IMAGE, body)
        reply = await self._images.agree(target.name, found)
        named = {"kind": REVISION.name, "namespace": found.namespace, "name": found.revision}
        audit.applied(request, [{**named, "result": reply.digest}])
        return web.Response(body=msgspec.json.encode(reply), content_type=JSON)

    async def stream_assignments(self, request: web.Request, target: Target) -> web.StreamResponse:
        requests.require(request, "GET")
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
            with self._assignments.telling() as wait:
                await asyncio.sleep(wait)
                lines = await self._assignments.increment(stream)
                if lines and not stream.closed:
                    await response.write(lines)

    async def dialled(self, request: web.Request, target: Target) -> web.StreamResponse:
        requests.require(request, "GET")
        if len(target.sub) != 2:
            raise status.no_path(request.path)
        return await self._streams.dialled(request, target.name, target.sub[1])
