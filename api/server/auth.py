"""Who asks, and whether they may.

Every connection has shown a certificate of the cluster's authority, or there is no connection.
Admins may do everything but be a node. A node may do what its agent needs, for itself alone.
"""

from __future__ import annotations

from aiohttp import web

from api.pki.identity import Identity, Role, identity_of
from api.server import status
from api.server.paths import Target
from api.types.kinds import NODE

NODE_SUBS = frozenset({"session", "heartbeat", "assignments", "statuses", "streams"})


def identify(request: web.Request) -> Identity:
    """Raises Failure 401."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    identity = identity_of(certificate)
    if identity is None:
        raise status.unauthorized(
            "the certificate's subject says no role that this server knows; use one that this"
            " cluster's manager issued"
        )
    return identity


def authorize(identity: Identity, method: str, target: Target | None) -> None:
    """Raises Failure 403. `target` None: what is about the whole cluster."""
    if target is not None and target.kind is NODE and target.sub[:1] and target.sub[0] in NODE_SUBS:
        if identity != Identity(Role.NODE, target.name):
            raise status.forbidden(
                f"only the agent of node {target.name} may use {target.sub[0]}; this is {identity}"
            )
        return
    if identity.role is not Role.ADMIN:
        what = str(target) if target is not None else "this"
        raise status.forbidden(f"{identity} may not {method} {what}")
