"""Requests about the cluster's authority: joining, renewing, tokens, and replacing its root."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from aiohttp import web

from api.pki.authority import expiry
from api.pki.identity import Identity, Role, identity_of, uid_of
from api.pki.tokens import ROLES
from api.server import requests, status
from api.server.auth import identify, peer_certificate
from api.server.join import Joins
from api.server.users import Users
from api.store.cache import Cache
from api.trust.progress import progress
from api.trust.trust import Trust, TrustError
from api.types.join import (
    AuthorityStatus,
    JoinRequest,
    RenewRequest,
    RootStatus,
    TokenReply,
    UserCertificateRequest,
)
from api.types.kinds import NODE

JSON = "application/json"
_MAX_BODY = 64 * 1024  # a request, a token and labels have a few
_JOIN_SECONDS = 10.0  # for a stranger's request to arrive
_JOIN = msgspec.json.Decoder(JoinRequest)
_CERTIFY = msgspec.json.Decoder(UserCertificateRequest)
_RENEW = msgspec.json.Decoder(RenewRequest)


class AuthorityHandlers:
    def __init__(self, trust: Trust, joins: Joins, users: Users, cache: Cache) -> None:
        self._trust = trust
        self._joins = joins
        self._users = users
        self._cache = cache

    async def offer(self, request: web.Request) -> web.Response:
        """Who we say we are. No secret, and no identity is needed for it."""
        return _answer(self._joins.offer())

    async def join(self, request: web.Request) -> web.Response:
        """The token is the identity."""
        body = await requests.body(request, _MAX_BODY, _JOIN_SECONDS)
        wanted: JoinRequest = requests.decoded(_JOIN, body)
        shown = peer_certificate(request)
        node = identity_of(shown) == Identity(Role.NODE, wanted.node)
        uid = uid_of(shown) if node else ""
        return _answer(await self._joins.join(wanted, request.remote or "unknown", uid))

    async def renew(self, request: web.Request) -> web.Response:
        """Who shows a certificate gets the same holder's next one. Raises Failure."""
        caller = identify(request)
        if caller.identity.role not in (Role.NODE, Role.ADMIN, Role.USER):
            raise status.forbidden(
                f"{caller} can't renew its certificate here; an admin issues another one"
            )
        body = await requests.body(request, _MAX_BODY, _JOIN_SECONDS)
        wanted: RenewRequest = requests.decoded(_RENEW, body)
        return _answer(await self._joins.renew(caller.identity, _shown(request), wanted.request))

    async def certify(self, request: web.Request) -> web.Response:
        """A user's certificate."""
        body = await requests.body(request, _MAX_BODY, _JOIN_SECONDS)
        wanted: UserCertificateRequest = requests.decoded(_CERTIFY, body)
        return _answer(await self._users.certify(request.match_info["name"], wanted))

    async def token(self, request: web.Request) -> web.Response:
        role = _role(request)
        return _answer(TokenReply(role=role, token=str(self._trust.token(role))))

    async def rotate_token(self, request: web.Request) -> web.Response:
        role = _role(request)
        return _answer(TokenReply(role=role, token=str(await self._trust.rotate_token(role))))

    async def status(self, request: web.Request) -> web.Response:
        return _answer(self._status())

    async def rotate(self, request: web.Request) -> web.Response:
        try:
            await self._trust.rotate(timedelta(seconds=requests.number(request, "keepSeconds")))
        except TrustError as error:
            raise status.Failure(409, "Conflict", str(error)) from None
        return _answer(self._status())

    def _status(self) -> AuthorityStatus:
        record = self._trust.record
        roots = {authority.id: authority for authority in self._trust.trusted}
        shown = {
            id: RootStatus(id=id, digest=root.digest, expires=expiry(root.ca_pem))
            for id, root in roots.items()
        }
        nodes = [item.obj for item in self._cache.sorted_items(NODE)]
        made = progress(self._trust.signing.id, nodes, self._trust.managers)
        return AuthorityStatus(
            current=shown[record.current],
            next=shown.get(record.next),
            since=record.since,
            keep_until=record.keep_until,
            moved=made.moved,
            nodes=len(nodes),
            waiting=made.waiting if record.next else [],
            managers=[manager.url for manager in self._trust.managers.values()],
            shared_store=self._joins.shared_store,
        )


def _shown(request: web.Request) -> bytes:
    """The certificate of the connection, DER."""
    ssl_object = request.transport.get_extra_info("ssl_object") if request.transport else None
    shown: bytes | None = ssl_object.getpeercert(True) if ssl_object is not None else None
    if not shown:
        raise status.unauthorized("no certificate was shown")
    return shown


def _role(request: web.Request) -> str:
    role = request.match_info["role"]
    if role not in ROLES:
        raise status.Failure(
            404, "NotFound", f"there is no join token for {role!r}; there are {', '.join(ROLES)}"
        )
    return role


def _answer(said: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(said), content_type=JSON)
