"""A secret's versions over the API: who holds which, back to one, and the end of one.

    GET     secrets/<name>/holders              the services that use it, and the tasks by version
    POST    secrets/<name>/rollback             {"version": 3}; without one: the one before
    DELETE  secrets/<name>/versions/<version>   its bytes, once nobody holds them

Bytes go from one version to another inside the manager, and never out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from api.server import requests, status, versions
from api.server.paths import Target
from api.server.payloads import Payloads
from api.server.resources import TRIES, Resources
from api.store import holders
from api.store.cache import Cache, Item
from api.store.contract import Conflict, Store, Write
from api.store.keys import payload_key
from api.types import codec
from api.types.kinds import SECRET
from api.types.secret import Holders, Rollback, Secret, VersionHolders
from api.types.task import Task

if TYPE_CHECKING:
    from api.server.app import Settings

_NAMED = 5  # tasks in a sentence


class SecretVersions:
    """Reads and waits as `resources` does."""

    def __init__(
        self, store: Store, cache: Cache, payloads: Payloads, resources: Resources,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._store = store
        self._cache = cache
        self._payloads = payloads
        self._resources = resources
        self._settings = settings

    def by_sub(self) -> dict[tuple[str, str], Callable[..., Awaitable[web.StreamResponse]]]:
        return {
            (SECRET.name, "holders"): self._holders,
            (SECRET.name, "rollback"): self._rollback,
            (SECRET.name, "versions"): self._version,
        }

    async def _holders(self, request: web.Request, target: Target) -> web.Response:
        _only(request, "GET", target, 1)
        namespace, name = target.namespace, target.name
        self._resources.item(SECRET, namespace, name)
        found = holders.by_version(self._cache, namespace, name)
        body = Holders(
            services=holders.users(self._cache, namespace, name),
            secrets=holders.followers(self._cache, namespace, name),
            versions=[
                VersionHolders(version=version, tasks=sorted(t.metadata.name for t in tasks))
                for version, tasks in sorted(found.items())
            ],
        )
        return _answer(msgspec.json.encode(body))

    async def _rollback(self, request: web.Request, target: Target) -> web.Response:
        _only(request, "POST", target, 1)
        document = await requests.document(request, self._settings)
        try:
            wanted = msgspec.convert(document, Rollback).version
        except msgspec.ValidationError as error:
            raise status.bad_request(f'the body is not {{"version": NUMBER}}: {error}') from None
        return _answer(await self.roll_back(target.namespace, target.name, wanted))

    async def _version(self, request: web.Request, target: Target) -> web.Response:
        _only(request, "DELETE", target, 2)
        if not target.sub[1].isdecimal():
            raise status.bad_request(f"{target.sub[1]!r} is no version: they are numbers")
        return _answer(await self.destroy(target.namespace, target.name, int(target.sub[1])))

    async def roll_back(self, namespace: str, name: str, to: int) -> bytes:
        """A new version with the bytes of version `to` (0: of the one before); the secret as it is
        then. Raises Failure, StoreError."""
        for _ in range(TRIES):
            item = self._resources.item(SECRET, namespace, name)
            chosen = _chosen(item, to)
            payload = await self._payloads.get(item, chosen)
            if payload is None:
                raise _not_kept(item, chosen)
            now = self._resources.now()
            current = await self._resources.payload_of(item)
            held = holders.held(self._cache, namespace, name)
            writes = versions.new_version(
                item, payload.data, current, now, held=held, origin=f"version {chosen}"
            )
            if not writes or await self._commit(writes):
                return self._served(namespace, name, item)
        raise status.conflict(SECRET, namespace, name)

    async def destroy(self, namespace: str, name: str, version: int) -> bytes:
        """End a version's bytes; the secret as it is then. Raises Failure, StoreError."""
        for _ in range(TRIES):
            item = self._resources.item(SECRET, namespace, name)
            writes = self._destruction(item, version, self._resources.now())
            if await self._commit(writes):
                return self._served(namespace, name, item)
        raise status.conflict(SECRET, namespace, name)

    def _destruction(self, item: Item, version: int, now: datetime) -> list[Write]:
        """Raises Failure."""
        secret: Secret = item.obj
        namespace, name = item.namespace, item.name
        if version == secret.status.version:
            why = "it is the newest version, which tasks are given; set another value first"
            raise status.conflict(SECRET, namespace, name, why)
        if not secret.status.has(version):
            raise _not_kept(item, version)
        if version in holders.held(self._cache, namespace, name):
            tasks = holders.by_version(self._cache, namespace, name).get(version, [])
            raise status.conflict(SECRET, namespace, name, _held(version, tasks))
        known = [
            msgspec.structs.replace(each, destroyed=now.replace(microsecond=0))
            if each.version == version
            else each
            for each in secret.status.versions
        ]
        after = msgspec.structs.replace(secret.status, versions=known)
        value = codec.amended(SECRET, item.value, status=after)
        gone = Write(payload_key(namespace, name, version), None)
        return [Write(item.key, value, item.revision), gone]

    async def _commit(self, writes: Sequence[Write]) -> bool:
        """Whether it was written; the cache has seen it then. Raises StoreError."""
        try:
            revision = await self._store.commit(writes)
        except Conflict:
            await self._resources.refresh()
            return False
        await self._resources.seen(revision)
        return True

    def _served(self, namespace: str, name: str, before: Item) -> bytes:
        return (self._cache.get(SECRET, namespace, name) or before).served()


def _only(request: web.Request, method: str, target: Target, parts: int) -> None:
    if len(target.sub) != parts:
        raise status.no_path(request.path)
    if request.method != method:
        raise status.not_allowed(request.method, f"{'/'.join(target.sub)} of a secret")


def _chosen(item: Item, to: int) -> int:
    """The version that is meant. Raises Failure."""
    secret: Secret = item.obj
    if to:
        return to
    before = [v.version for v in versions.history(secret.status)[:-1] if v.kept]
    if not before:
        why = "there is no version before the newest one that is kept"
        raise status.conflict(SECRET, item.namespace, item.name, why)
    return before[-1]


def _not_kept(item: Item, version: int) -> status.Failure:
    secret: Secret = item.obj
    there = ", ".join(str(v.version) for v in versions.history(secret.status) if v.kept)
    message = (
        f"version {version} of {status.title(SECRET, item.namespace, item.name)} is not kept"
        f" (there are: {there})"
    )
    return status.Failure(404, "NotFound", message)


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _held(version: int, tasks: Sequence[Task]) -> str:
    if not tasks:
        return f"version {version} may still be gone back to: an update that names it is under way"
    names = sorted(task.metadata.name for task in tasks)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"version {version} is held by tasks {', '.join(names[:_NAMED])}{more}"
