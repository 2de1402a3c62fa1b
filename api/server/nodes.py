"""Nodes' sessions: an agent says what its machine is, then that it still lives.

A session is a key on a lease; heartbeats keep the lease, which costs the store no write. When
they stop the lease ends, the key goes, and everyone who watches knows. Leases are remembered
here; a manager that doesn't remember one (it was restarted) finds it at the session's key, so
agents need not notice.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from api import schema
from api.pki.identity import issuer_of
from api.server import admission, status
from api.server.admission import Rejected, timestamp
from api.server.documents import clean
from api.server.resources import Clock, Resources, utc_now
from api.store.cache import Cache, Item
from api.store.contract import ABSENT, Conflict, LeaseGone, Store, Write
from api.store.keys import session_key
from api.types import codec
from api.types.assignment import SessionReply, SessionRequest
from api.types.kinds import NODE
from api.types.node import NodeCertificate, NodeStatus

HEARTBEAT_SECONDS = 5.0
MISSED_PERIODS = 3  # a session ends after that many without a heartbeat
_TRIES = 10


class Sessions:
    """Opens and keeps the sessions of nodes."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        resources: Resources,
        cluster: str,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._cache = cache
        self._resources = resources
        self.cluster = cluster
        self._heartbeat = heartbeat
        self._clock = clock
        self._leases: dict[str, int] = {}

    async def open(
        self, node: str, request: SessionRequest, address: str, shown: Mapping[str, Any]
    ) -> SessionReply:
        """Make the node known, or what it says of itself, and its session live.

        Also the way to say that something about the machine has changed. `shown` is its
        certificate, as `ssl` gives it. Raises Failure, StoreError.
        """
        request.status.certificate = _certificate(shown)
        if not request.status.address:
            request.status.address = address
        await self._declare(node, request)
        lease = await self._lease_of(node)
        if lease is None or not await self._alive(lease):
            lease = await self._store.grant(self._heartbeat * MISSED_PERIODS)
            value = msgspec.json.encode({"since": timestamp(self._clock()), "address": address})
            revision = await self._store.commit([Write(session_key(node), value, lease=lease)])
            await self._resources.seen(revision)
        self._leases[node] = lease
        return SessionReply(heartbeat_seconds=self._heartbeat, cluster=self.cluster)

    async def beat(self, node: str) -> None:
        """A heartbeat. Raises Failure 410 where the session is over, StoreError."""
        lease = await self._lease_of(node)
        if lease is not None:
            try:
                await self._store.keep_alive(lease)
                return
            except LeaseGone:
                self._leases.pop(node, None)
        raise status.Failure(410, "Gone", f"the session of node {node} has ended; begin a new one")

    async def _lease_of(self, node: str) -> int | None:
        known = self._leases.get(node)
        if known is not None:
            return known
        stored = await self._store.get(session_key(node))
        if stored is None or not stored.lease:
            return None
        self._leases[node] = stored.lease
        return stored.lease

    async def _alive(self, lease: int) -> bool:
        try:
            await self._store.keep_alive(lease)
        except LeaseGone:
            return False
        return True

    async def _declare(self, node: str, request: SessionRequest) -> None:
        """The Node object with the agent's status, its conditions kept."""
        for _ in range(_TRIES):
            item = self._cache.get(NODE, "", node)
            write = self._new(node, request) if item is None else _amended(item, request.status)
            if write is None:
                return
            try:
                await self._resources.seen(await self._store.commit([write]))
                return
            except Conflict:
                await self._resources.refresh()
        raise status.conflict(NODE, "", node)

    def _new(self, node: str, request: SessionRequest) -> Write:
        metadata: Mapping[str, Any] = {"name": node, "labels": request.labels}
        document, _ = clean(NODE, "", node, {"metadata": dict(metadata)})
        try:
            admission.check(document)
            draft = admission.draft_new(NODE, schema.default(document), now=self._clock())
            reported = msgspec.structs.replace(request.status, conditions=[])
            draft = admission.draft_status(NODE, msgspec.to_builtins(reported), draft.document)
        except Rejected as error:
            raise status.invalid(NODE, "", node, error.causes) from None
        return self._resources.writes(draft, ABSENT)[0]


def _certificate(shown: Mapping[str, Any]) -> NodeCertificate:
    ends = shown.get("notAfter")
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(ends)), UTC) if ends else None
    return NodeCertificate(authority=issuer_of(shown), expires=expires)


def _amended(item: Item, reported: NodeStatus) -> Write | None:
    """The node with what its agent now says, or None where that is what it said before."""
    had: NodeStatus = item.obj.status
    wanted = msgspec.structs.replace(reported, conditions=had.conditions)
    if wanted == had:
        return None
    return Write(item.key, codec.amended(NODE, item.value, status=wanted), item.revision)
