"""The HTTP application: one port, HTTPS only, every path Kubernetes would know.

A request passes, in this order: an id and the access log, errors into Statuses, who asks and
whether they may, then the handler of what the path names. Handlers are thin: what happens is in
`resources`, `deletions`, `apply`, `ssa`, `reading`, `core`, `nodes`, `statuses`, `assignments` and
`streams`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiohttp import web

from api.server import crds, discovery, openapi, paths, reviews, status
from api.server.agents import Agents
from api.server.apply import Applier
from api.server.assignments import Assignments
from api.server.audit import Audit
from api.server.auth import (
    CACHE,
    authorize,
    authorize_applying,
    authorize_contents,
    authorize_reading,
    identify,
)
from api.server.authority import AuthorityHandlers
from api.server.core import Core, nothing_at
from api.server.deletions import Deletions
from api.server.entrance import JOIN, Entrance
from api.server.handlers import Handlers
from api.server.images import Images
from api.server.join import Joins, Note, note_nothing
from api.server.keys import KeysHandlers
from api.server.limits import Busy, Limits
from api.server.managers import Managers
from api.server.metrics import Metrics
from api.server.middleware import Handler, access, failures, limited, target_of
from api.server.nodes import HEARTBEAT_SECONDS, Sessions
from api.server.paths import PREFIX
from api.server.payloads import Payloads
from api.server.reading import Reading
from api.server.resources import Clock, Resources, utc_now
from api.server.sealed import Opener
from api.server.sealing import SealingHandlers
from api.server.secrets import SecretVersions
from api.server.statuses import Statuses
from api.server.streams import Streams
from api.server.users import Users
from api.server.watch import QUEUE_BYTES, Watches
from api.store.cache import Cache
from api.store.contract import Store
from api.trust.trust import Trust
from api.types.kinds import SECRET, TASK
from api.types.task import TaskState

MIB = 1024 * 1024
SEALING_KEYS = PREFIX + "sealing-keys"
KEYS = PREFIX + "keys"
SUBRESOURCES = web.AppKey("subresources", frozenset[tuple[str, str]])


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may want otherwise. Sizes in bytes, times in seconds."""

    max_body: int = 3 * MIB  # of one object: a full config in base64 and some
    max_apply_body: int = 64 * MIB  # of a set: what `ctl apply` reads at most, and some
    max_statuses_body: int = 64 * MIB
    heartbeat: float = HEARTBEAT_SECONDS
    watch_queue: int = QUEUE_BYTES  # what a watch's client may be behind before it is cut off
    bookmark: float = 30.0  # how often a quiet watch says where it is
    body_time: float = 60.0  # for a request's body to arrive
    limits: Limits = Limits()
    node_days: float = 90.0  # the life of a node's certificate
    shared_store: bool = False  # whether another manager can reach the store
    keep_alive: float = 10.0  # how often a quiet assignment stream says that it lives
    version: str = "0.1.0"


