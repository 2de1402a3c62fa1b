"""Reading objects: one, a list of them, or a watch, in the form that the client wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from api.server import lists, requests, status, tables
from api.server.paths import Target
from api.server.resources import Resources
from api.server.selectors import Selection
from api.server.tables import Form
from api.server.watch import Watcher, Watches, bookmark, error_line
from api.store.cache import Cache
from api.store.contract import Store

if TYPE_CHECKING:
    from api.server.app import Settings

JSON = "application/json"


class Reading:
    """Answers GETs."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        settings: Settings,
        resources: Resources,
        watches: Watches,
    ) -> None:
        self._store = store
        self._cache = cache
        self._settings = settings
        self._resources = resources
        self._watches = watches

    def get(self, target: Target, form: Form) -> web.Response:
        """Raises Failure 404."""
        item = self._resources.item(target.kind, target.namespace, target.name)
        body = tables.shown(form, target.kind, item.served(), self._resources.now())
        return web.Response(body=body, content_type=JSON)

    async def collection(
        self, request: web.Request, target: Target, chosen: Selection, form: Form
    ) -> web.StreamResponse:
        """A list, or a watch of it. Raises Failure, StoreError."""
        if request.query.get("watch", "") in ("true", "1"):
            return await self.watch(request, target, chosen, form)
        return await self.list(request, target, chosen, form)

    async def list(
        self, request: web.Request, target: Target, chosen: Selection, form: Form
    ) -> web.Response:
        """Raises Failure 400, 410; StoreError."""
        revision, after = await self._moment(request)
        query = lists.Query(
            target.kind,
            target.namespace,
            chosen,
            limit=requests.number(request, "limit"),
            after=after,
            revision=revision,
        )
        page = await lists.page(self._cache, self._store, query)
        body = page.body(target.kind, form, self._resources.now())
        return web.Response(body=body, content_type=JSON)

    async def _moment(self, request: web.Request) -> tuple[int, str]:
        """The revision to read at (0: now), and the key to go on after.

        Raises Failure 400, and 410 for a revision that was never reached; StoreError.
        """
        match = request.query.get("resourceVersionMatch", "")
        wanted = requests.revision(request)
        if match not in ("", "Exact", "NotOlderThan"):
            raise status.bad_request("resourceVersionMatch must be Exact or NotOlderThan")
        if match and not request.query.get("resourceVersion"):
            raise status.bad_request("resourceVersionMatch needs a resourceVersion")
        token = request.query.get("continue", "")
        revision, after = lists.read_token(token) if token else (wanted, "")
        await self._resources.reached(revision)
        return (revision if token or match == "Exact" else 0), after

    async def watch(
        self, request: web.Request, target: Target, chosen: Selection, form: Form
    ) -> web.StreamResponse:
        """Until its time is up, or its client goes. Raises Failure 400, StoreError."""
        response = web.StreamResponse(headers={"Content-Type": JSON})
        response.enable_chunked_encoding()
        try:
            watcher = await self._watcher(request, target, chosen, form)
        except status.Failure as failure:
            if failure.code != 410:
                raise
            # Within the stream, as Kubernetes says it: so its clients list again by themselves.
            await response.prepare(request)
            await response.write(error_line(failure))
            await response.write_eof()
            return response
        if request.transport is not None:
            watcher.on_overrun = request.transport.abort
        try:
            await response.prepare(request)
            await self._tell(request, response, watcher)
            await response.write_eof()
        finally:
            self._watches.leave(watcher)
        return response

    async def _watcher(
        self, request: web.Request, target: Target, chosen: Selection, form: Form
    ) -> Watcher:
        """Raises Failure 410 where the version to begin after is no longer, or was never, there."""
        after = requests.revision(request)
        await self._resources.reached(after)
        listed = request.query.get("sendInitialEvents", "") == "true"
        return self._watches.open(
            target.kind,
            target.namespace,
            chosen,
            after=0 if listed else after,
            listed=listed,
            form=form,
        )

    async def _tell(
        self, request: web.Request, response: web.StreamResponse, watcher: Watcher
    ) -> None:
        """Write a watch's lines until its time is up."""
        loop = asyncio.get_running_loop()
        seconds = requests.number(request, "timeoutSeconds")
        end = loop.time() + seconds if seconds else float("inf")
        bookmarks = request.query.get("allowWatchBookmarks", "") in ("true", "1")
        while not watcher.ended:
            left = end - loop.time()
            if left <= 0:
                return
            lines = await watcher.next(min(left, self._settings.bookmark))
            if not lines and bookmarks and not watcher.ended:
                lines = bookmark(watcher.kind, self._cache.revision, watcher.form)
            if lines:
                await response.write(lines)
