"""Objects as JSON documents: what users write is kept as they wrote it.

A document is a dict in the order of its JSON. All here is pure: parse a body, take away what is
the server's to say, merge, encode for the store.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec

from api.schema import quoted
from api.server.status import bad_request
from api.types.kinds import Kind
from api.types.meta import API_VERSION

Document = dict[str, Any]

_TOO_DEEP = "the body is nested too deep: no object has a hundred levels"

# The parts of metadata that are the user's; all else in it is the server's.
_GIVEN = ("name", "namespace", "labels", "annotations", "finalizers", "ownerReferences")


class Preconditions(msgspec.Struct, frozen=True):
    """What must hold of the stored object for a write to happen. Empty: anything."""

    uid: str = ""
    resource_version: str = ""


def parse_json(body: bytes) -> Any:
    """Raises Failure 400. The message never quotes the body: it may hold a secret."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise bad_request(_TOO_DEEP) from None


def require_once(body: bytes) -> None:
    """Of JSON that has been parsed: raises Failure 400 where a field is given twice in an object.

    Parsers take one of them and say nothing, and seldom the one that was meant.
    """
    try:
        json.loads(body, object_pairs_hook=_pairs)
    except RecursionError:
        raise bad_request(_TOO_DEEP) from None


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise bad_request(f"the field {quoted(key)} is given twice")
        seen.add(key)


def as_document(value: Any) -> Document:
    if not isinstance(value, dict):
        raise bad_request("the body must be one JSON object")
    return value


def clean(kind: Kind, namespace: str, name: str, given: Document) -> tuple[Document, Preconditions]:
    """What of a document is the user's, in the stored order; and what they require.

    `namespace` and `name` ("": not said) are the URL's and must not be contradicted. Raises
    Failure 400.
    """
    _same("apiVersion", given.get("apiVersion"), API_VERSION)
    _same("kind", given.get("kind"), kind.name)
    metadata = given.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata must be an object")
    if name:
        _same("metadata.name", metadata.get("name"), name)
    if kind.namespaced:
        _same("metadata.namespace", metadata.get("namespace"), namespace)
    kept = {field: metadata[field] for field in _GIVEN if metadata.get(field) is not None}
    if name:
        kept["name"] = name
    if kind.namespaced:
        kept["namespace"] = namespace
    elif kept.get("namespace") == "":
        del kept["namespace"]
    # Fields that this program doesn't know in metadata are for the schema to refuse.
    unknown = metadata.keys() - set(_GIVEN) - _SERVERS
    kept.update({field: metadata[field] for field in metadata if field in unknown})
    rest = {
        field: value
        for field, value in given.items()
        if field not in ("apiVersion", "kind", "metadata", "status")
    }
    document = {"apiVersion": API_VERSION, "kind": kind.name, "metadata": kept, **rest}
    return document, Preconditions(
        uid=str(metadata.get("uid") or ""),
        resource_version=str(metadata.get("resourceVersion") or ""),
    )


_SERVERS = {
    "uid",
    "resourceVersion",
    "generation",
    "generateName",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
}


def body_of(document: Document) -> Document:
    """All but the envelope: what `generation` counts the changes of."""
    return {
        field: value
        for field, value in document.items()
        if field not in ("apiVersion", "kind", "metadata", "status")
    }


def encode(kind: Kind, document: Document) -> bytes:
    """The bytes to store, as `api.types.codec` wants them."""
    metadata = {k: v for k, v in document["metadata"].items() if k != "resourceVersion"}
    rest = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata")}
    whole = {"apiVersion": API_VERSION, "kind": kind.name, "metadata": metadata, **rest}
    return msgspec.json.encode(whole)


def decode(value: bytes) -> Document:
    document: Document = msgspec.json.decode(value)
    return document


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: null takes a field away, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for field, value in patch.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = merge_patch(merged.get(field), value)
    return merged


def three_way(last: Any, wanted: Any, live: Any) -> Any:
    """`live` with what `wanted` says, and without what only `last` said.

    So a field that was applied before and is no more goes away, and a field that was never
    applied (somebody scaled the service) stays as it is. Lists are replaced as a whole.
    """
    if not isinstance(wanted, dict) or not isinstance(live, dict):
        return copy.deepcopy(wanted)
    said = last if isinstance(last, dict) else {}
    merged = {field: value for field, value in live.items() if field in wanted or field not in said}
    for field, value in wanted.items():
        if field in live:
            merged[field] = three_way(said.get(field), value, live[field])
        else:
            merged[field] = copy.deepcopy(value)
    return merged


def _same(field: str, given: Any, expected: str) -> None:
    if given not in (None, "", expected):
        raise bad_request(f"{field} is {given!r} in the body, but the request is for {expected!r}")
