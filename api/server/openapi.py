"""OpenAPI v3 of the API, made of schemas/v1: what kubectl validates and explains with.

What there is besides objects and their common subresources is in `operations`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from aiohttp import web

from api.schema import for_kind
from api.server import admission, operations, patches, status
from api.server.discovery import STATUS_KINDS, verbs_of
from api.server.openapiparts import (
    Document,
    content,
    converted,
    described,
    in_path,
    name,
    one_of,
    query,
    ref,
)  # fmt: skip
from api.server.paths import PREFIX
from api.server.podschema import POD
from api.types.kinds import EVENT, KINDS, SERVICE, Kind
from api.types.meta import API_GROUP

GROUP_PATH = f"apis/{API_GROUP}/v1"


def add_routes(app: web.Application, guard: Any) -> None:
    """`guard` wraps a handler so that whoever has an identity may ask."""

    async def index(request: web.Request) -> web.Response:
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={_rendered(path)[1]}"}
            for path in _DOCUMENTS
        }
        return web.Response(
            body=msgspec.json.encode({"paths": paths}), content_type="application/json"
        )

    async def group(request: web.Request) -> web.Response:
        path = request.match_info["group"]
        if path not in _DOCUMENTS:
            raise status.no_path(request.path)
        text, digest = _rendered(path)
        headers = {"ETag": f'"{digest}"', "Content-Type": "application/json"}
        return web.Response(body=text, headers=headers)

    app.router.add_get("/openapi/v3", guard(index))
    app.router.add_get("/openapi/v3/{group:.+}", guard(group))


@cache
def _rendered(path: str) -> tuple[bytes, str]:
    text = msgspec.json.encode(_DOCUMENTS[path]())
    return text, hashlib.sha256(text).hexdigest()[:32].upper()


def document() -> Document:
    """The group's whole document."""
    paths: Document = {}
    for kind in KINDS:
        paths.update(_paths(kind))
    more = operations.rendered()
    paths.update(more.paths)
    schemas = {name(kind.name): _component(kind) for kind in KINDS}
    schemas |= {name(f"{kind.name}List"): _list(kind) for kind in KINDS}
    schemas |= more.schemas
    schemas |= {
        name("Patch"): {"type": "object", "description": "The fields to change; null: to remove."},
        name("Steps"): _steps(),
        name("Scale"): _scale(),
        name("Status"): {"type": "object", "description": "How a request went, and why."},
        name("DeleteOptions"): _delete_options(),
    }
    return {
        "openapi": "3.0.0",
        "info": {"title": "skep", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def core() -> Document:
    """Of the core group: what its kinds look like, to be explained."""
    event = {**converted(for_kind(EVENT)), "x-kubernetes-group-version-kind": [_core_gvk("Event")]}
    pod = {**POD, "x-kubernetes-group-version-kind": [_core_gvk("Pod")]}
    paths = {
        f"/api/v1/namespaces/{{namespace}}/{plural}/{{name}}": {
            "parameters": [in_path("namespace"), in_path("name")],
            "get": {
                "operationId": f"getCore{kind}",
                "tags": [plural],
                "responses": {
                    "200": described("What there is.", {"$ref": f"#/components/schemas/v1.{kind}"})
                },
                "x-kubernetes-action": "get",
                "x-kubernetes-group-version-kind": _core_gvk(kind),
            },
        }
        for plural, kind in (("pods", "Pod"), ("events", "Event"))
    }
    return {
        "openapi": "3.0.0",
        "info": {"title": "skep", "version": "v1"},
        "paths": paths,
        "components": {"schemas": {"v1.Pod": pod, "v1.Event": event}},
    }


def _core_gvk(kind: str) -> Document:
    return {"group": "", "version": "v1", "kind": kind}


_DOCUMENTS: dict[str, Callable[[], Document]] = {GROUP_PATH: document, "api/v1": core}


def _component(kind: Kind) -> Document:
    return {**converted(for_kind(kind)), "x-kubernetes-group-version-kind": [_gvk(kind)]}


def _list(kind: Kind) -> Document:
    return {
        "type": "object",
        "description": f"{kind.name}s, of one moment.",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "description": "resourceVersion and continue."},
            "items": {"type": "array", "items": ref(kind.name)},
        },
        "x-kubernetes-group-version-kind": [{**_gvk(kind), "kind": f"{kind.name}List"}],
    }


def _steps() -> Document:
    step: Document = {
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"type": "string", "enum": ["add", "remove", "replace", "move", "copy", "test"]},
            "path": {"type": "string"},
            "from": {"type": "string"},
            "value": {"description": "Anything."},
        },
    }
    return {"type": "array", "description": "Changes, one after the other.", "items": step}


def _scale() -> Document:
    replicas: Document = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "description": "How many tasks a service has, and shall have.",
        "properties": {
            "apiVersion": {"type": "string", "enum": ["autoscaling/v1"]},
            "kind": {"type": "string", "enum": ["Scale"]},
            "metadata": {"type": "object", "description": "The service's."},
            "spec": {"type": "object", "properties": {"replicas": replicas}},
            "status": {"type": "object", "properties": {"replicas": replicas}},
        },
        "x-kubernetes-group-version-kind": [
            {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        ],
    }


