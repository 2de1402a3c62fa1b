"""URLs of objects, as Kubernetes has them, taken apart.

    /apis/skep.dev/v1/nodes[/<name>[/<sub>…]]
    /apis/skep.dev/v1/namespaces/<namespace>/services[/<name>[/<sub>…]]
    /apis/skep.dev/v1/services                  of all namespaces, to read

    /api/v1/namespaces/<namespace>/pods[/<name>[/<sub>]]     tasks, seen as pods
    /api/v1/namespaces/<namespace>/events[/<name>]

A namespace is itself an object: /namespaces/<name>[/status].
"""

from __future__ import annotations

from typing import NamedTuple

from api.types.kinds import BY_PLURAL, EVENT, NAMESPACE, TASK, Kind
from api.types.meta import API_VERSION

PREFIX = f"/apis/{API_VERSION}/"
CORE_PREFIX = "/api/v1/"
_CORE = {"pods": TASK, "events": EVENT}
_NAMESPACE_SUBS = frozenset({"status"})


class Target(NamedTuple):
    kind: Kind
    namespace: str = ""  # "": none, or all
    name: str = ""  # "": the collection
    sub: tuple[str, ...] = ()  # ("status",), ("streams", "<id>")

    def __str__(self) -> str:
        return "/".join([self.kind.plural, *self.sub[:1]])


def parse(path: str) -> Target | None:
    """What the path below PREFIX is about; None where there is nothing."""
    parts = path.strip("/").split("/")
    if "" in parts:
        return None
    if parts[0] == NAMESPACE.plural and len(parts) > 2 and parts[2] not in _NAMESPACE_SUBS:
        kind = BY_PLURAL.get(parts[2])
        if kind is None or not kind.namespaced:
            return None
        return _target(kind, parts[1], parts[3:])
    kind = BY_PLURAL.get(parts[0])
    if kind is None or (kind.namespaced and len(parts) > 1):
        return None
    return _target(kind, "", parts[1:])


def parse_core(path: str) -> Target | None:
    """What the path below CORE_PREFIX is about; None where there is nothing."""
    parts = path.strip("/").split("/")
    if "" in parts:
        return None
    if parts[0] == NAMESPACE.plural and len(parts) > 2:
        kind = _CORE.get(parts[2])
        return None if kind is None else _target(kind, parts[1], parts[3:])
    kind = _CORE.get(parts[0])
    return None if kind is None or len(parts) > 1 else Target(kind)


def _target(kind: Kind, namespace: str, rest: list[str]) -> Target:
    return Target(kind, namespace, rest[0] if rest else "", tuple(rest[1:]))
