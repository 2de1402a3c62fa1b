"""Who gets in at all: every path but one wants a certificate that still stands for somebody.

TLS has checked that a certificate which was shown is the cluster's and has not expired. Here is
checked that one was shown, except on the join path, and that the node it was given to is still
one: a node's certificate carries the uid of its Node object, and is good while that is there.
So a node that is removed is out at once, on every manager, and no list of the removed is kept.
(A certificate without a uid was made with the authority's own key in hand; no node has one.)

When a Node goes, the connections of its agent are cut, streams included. The same happens to those
of a user whose rights or certificates are changed, since what is held open was allowed by the old
ones, to connections whose certificate is of a root that is no longer trusted, and to those whose
certificate has expired since: TLS looks at it only when they begin.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Middleware

from api.pki.identity import Identity, Role, identity_of, issuer_of, uid_of
from api.server import status
from api.server.paths import PREFIX
from api.store.cache import DELETED, Cache, CacheEvent
from api.trust.trust import Trust
from api.types.join import RENEW_HEADER
from api.types.kinds import NODE, USER
from api.types.user import User

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

JOIN = PREFIX + "join"
_FEW = 64
_A_LITTLE = 0.5  # seconds: certificates are good to the second, its end included
_LONGEST = 3600.0  # seconds between looks: clocks are set
_PEOPLE = frozenset({Role.ADMIN, Role.USER})


class _Guest(NamedTuple):
    """One connection, and whose it is."""

    transport: asyncio.Transport
    identity: Identity | None
    uid: str
    issuer: str
    renew_from: float  # POSIX time: the middle of its certificate's life
    ends: float  # POSIX time: when that expires


class Entrance:
    def __init__(
        self, cache: Cache, trust: Trust, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._trust = trust
        self._guests: dict[asyncio.Transport, _Guest] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = math.inf  # POSIX time: when the next certificate may expire
        self._prune_at = _FEW  # connections end without a word: look after so many
        self._stops = [
            cache.listen(self._nodes_changed, kinds={NODE}),
            cache.listen(self._users_changed, kinds={USER}),
            trust.listen(self._trust_changed),
        ]

    def close(self) -> None:
        for stop in self._stops:
            stop()
        if self._timer is not None:
            self._timer.cancel()

    def middleware(self) -> Middleware:
        @web.middleware
        async def enter(request: web.Request, handler: Handler) -> web.StreamResponse:
            # By the route that was found, not by the path: that can be written in many ways.
            resource = request.match_info.route.resource
            if resource is None or resource.canonical != JOIN:
                self._admit(request)
            response = await handler(request)
            if not response.prepared and self._should_renew(request):
                response.headers[RENEW_HEADER] = "now"
            return response

        return enter

    def _admit(self, request: web.Request) -> None:
        """Raises Failure 401."""
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        if not certificate:
            raise status.unauthorized(
                "no certificate was shown, and this path wants one that this cluster's manager"
                " issued; a machine gets one with `ctl join`"
            )
        identity = identity_of(certificate)
        if identity is not None and not self._stands(identity, uid_of(certificate)):
            raise status.unauthorized(
                f"node {identity.name} was removed from the cluster, and its certificate with it;"
                " to come back it must join anew with a token"
            )
        if transport is not None and transport not in self._guests:
            self._note(transport, certificate, identity)
        if transport is not None and self._clock() > self._guests[transport].ends:
            raise status.unauthorized(
                "the certificate has expired since this connection began; renew it and try again"
            )

    def _stands(self, identity: Identity, uid: str) -> bool:
        if identity.role is not Role.NODE or not uid:
            return True
        item = self._cache.get(NODE, "", identity.name)
        return item is not None and item.obj.metadata.uid == uid

    # Those who are inside

    def _note(
        self,
        transport: asyncio.Transport,
        certificate: Mapping[str, Any],
        identity: Identity | None,
    ) -> None:
        if len(self._guests) > self._prune_at:
            self._guests = {t: guest for t, guest in self._guests.items() if not t.is_closing()}
            self._prune_at = 2 * len(self._guests) + _FEW
        begun, ends = _life(certificate)
        self._guests[transport] = _Guest(
            transport,
            identity,
            uid_of(certificate),
            issuer_of(certificate),
            (begun + ends) / 2,
            ends,
        )
        self._look(ends)

    def _look(self, ends: float) -> None:
        """Look for expired certificates when this one does, if none does before."""
        if ends >= self._look_at:
            return
        self._look_at = ends
        if self._timer is not None:
            self._timer.cancel()
        wait = min(max(ends - self._clock(), 0) + _A_LITTLE, _LONGEST)
        self._timer = asyncio.get_running_loop().call_later(wait, self._expire)

    def _expire(self) -> None:
        now = self._clock()
        self._cut(lambda guest: guest.ends < now)
        self._look_at = math.inf
        self._look(min((guest.ends for guest in self._guests.values()), default=math.inf))

    def _should_renew(self, request: web.Request) -> bool:
        """A person's certificate is renewed by `ctl` when it is told so; a node's by its agent."""
        guest = self._guests.get(request.transport) if request.transport is not None else None
        if guest is None or guest.identity is None or guest.identity.role not in _PEOPLE:
            return False
        return guest.issuer != self._trust.signing.id or self._clock() > guest.renew_from

    def _nodes_changed(self, events: Sequence[CacheEvent]) -> None:
        removed = {event.item.obj.metadata.uid for event in events if event.type == DELETED}
        if removed:
            self._cut(lambda guest: _is(guest, Role.NODE) and guest.uid in removed)

    def _users_changed(self, events: Sequence[CacheEvent]) -> None:
        names = {
            event.item.name
            for event in events
            if event.type == DELETED
            or (event.old is not None and _lost(event.old.obj, event.item.obj))
        }
        if names:
            self._cut(lambda guest: guest.identity in {Identity(Role.USER, name) for name in names})

    def _trust_changed(self) -> None:
        trusted = {authority.id for authority in self._trust.trusted}
        self._cut(lambda guest: guest.issuer not in trusted)

    def _cut(self, whom: Callable[[_Guest], bool]) -> None:
        for guest in [guest for guest in self._guests.values() if whom(guest)]:
            del self._guests[guest.transport]
            guest.transport.abort()


def _life(certificate: Mapping[str, Any]) -> tuple[float, float]:
    """POSIX times: since when and until when it is good."""
    begun, ends = (
        ssl.cert_time_to_seconds(str(certificate[field])) for field in ("notBefore", "notAfter")
    )
    return begun, ends


def _is(guest: _Guest, role: Role) -> bool:
    return guest.identity is not None and guest.identity.role is role


def _lost(before: User, after: User) -> bool:
    """Whether what was allowed may not be any more."""
    return (
        before.spec.grants != after.spec.grants
        or before.status.holder not in ("", after.status.holder)
        or after.metadata.deletion_timestamp is not None
    )