def _delete_options() -> Document:
    return {
        "type": "object",
        "description": "How to delete.",
        "properties": {
            "dryRun": {"type": "array", "items": {"type": "string", "enum": ["All"]}},
            "gracePeriodSeconds": {"type": "integer", "minimum": 0},
            "propagationPolicy": {
                "type": "string",
                "enum": ["Background", "Foreground", "Orphan"],
            },
            "preconditions": {
                "type": "object",
                "properties": {
                    "uid": {"type": "string"},
                    "resourceVersion": {"type": "string"},
                },
            },
        },
    }


def _gvk(kind: Kind) -> Document:
    return {"group": API_GROUP, "version": "v1", "kind": kind.name}


def _paths(kind: Kind) -> Document:
    """Every path of a kind, with what can be done there."""
    verbs = verbs_of(kind)
    base = f"{PREFIX}namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else ""
    base = base or f"{PREFIX}{kind.plural}"
    inside = [in_path("namespace")] if kind.namespaced else []
    collection: Document = {"parameters": inside, "get": _operation(kind, "list")}
    if "create" in verbs:
        collection["post"] = _operation(kind, "post", body=kind.name, code="201")
    if "deletecollection" in verbs:
        collection["delete"] = _operation(kind, "deletecollection")
    one: Document = {"parameters": [*inside, in_path("name")], "get": _operation(kind, "get")}
    if "update" in verbs:
        one["put"] = _operation(kind, "put", body=kind.name)
        one["patch"] = _operation(kind, "patch")
    if "delete" in verbs:
        one["delete"] = _operation(kind, "delete")
    paths = {base: collection, f"{base}/{{name}}": one}
    if kind.namespaced:
        paths[f"{PREFIX}{kind.plural}"] = {"get": _operation(kind, "list", every=True)}
    if kind in STATUS_KINDS:
        paths[f"{base}/{{name}}/status"] = {
            "parameters": one["parameters"],
            "get": _operation(kind, "get", sub="status"),
            "put": _operation(kind, "put", body=kind.name, sub="status"),
            "patch": _operation(kind, "patch", sub="status"),
        }
    if kind is SERVICE:
        paths[f"{base}/{{name}}/scale"] = {
            "parameters": one["parameters"],
            "get": _operation(kind, "get", sub="scale", answer="Scale"),
            "put": _operation(kind, "put", body="Scale", sub="scale", answer="Scale"),
            "patch": _operation(kind, "patch", sub="scale", answer="Scale"),
        }
    return paths


def _operation(
    kind: Kind,
    action: str,
    *,
    body: str = "",
    code: str = "200",
    sub: str = "",
    every: bool = False,
    answer: str = "",
) -> Document:
    if not answer:
        answer = f"{kind.name}List" if action in ("list", "deletecollection") else kind.name
    id = f"{action}{kind.name}{sub.capitalize()}{'ForAllNamespaces' if every else ''}"
    operation: Document = {
        "operationId": id,
        "tags": [kind.plural],
        "parameters": _queries(action),
        "responses": {
            code: described("What there is.", ref(answer)),
            "default": described("Why not.", ref("Status")),
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind),
    }
    if code == "201":  # dry runs, and apply where the object is there, answer with 200
        operation["responses"]["200"] = operation["responses"][code]
    if action == "patch":
        operation["responses"]["201"] = operation["responses"]["200"]
        operation["requestBody"] = {
            "content": {
                patches.MERGE: {"schema": ref("Patch")},
                patches.JSON: {"schema": ref("Steps")},
                patches.APPLY: {"schema": ref(kind.name)},
            },
            "required": True,
        }
    elif action in ("delete", "deletecollection"):
        operation["requestBody"] = {"content": content(ref("DeleteOptions"))}
        operation["responses"]["200"] = described("What was deleted, or that it was.", {})
    elif body:
        operation["requestBody"] = {"content": content(ref(body)), "required": True}
    return operation


def _queries(action: str) -> list[Document]:
    text: Document = {"type": "string"}
    number: Document = {"type": "integer", "minimum": 0}
    flag: Document = {"type": "boolean"}
    version: Document = {"type": "string", "pattern": "^[0-9]{0,19}$"}
    dry_run = query("dryRun", one_of("All"), "All: every stage, and nothing written.")
    validation = one_of(admission.STRICT, admission.WARN, admission.IGNORE)
    writing = [
        dry_run,
        query("fieldManager", text, "Who writes, for managedFields."),
        query("fieldValidation", validation, "What to do with unknown fields."),
    ]
    if action == "patch":
        return [*writing, query("force", flag, "Take over fields that others manage.")]
    if action in ("post", "put"):
        return writing
    if action == "get":
        return []
    selecting = [
        query("labelSelector", text, "Such as app=web,tier!=back."),
        query("fieldSelector", text, "Such as metadata.name=web."),
    ]
    if action == "list":
        return [
            *selecting,
            query("limit", number, "How many at most; the rest comes with continue."),
            query("continue", text, "The last page's metadata.continue."),
            query("resourceVersion", version, "At least as new as this."),
            query("resourceVersionMatch", one_of("Exact", "NotOlderThan"), "How to take it."),
            query("watch", flag, "Changes, as they happen."),
            query("allowWatchBookmarks", flag, "Say now and then how far a quiet watch is."),
            query("sendInitialEvents", flag, "Begin a watch with what there is."),
            query("timeoutSeconds", number, "When to end a watch."),
        ]
    return [dry_run, *(selecting if action == "deletecollection" else [])]
