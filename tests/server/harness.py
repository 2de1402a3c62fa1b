"""A server on loopback over real TLS, with a memory store behind it: for tests of any room.

async with running_server() as server:
    async with server.client() as admin:            # Client, as admin
        ...
    async with server.client(node="a") as agent:    # Client, as that node's agent
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from api.client import Client
from api.pki.authority import Authority
from api.pki.credentials import Credentials
from api.pki.identity import Role
from api.pki.tls import client_context, server_context
from api.server import Settings, make_app, serve
from api.server.app import SUBRESOURCES
from api.server.audit import Audit
from api.server.join import Note, note_nothing
from api.server.keys import KeysHandlers
from api.server.listener import Listener
from api.store.cache import Cache
from api.store.contract import ABSENT, Store, Write
from api.store.indexes import standard
from api.store.keys import object_key
from api.store.memory import MemoryStore
from api.trust.trust import Trust
from api.types import codec
from api.types.kinds import NAMESPACE, TASK, Kind
from api.types.meta import Metadata, Object
from api.types.namespace import Namespace
from api.types.task import Task, TaskSpec, TaskState, TaskStatus
from api.vault.key import VaultKey
from api.vault.vault import Vault

CLUSTER = "6d1f2a90-0000-4000-8000-000000000001"


class Running:
    """A server that runs, and what is behind it."""

    def __init__(
        self, store: Store, cache: Cache, authority: Authority, trust: Trust, listener: Listener
    ) -> None:
        self.store = store
        self.cache = cache
        self.authority = authority
        self.trust = trust
        self.listener = listener
        self.routes: list[tuple[str, str]] = []  # method (or *) and path, as the server has them
        self.subresources: frozenset[tuple[str, str]] = frozenset()  # the kind's name, and its own
        self.url = f"https://127.0.0.1:{listener.addresses[0][1]}"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def credentials(self, *, node: str = "", role: Role | None = None) -> Credentials:
        """Of an admin, of a node's agent, or of another role."""
        if node:
            return self.authority.issue(node, Role.NODE)
        return self.authority.issue("admin", role or Role.ADMIN)

    def tls(self, *, node: str = "", role: Role | None = None) -> ssl.SSLContext:
        return client_context(self.credentials(node=node, role=role))

    def client(self, *, node: str = "", patience: float = 3.0) -> Client:
        """To be used with `async with`."""
        return Client(self.url, self.tls(node=node), patience=patience)

    async def put(self, obj: Object) -> int:
        """Store a typed object as a controller would; the cache has it when this returns."""
        kind = _kind_of(obj)
        metadata = obj.metadata
        key = object_key(kind, metadata.namespace, metadata.name)
        item = self.cache.get(kind, metadata.namespace, metadata.name)
        expect = ABSENT if item is None else item.revision
        revision = await self.store.commit([Write(key, codec.encode(obj), expect)])
        await self.cache.caught_up(revision)
        return revision

    async def remove(self, kind: Kind, namespace: str, name: str) -> int:
        revision = await self.store.commit([Write(object_key(kind, namespace, name), None)])
        await self.cache.caught_up(revision)
        return revision


@contextlib.asynccontextmanager
async def running_server(
    *,
    store: Store | None = None,
    authority: Authority | None = None,
    settings: Settings | None = None,
    components: list[dict[str, Any]] | None = None,
    history: int = 20_000,
    audit: Audit | None = None,
    note: Note = note_nothing,
    keys: KeysHandlers | None = None,
) -> AsyncIterator[Running]:
    """A server with namespace `default`; all of it is gone at the end."""
    with TemporaryDirectory(prefix="skep-test-") as scratch:
        authority = authority or Authority.create(Path(scratch))
        store = store or MemoryStore()
        cache = Cache(store, history=history)
        standard(cache)
        follower = asyncio.create_task(cache.run(), name="cache")
        try:
            await cache.synced()
            trust = Trust(store, Vault([VaultKey.new()]))
            await trust.open(authority)
            app = make_app(
                store=store,
                cache=cache,
                trust=trust,
                cluster=CLUSTER,
                components=lambda: components or [],
                settings=settings or Settings(),
                audit=audit,
                note=note,
                keys=keys,
            )
            tls = server_context(authority.issue("manager", Role.MANAGER), strangers=True)
            listener = await serve(app, host="127.0.0.1", port=0, tls=tls)
            try:
                running = Running(store, cache, authority, trust, listener)
                running.routes = [
                    (route.method, route.resource.canonical)
                    for route in app.router.routes()
                    if route.resource is not None
                ]
                running.subresources = app[SUBRESOURCES]
                if cache.get(NAMESPACE, "", "default") is None:
                    await running.put(Namespace(metadata=Metadata(name="default", uid="ns")))
                yield running
            finally:
                await listener.cleanup()
        finally:
            follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follower
            await store.close()


def service(name: str = "web", namespace: str = "default", **template: Any) -> dict[str, Any]:
    """A service's manifest; `template` adds to the task template."""
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": {"image": "demo/web:1", **template}},
    }


def secret(name: str = "password", namespace: str = "default", **texts: str) -> dict[str, Any]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": texts or {"value": "correct horse"},
    }


def config(name: str = "settings", namespace: str = "default", **texts: str) -> dict[str, Any]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name, "namespace": namespace},
        "data": texts or {"app.conf": "debug = false\n"},
    }


def task(
    name: str,
    *,
    node: str = "",
    service: str = "web",
    revision: str = "web-1",
    state: TaskState = TaskState.ASSIGNED,
    desired: TaskState = TaskState.RUNNING,
    namespace: str = "default",
) -> Task:
    """A task as controllers make it; its uid is `uid-<name>`."""
    return Task(
        metadata=Metadata(name=name, namespace=namespace, uid=f"uid-{name}"),
        spec=TaskSpec(service=service, revision=revision, node=node, desired_state=desired),
        status=TaskStatus(state=state),
    )


def changed(obj: Task, **fields: Any) -> Task:
    """A copy with another `node`, `desired_state` or `state`."""
    copy = codec.copy(obj)
    state = fields.pop("state", None)
    copy.spec = msgspec.structs.replace(copy.spec, **fields)
    if state is not None:
        copy.status = msgspec.structs.replace(copy.status, state=state)
    return copy


def _kind_of(obj: Object) -> Kind:
    from api.types.kinds import BY_TYPE

    return BY_TYPE[type(obj)]


__all__ = [
    "CLUSTER",
    "TASK",
    "Running",
    "changed",
    "config",
    "running_server",
    "secret",
    "service",
    "task",
]
