"""Discovery: which groups, kinds, verbs and subresources there are, for clients that ask first.

Clients read it in two forms: one list a group (plain), or everything in one answer (aggregated),
which they ask for in the Accept header. Both are made of the one table here. Never listed: the
core group's services, secrets and nodes. A client that knows them would take `services` for
Kubernetes' own, and `kubectl get services` would no longer mean ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from api.server import status
from api.types.kinds import KINDS, NAMESPACE, NODE, REVISION, SERVICE, TASK, Kind
from api.types.meta import API_GROUP

Document = dict[str, Any]

_READ = ("get", "list", "watch")
_DELETE = ("delete", "deletecollection")
_ALL = ("create", *_DELETE, "get", "list", "patch", "update", "watch")
_CHANGE = ("get", "patch", "update")
_CATEGORIES = {SERVICE.name: ("all",), TASK.name: ("all",)}
STATUS_KINDS: Final = (SERVICE, NODE, NAMESPACE)  # whose status a client may write

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"


class Sub(NamedTuple):
    """A subresource. `group`, `version` and `kind` are of what it takes and gives."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


class Resource(NamedTuple):
    plural: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subs: tuple[Sub, ...] = ()

    @property
    def singular(self) -> str:
        return self.kind.lower()


class Group(NamedTuple):
    """One version of one group; `name` is empty for the core group."""

    name: str
    version: str
    resources: tuple[Resource, ...]

    @property
    def group_version(self) -> str:
        return f"{self.name}/{self.version}" if self.name else self.version


def verbs_of(kind: Kind) -> tuple[str, ...]:
    if kind.declared:
        return _ALL
    return _READ if kind is REVISION else (*_DELETE, *_READ)


def _subs(kind: Kind) -> tuple[Sub, ...]:
    found = []
    if kind in STATUS_KINDS:
        found.append(Sub("status", kind.name, _CHANGE))
    if kind is SERVICE:
        found.append(Sub("scale", "Scale", _CHANGE, "autoscaling", "v1"))
    if kind is TASK:
        found.append(Sub("log", kind.name, ("get",)))
        found.append(Sub("exec", kind.name, ("create",)))
    return tuple(found)


def _resource(kind: Kind) -> Resource:
    return Resource(
        kind.plural,
        kind.name,
        kind.namespaced,
        verbs_of(kind),
        kind.short_names,
        _CATEGORIES.get(kind.name, ()),
        _subs(kind),
    )


OWN: Final = Group(API_GROUP, "v1", tuple(_resource(kind) for kind in KINDS))
# `kubectl apply --prune --applyset` lists these to learn what may be the parent of a set.
EXTENSIONS: Final = Group(
    "apiextensions.k8s.io",
    "v1",
    (
        Resource(
            "customresourcedefinitions",
            "CustomResourceDefinition",
            False,
            ("get", "list"),
            ("crd",),
        ),
    ),
)
CORE: Final = Group(
    "",
    "v1",
    (
        Resource(
            "pods",
            "Pod",
            True,
            ("delete", "get", "list", "watch"),
            ("po",),
            (),
            (Sub("log", "Pod", ("get",)), Sub("exec", "PodExecOptions", ("create",))),
        ),
        Resource("events", "Event", True, ("delete", "get", "list", "watch"), ("ev",)),
    ),
)
AUTHENTICATION: Final = Group(
    "authentication.k8s.io",
    "v1",
    (Resource("selfsubjectreviews", "SelfSubjectReview", False, ("create",)),),
)
AUTHORIZATION: Final = Group(
    "authorization.k8s.io",
    "v1",
    (
        Resource("selfsubjectaccessreviews", "SelfSubjectAccessReview", False, ("create",)),
        Resource("selfsubjectrulesreviews", "SelfSubjectRulesReview", False, ("create",)),
    ),
)
GROUPS: Final = (CORE, OWN, EXTENSIONS, AUTHENTICATION, AUTHORIZATION)


def add_routes(app: web.Application, guard: Any, groups: Sequence[Group] = GROUPS) -> None:
    """`guard` wraps a handler so that whoever has an identity may ask."""
    named = [group for group in groups if group.name]
    core = [group for group in groups if not group.name]

    async def list_groups(request: web.Request) -> web.Response:
        return _aggregated(request, named) or _json(group_list(named))

    async def list_core(request: web.Request) -> web.Response:
        return _aggregated(request, core) or _json(_versions(core))

    async def show_group(request: web.Request) -> web.Response:
        name = request.match_info["group"]
        found = next((group for group in named if group.name == name), None)
        if found is None:
            raise status.no_path(request.path)
        return _json({"kind": "APIGroup", "apiVersion": "v1", **_group(found)})

    async def show_version(request: web.Request) -> web.Response:
        wanted = (request.match_info.get("group", ""), request.match_info["version"])
        found = next((g for g in groups if (g.name, g.version) == wanted), None)
        if found is None:
            raise status.no_path(request.path)
        return _json(resource_list(found))

    for path, handler in (
        ("/api", list_core),
        ("/apis", list_groups),
        ("/api/{version}", show_version),
        ("/apis/{group}", show_group),
        ("/apis/{group}/{version}", show_version),
    ):
        app.router.add_get(path, guard(handler))
        app.router.add_get(path + "/", guard(handler))


def group_list(groups: Iterable[Group]) -> Document:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g) for g in groups]}


def resource_list(group: Group) -> Document:
    listed: list[Document] = []
    for resource in group.resources:
        entry: Document = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        listed.append(entry)
        listed += [_listed_sub(resource, sub) for sub in resource.subs]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group.group_version,
        "resources": listed,
    }


def aggregated(groups: Iterable[Group], version: str) -> Document:
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group.name} if group.name else {},
                "versions": [
                    {
                        "version": group.version,
                        "freshness": "Current",
                        "resources": [_discovered(group, each) for each in group.resources],
                    }
                ],
            }
            for group in groups
        ],
    }


def _aggregated(request: web.Request, groups: Sequence[Group]) -> web.Response | None:
    accepted = [part.replace(" ", "") for part in request.headers.get("Accept", "").split(",")]
    for part in accepted:
        for version in ("v2", "v2beta1"):
            form = _AGGREGATED.format(version)
            if part.startswith(form):
                body = msgspec.json.encode(aggregated(groups, version))
                return web.Response(body=body, headers={"Content-Type": form})
    return None


def _discovered(group: Group, resource: Resource) -> Document:
    found: Document = {
        "resource": resource.plural,
        "responseKind": _kind(group.name, group.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    if resource.subs:
        found["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": _kind(
                    sub.group or group.name, sub.version or group.version, sub.kind
                ),
                "verbs": list(sub.verbs),
            }
            for sub in resource.subs
        ]
    return found


def _listed_sub(resource: Resource, sub: Sub) -> Document:
    return {
        "name": f"{resource.plural}/{sub.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        **({"group": sub.group, "version": sub.version} if sub.group else {}),
        "kind": sub.kind,
        "verbs": list(sub.verbs),
    }


def _kind(group: str, version: str, kind: str) -> Document:
    return {"group": group, "version": version, "kind": kind}


def _group(group: Group) -> Document:
    version = {"groupVersion": group.group_version, "version": group.version}
    return {"name": group.name, "versions": [version], "preferredVersion": version}


def _versions(core: Sequence[Group]) -> Document:
    return {
        "kind": "APIVersions",
        "versions": [group.version for group in core],
        "serverAddressByClientCIDRs": [],
    }


def _json(body: Document) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
