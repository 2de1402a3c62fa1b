"""`kubectl auth whoami` and `can-i`: who asks, and what they may.

kubectl sends these in protobuf, whatever it was told; of that, just what is needed is read here.
The answer is JSON, which it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from aiohttp import web

from api.server import roles, status
from api.server.auth import Caller, identify
from api.server.discovery import CORE, OWN
from api.server.documents import as_document, parse_json
from api.server.paths import Target
from api.types.kinds import BY_PLURAL, EVENT, KINDS, TASK, Kind
from api.types.meta import API_GROUP

Document = dict[str, Any]

_MAGIC: Final = b"k8s\0"
_MOST: Final = 64 * 1024  # bytes of a body
_AUTHENTICATION: Final = "/apis/authentication.k8s.io/v1/"
_AUTHORIZATION: Final = "/apis/authorization.k8s.io/v1/"
# Kubernetes' verbs in those of `roles`.
_VERBS: Final = {"watch": "list", "deletecollection": "delete"}
_EVERY: Final = ("get", "list", "create", "update", "patch", "delete")
_CORE: Final = {"pods": TASK, "events": EVENT}
# Field numbers of the protobuf messages, from Kubernetes' api/authorization/v1/generated.proto.
_RESOURCE: Final = {
    1: "namespace", 2: "verb", 3: "group", 4: "version", 5: "resource", 6: "subresource", 7: "name",
}  # fmt: skip
_PATH: Final = {1: "path", 2: "verb"}


def add_routes(app: web.Application, guard: Any) -> None:
    """`guard` wraps a handler so that whoever has an identity may ask."""

    async def who_am_i(request: web.Request) -> web.Response:
        identity = identify(request).identity
        await _body(request)
        info = {
            "username": identity.name,
            "groups": [identity.role.value, "system:authenticated"],
        }
        return _review("authentication.k8s.io/v1", "SelfSubjectReview", {}, {"userInfo": info})

    async def can_i(request: web.Request) -> web.Response:
        caller = identify(request)
        spec = _spec(await _body(request))
        found = _answer(caller, spec)
        return _review("authorization.k8s.io/v1", "SelfSubjectAccessReview", spec, found)

    async def what_can_i(request: web.Request) -> web.Response:
        caller = identify(request)
        body = await _body(request)
        if body.startswith(_MAGIC):
            named = _texts(_first(_raw(body), 2), {1: "namespace"})
        else:
            named = as_document(parse_json(body)).get("spec") or {}
        namespace = str(named.get("namespace") or "default")
        found = {
            "resourceRules": _rules(caller, namespace),
            "nonResourceRules": [],
            "incomplete": False,
        }
        spec = {"namespace": namespace}
        return _review("authorization.k8s.io/v1", "SelfSubjectRulesReview", spec, found)

    app.router.add_post(_AUTHENTICATION + "selfsubjectreviews", guard(who_am_i))
    app.router.add_post(_AUTHORIZATION + "selfsubjectaccessreviews", guard(can_i))
    app.router.add_post(_AUTHORIZATION + "selfsubjectrulesreviews", guard(what_can_i))


def _answer(caller: Caller, spec: Document) -> Document:
    asked = spec.get("resourceAttributes")
    if not isinstance(asked, dict):
        allowed = roles.allowed_cluster(caller.grants, "get")
        return {"allowed": allowed}
    verb = str(asked.get("verb") or "*")
    targets = list(_targets(asked))
    if not targets:
        what = f"{asked.get('resource')}.{asked.get('group') or 'core'}"
        return {"allowed": False, "reason": f"there are no {what} here"}
    verbs = _EVERY if verb == "*" else (_VERBS.get(verb, verb),)
    for target in targets:
        for each in verbs:
            if not roles.allowed(caller.grants, each, target):
                why = roles.refusal(str(caller), caller.grants, each, target)
                return {"allowed": False, "reason": why}
    return {"allowed": True}


def _targets(asked: Document) -> Iterator[Target]:
    """What is asked about; nothing where there is no such resource."""
    group, resource = str(asked.get("group") or ""), str(asked.get("resource") or "")
    sub = (str(asked["subresource"]),) if asked.get("subresource") else ()
    kinds: list[Kind | None] = []
    if resource == "*":
        kinds = [*KINDS]
    elif group == "":
        kinds = [_CORE.get(resource)]
    elif group in (API_GROUP, "*"):
        kinds = [BY_PLURAL.get(resource)]
    for kind in kinds:
        if kind is not None:
            namespace = str(asked.get("namespace") or "") if kind.namespaced else ""
            yield Target(kind, namespace, str(asked.get("name") or ""), sub)


def _rules(caller: Caller, namespace: str) -> list[Document]:
    found = []
    for group in (CORE, OWN):
        for resource in group.resources:
            kind = _CORE[resource.plural] if group is CORE else BY_PLURAL[resource.plural]
            target = Target(kind, namespace if kind.namespaced else "")
            for sub in (None, *resource.subs):
                at = target if sub is None else target._replace(name="*", sub=(sub.name,))
                possible = resource.verbs if sub is None else sub.verbs
                verbs = [v for v in possible if _may(caller, v, at)]
                if verbs:
                    words = resource.plural if sub is None else f"{resource.plural}/{sub.name}"
                    rule = {"verbs": verbs, "apiGroups": [group.name], "resources": [words]}
                    found.append(rule)
    return found


def _may(caller: Caller, verb: str, target: Target) -> bool:
    return roles.allowed(caller.grants, _VERBS.get(verb, verb), target)


def _review(version: str, kind: str, spec: Document, found: Document) -> web.Response:
    body = {"apiVersion": version, "kind": kind, "metadata": {}, "spec": spec, "status": found}
    return web.Response(status=201, body=msgspec.json.encode(body), content_type="application/json")


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > _MOST:
        raise status.too_large(_MOST)
    data = b""
    async for part in request.content.iter_any():
        data += part
        if len(data) > _MOST:
            raise status.too_large(_MOST)
    return data


def _spec(body: bytes) -> Document:
    """Of a SelfSubjectAccessReview, in either form. Raises Failure 400."""
    if not body.startswith(_MAGIC):
        spec = as_document(parse_json(body)).get("spec")
        return spec if isinstance(spec, dict) else {}
    spec_bytes = _first(_raw(body), 2)
    resource, path = _first(spec_bytes, 1), _first(spec_bytes, 2)
    if resource:
        return {"resourceAttributes": _texts(resource, _RESOURCE)}
    return {"nonResourceAttributes": _texts(path, _PATH)}


# Protobuf, as far as it takes


def _raw(body: bytes) -> bytes:
    """The message in Kubernetes' envelope."""
    return _first(body[len(_MAGIC) :], 2)


def _first(message: bytes, number: int) -> bytes:
    return next((value for field, value in _fields(message) if field == number), b"")


def _texts(message: bytes, names: dict[int, str]) -> Document:
    return {
        names[number]: value.decode(errors="replace")
        for number, value in _fields(message)
        if number in names
    }


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields that have a length, by their number. Raises Failure 400."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise _broken()
                yield tag >> 3, message[at : at + length]
                at += length
            case 5:
                at += 4
            case _:
                raise _broken()


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            raise _broken()
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _broken()


def _broken() -> status.Failure:
    return status.bad_request("the body is neither JSON nor a Kubernetes protobuf message")
