"""Who asks, and whether they may.

Every connection has shown a certificate of the cluster's authority, or is nobody. What it says is
a role of the system (admin, node) or a user's name; a user's rights are in its object. A node may
do what its agent needs, for itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from api.pki.identity import Identity, Role, identity_of, uid_of
from api.server import roles, status
from api.server.paths import Target
from api.store.cache import Cache
from api.types.kinds import NAMESPACE, NODE, SECRET, USER
from api.types.user import Grant, User

NODE_SUBS = frozenset({"session", "heartbeat", "assignments", "statuses", "images", "streams"})
CACHE = web.AppKey("access.cache", Cache)


class Caller(NamedTuple):
    identity: Identity
    grants: tuple[Grant, ...]  # none for a node, whose rights are fixed

    def __str__(self) -> str:
        return str(self.identity)


def identify(request: web.Request) -> Caller:
    """Raises Failure 401."""
    certificate = peer_certificate(request)
    identity = identity_of(certificate)
    if identity is None:
        raise status.unauthorized(
            "the certificate's subject says no role that this server knows; use one that this"
            " cluster's manager issued"
        )
    if identity.role is Role.ADMIN:
        return Caller(identity, (roles.ADMIN,))
    if identity.role is Role.USER:
        return Caller(identity, _grants(request.app[CACHE], identity, certificate or {}))
    return Caller(identity, ())


def peer_certificate(request: web.Request) -> Mapping[str, Any] | None:
    """As `ssl` gives it; None where the client showed none, or is gone."""
    transport = request.transport
    found: Mapping[str, Any] | None = (
        transport.get_extra_info("peercert") if transport is not None else None
    )
    return found


def _grants(cache: Cache, identity: Identity, certificate: Mapping[str, Any]) -> tuple[Grant, ...]:
    """A user's, as long as it is there and knows the certificate. Raises Failure 401."""
    item = cache.get(USER, "", identity.name)
    if item is None or item.obj.metadata.deletion_timestamp is not None:
        raise status.unauthorized(
            f"user {identity.name} does not exist any more; ask an admin for another context file"
        )
    user: User = item.obj
    if not user.status.holder or uid_of(certificate) != user.status.holder:
        raise status.unauthorized(
            f"this certificate of user {identity.name} was withdrawn; ask an admin for another"
            " context file"
        )
    return tuple(user.spec.grants)


def authorize(caller: Caller, method: str, target: Target | None) -> None:
    """Raises Failure 403. `target` None: what is the cluster's own, for admins alone."""
    identity = caller.identity
    if target is None:
        if not roles.allowed_cluster(caller.grants, "update"):
            raise status.forbidden(f"{identity} may not {method} this: it is for admins")
        return
    if target.kind is NODE and target.sub[:1] and target.sub[0] in NODE_SUBS:
        if identity.role is not Role.NODE or identity.name != target.name:
            raise status.forbidden(
                f"only the agent of node {target.name} may use {target.sub[0]}; this is {identity}"
            )
        return
    verb = roles.verb_of(method, target)
    if not roles.allowed(caller.grants, verb, target):
        raise status.forbidden(_why_not(caller, verb, target))


def authorize_reading(caller: Caller) -> None:
    """For what is the cluster's own and no secret, such as its components. Raises Failure 403."""
    if not roles.allowed_cluster(caller.grants, "get"):
        raise status.forbidden(f"{caller} may not read this: it takes a role for the whole cluster")


def authorize_applying(caller: Caller) -> None:
    """Whether anything could be applied at all, before a set is read. Raises Failure 403."""
    if not any(grant.role != "viewer" for grant in caller.grants):
        raise status.forbidden(f"{caller} may not apply anything")


def authorize_contents(cache: Cache, caller: Caller, method: str, target: Target) -> None:
    """Deleting a namespace deletes what is in it, so that has to be allowed too.

    Raises Failure 403.
    """
    if method != "DELETE" or target.kind is not NAMESPACE or target.sub:
        return
    inside = Target(SECRET, target.name)
    if roles.allowed(caller.grants, "delete", inside):
        return
    if not target.name or cache.items(SECRET, target.name):
        raise status.forbidden(
            f"{caller} may not delete namespace {target.name or '(any)'}: it holds secrets, which"
            f" would go with it; {_why_not(caller, 'delete', inside)}"
        )


def refused(caller: Caller, targets: Sequence[Target], method: str) -> list[tuple[int, str]]:
    """Of many, those that the caller may not use so: their places, and why."""
    found = []
    for index, target in enumerate(targets):
        verb = roles.verb_of(method, target)
        if not roles.allowed(caller.grants, verb, target):
            found.append((index, _why_not(caller, verb, target)))
    return found


def _why_not(caller: Caller, verb: str, target: Target) -> str:
    if caller.identity.role in (Role.ADMIN, Role.USER):
        return roles.refusal(str(caller), caller.grants, verb, target)
    return f"{caller} may not {verb} {target}"
