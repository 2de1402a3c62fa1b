"""What each role may do, decided without I/O.

    admin      everything
    operator   all but writing secrets and users, and what is the cluster's own (keys, tokens)
    viewer     reading, logs too; running nothing

A grant that names namespaces is good for what is in them and for looking at the namespaces
themselves. Who may run services can have them use the secrets of their namespace, as everywhere:
roles keep secrets from being replaced and deleted, need-to-know keeps them from being read.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.server.paths import Target
from api.types.kinds import NAMESPACE, SECRET, USER
from api.types.user import Grant

ADMIN = Grant(role="admin")

_READING = frozenset({"get", "list"})
_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
# What an upgraded GET does in truth.
_RUNS = frozenset({"exec", "attach", "portforward"})


def verb_of(method: str, target: Target) -> str:
    """What a request of that method does to the target, in Kubernetes' verbs."""
    if target.sub[:1] and target.sub[0] in _RUNS:
        return "create"
    verb = _VERBS.get(method, method.lower())
    return "list" if verb == "get" and not target.name else verb


def allowed(grants: Sequence[Grant], verb: str, target: Target) -> bool:
    """Whether any of the grants covers it."""
    return any(
        _covers(grant, verb, target) and _permits(grant.role, verb, target) for grant in grants
    )


def allowed_cluster(grants: Sequence[Grant], verb: str) -> bool:
    """Whether what is the cluster's own may be read (`get`), or changed (any other verb)."""
    everywhere = [grant.role for grant in grants if not grant.namespaces]
    return "admin" in everywhere or (verb in _READING and bool(everywhere))


def refusal(who: str, grants: Sequence[Grant], verb: str, target: Target) -> str:
    """Why not, and what the caller may do instead."""
    what = f"{verb} {target}"
    if target.name:
        what += f" {target.namespace}/{target.name}" if target.namespace else f" {target.name}"
    elif target.namespace:
        what += f" in namespace {target.namespace}"
    elif target.kind.namespaced:
        what += " of all namespaces"
    return f"{who} may not {what}; {_has(grants)}"


def _has(grants: Sequence[Grant]) -> str:
    if not grants:
        return "it has no role: an admin grants one with `ctl edit user`"
    said = [
        f"{grant.role} in {', '.join(grant.namespaces)} (use -n)"
        if grant.namespaces
        else grant.role
        for grant in grants
    ]
    return f"it is {' and '.join(said)}"


def _covers(grant: Grant, verb: str, target: Target) -> bool:
    if not grant.namespaces:
        return True
    if target.kind is NAMESPACE:
        return verb == "get" and target.name in grant.namespaces
    return target.kind.namespaced and target.namespace in grant.namespaces


def _permits(role: str, verb: str, target: Target) -> bool:
    if role == "admin":
        return True
    if target.kind is USER and target.sub:
        return False
    if verb in _READING:
        return True
    return role == "operator" and target.kind not in (SECRET, USER)