class Server:
    """The parts, wired together."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        trust: Trust,
        cluster: str,
        components: Callable[[], list[dict[str, Any]]],
        note: Note,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.metrics = Metrics()
        payloads = Payloads(store)
        opener = Opener(trust, cache)
        self._unsubscribe = cache.listen(payloads.heard, kinds={SECRET})
        managers = Managers(cache, lambda: len(trust.managers))
        resources = Resources(store, cache, payloads, opener, managers, clock)
        deletions = Deletions(store, cache, resources)
        self.watches = Watches(cache, queue_bytes=settings.watch_queue)
        self.assignments = Assignments(cache, payloads)
        self.statuses = Statuses(store, cache, resources, self.metrics)
        images = Images(store, cache, resources)
        streams = Streams(cache, self.assignments)
        sessions = Sessions(
            store, cache, resources, cluster, heartbeat=settings.heartbeat, clock=clock
        )
        joins = Joins(
            store,
            cache,
            resources,
            trust,
            cluster,
            note,
            node_days=settings.node_days,
            shared_store=settings.shared_store,
            clock=clock,
        )
        self.entrance = Entrance(cache, trust)
        users = Users(store, cache, resources, trust)
        self.authority = AuthorityHandlers(trust, joins, users, cache)
        self.sealing = SealingHandlers(trust, opener, cluster)
        reading = Reading(store, cache, settings, resources, self.watches)
        self.core = Core(cache, settings, resources, deletions, reading, streams)
        self.handlers = Handlers(
            store=store,
            cache=cache,
            settings=settings,
            cluster=cluster,
            resources=resources,
            deletions=deletions,
            applier=Applier(store, cache, resources, deletions),
            reading=reading,
            agents=Agents(
                settings, sessions, joins, self.statuses, images, self.assignments, streams
            ),
            secrets=SecretVersions(store, cache, payloads, resources, settings),
            streams=streams,
            components=components,
            metrics=self.metrics,
        )
        self.metrics.gauge("skep_api_watchers", "Watches held open.", lambda: self.watches.count)
        self.metrics.gauge(
            "skep_api_nodes", "Assignment streams held open.", lambda: self.assignments.count
        )
        self.metrics.gauge("skep_api_streams", "Logs and execs piped.", lambda: streams.count)
        self.metrics.counts(
            "skep_tasks",
            "Tasks there are, by state.",
            "state",
            lambda: {s.value: cache.count(TASK, "state", s.value) for s in TaskState},
        )
        self.metrics.gauge(
            "skep_cache_revision", "The revision the cache stands at.", lambda: cache.revision
        )

    async def end_streams(self, app: web.Application) -> None:
        """What is held open ends in good order, so that stopping takes no time."""
        self._unsubscribe()
        self.watches.close()
        self.assignments.close()

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """While the application runs."""
        writer = asyncio.create_task(self.statuses.run(), name="statuses")
        yield
        self.entrance.close()
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer


def make_app(
    *,
    store: Store,
    cache: Cache,
    trust: Trust,
    cluster: str,
    components: Callable[[], list[dict[str, Any]]],
    note: Note = note_nothing,
    settings: Settings | None = None,
    clock: Clock = utc_now,
    audit: Audit | None = None,
    keys: KeysHandlers | None = None,
) -> web.Application:
    """The application over a running cache. `cluster` is the cluster's uid; `note` records events;
    no `audit`, no log; no `keys` where the store is not sealed."""
    settings = settings or Settings()
    server = Server(store, cache, trust, cluster, components, note, settings, clock)
    # Bodies are limited where they are read: the limit depends on the path.
    layers = [
        access(server.metrics, audit or Audit(None)),
        failures,
        server.entrance.middleware(),
        limited(Busy(settings.limits)),
    ]
    app = web.Application(middlewares=layers, client_max_size=0)
    app[CACHE] = cache
    app.cleanup_ctx.append(server.running)
    app.on_shutdown.append(server.end_streams)
    handlers = server.handlers
    app[SUBRESOURCES] = handlers.subresources

    async def objects(request: web.Request) -> web.StreamResponse:
        identity = identify(request)
        target = target_of(request)
        authorize(identity, request.method, target)
        if target is None:
            raise status.no_path(request.path)
        authorize_contents(cache, identity, request.method, target)
        return await handlers.object(request, target)

    def known(handler: Handler) -> Handler:
        """For everybody whom the cluster knows."""

        async def handle(request: web.Request) -> web.StreamResponse:
            identify(request)
            return await handler(request)

        return handle

    def readers(handler: Handler) -> Handler:
        """For those with a role in the whole cluster."""

        async def handle(request: web.Request) -> web.StreamResponse:
            authorize_reading(identify(request))
            return await handler(request)

        return handle

    async def apply(request: web.Request) -> web.StreamResponse:
        caller = identify(request)
        authorize_applying(caller)
        return await handlers.apply(request, caller)

    def admins(handler: Handler) -> Handler:
        """For those who may do everything."""

        async def handle(request: web.Request) -> web.StreamResponse:
            authorize(identify(request), request.method, None)
            return await handler(request)

        return handle

    authority = server.authority
    app.router.add_get(JOIN, authority.offer)
    app.router.add_post(JOIN, authority.join)
    app.router.add_post(PREFIX + "certificate", authority.renew)
    app.router.add_post(PREFIX + "users/{name}/certificate", admins(authority.certify))
    app.router.add_get(PREFIX + "tokens/{role}", admins(authority.token))
    app.router.add_post(PREFIX + "tokens/{role}/rotate", admins(authority.rotate_token))
    app.router.add_get(PREFIX + "authority", readers(authority.status))
    app.router.add_post(PREFIX + "authority/rotate", admins(authority.rotate))
    if keys is not None:
        app.router.add_get(KEYS, admins(keys.status))
        app.router.add_post(KEYS + "/rotate", admins(keys.rotate))
        app.router.add_post(KEYS + "/rewrap", admins(keys.rewrap))
        app.router.add_delete(KEYS + "/unusable", admins(keys.discard))
        app.router.add_post(KEYS + "/lock", admins(keys.lock))
        app.router.add_post(KEYS + "/lock/rotate", admins(keys.lock_anew))
        app.router.add_delete(KEYS + "/lock", admins(keys.unlock))
    sealing = server.sealing
    app.router.add_get(SEALING_KEYS, known(sealing.keys))
    app.router.add_post(SEALING_KEYS + "/renew", admins(sealing.renew))
    app.router.add_delete(SEALING_KEYS + "/{id}", admins(sealing.drop))
    app.router.add_post(PREFIX + "sealed/verify", known(sealing.verify))
    app.router.add_post(PREFIX + "sealed/reseal", known(sealing.reseal))
    app.router.add_post(PREFIX + "apply", apply)
    app.router.add_get(PREFIX + "components", readers(handlers.components))
    app.router.add_route("*", PREFIX + "{path:.+}", objects)

    async def pods_and_events(request: web.Request) -> web.StreamResponse:
        caller = identify(request)
        target = target_of(request)
        authorize(caller, request.method, target)
        if target is None:
            raise nothing_at(request.path)
        return await server.core.object(request, target)

    app.router.add_route("*", paths.CORE_PREFIX + "{path:.+}", pods_and_events)
    for feature in (crds, discovery, openapi, reviews):
        feature.add_routes(app, known)
    app.router.add_get("/healthz", known(handlers.healthz))
    app.router.add_get("/readyz", known(handlers.readyz))
    app.router.add_get("/version", known(handlers.version))
    app.router.add_get("/metrics", readers(handlers.metrics))
    return app
