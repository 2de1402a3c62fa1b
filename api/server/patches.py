"""Patches: a change of an object, said as one document or as steps.

A merge patch (RFC 7386) is a document whose fields replace the object's; a JSON patch (RFC 6902) is
a list of steps. Kubernetes' strategic merge patch is not here, as for all kinds that are not built
into Kubernetes: it needs hints in its client's code.

A JSON patch can test and copy, and so could tell what a secret holds: steps that would read a
payload are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jsonpatch
import msgspec

from api.server import payloads, status
from api.server.documents import Document, as_document, merge_patch, parse_json
from api.types.kinds import SECRET, Kind

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
MOST_STEPS = 10_000
_ENVELOPE = ("apiVersion", "kind", "metadata")
_READS = frozenset({"test", "copy", "move"})
_PAYLOAD = frozenset({"data", "stringData", "sealed"})


class Patch(NamedTuple):
    """`change` makes the patched object; it raises Failure where that can't be done."""

    change: Callable[[Document], Document]
    envelope: Document  # what it says of apiVersion, kind and metadata, as a whole document would
    touches_data: bool  # of a secret


def merging(kind: Kind, patch: Document) -> Patch:
    if kind is SECRET:
        patch = payloads.unsealing(payloads.joined(patch))

    def change(whole: Document) -> Document:
        changed = as_document(merge_patch(whole, patch))
        return payloads.resealed(changed) if kind is SECRET else changed

    touches_data = kind is SECRET and ("data" in patch or "sealed" in patch)
    return Patch(change, _envelope(patch), touches_data)


def replacing(document: Document) -> Patch:
    """PUT, seen as a patch: of a part of the object, such as its status."""
    return Patch(lambda _: document, _envelope(document), touches_data=False)


def stepping(kind: Kind, body: bytes, limit: int) -> Patch:
    """A JSON patch. `limit` is how many bytes the object may come to have. Raises Failure."""
    steps = _steps(parse_json(body))
    if kind is SECRET:
        _require_blind(steps)
    touches_data = kind is SECRET and any(_root(step["path"]) in _PAYLOAD for step in steps)

    def change(whole: Document) -> Document:
        if touches_data:
            whole = {**whole, "data": whole.get("data") or {}, "sealed": {}}
        for number, step in enumerate(steps):
            whole = _done(whole, step, number)
            if step["op"] == "copy" and len(msgspec.json.encode(whole)) > limit:
                raise status.too_large(limit)
        changed = as_document(whole)
        return _as_secret(changed) if kind is SECRET else changed

    return Patch(change, {}, touches_data)


def _as_secret(changed: Document) -> Document:
    if changed.get("sealed") == {}:
        changed = {k: v for k, v in changed.items() if k != "sealed"}
    return payloads.resealed(payloads.joined(changed))


def _envelope(document: Document) -> Document:
    return {field: document[field] for field in _ENVELOPE if field in document}


def _steps(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise status.bad_request("a JSON patch must be a list of steps")
    if len(given) > MOST_STEPS:
        raise status.too_large_patch(len(given), MOST_STEPS)
    for number, step in enumerate(given):
        if not (isinstance(step, dict) and isinstance(step.get("path"), str)):
            raise status.bad_request(f"step {number} of the patch must have op and path")
        if step.get("op") not in ("add", "remove", "replace", "move", "copy", "test"):
            raise status.bad_request(
                f"step {number} of the patch: op must be add, remove, replace, move, copy or test"
            )
        if step["op"] in ("add", "replace", "test") and "value" not in step:
            raise status.bad_request(f"step {number} of the patch: {step['op']} needs a value")
        if step["op"] in ("move", "copy") and not isinstance(step.get("from"), str):
            raise status.bad_request(f"step {number} of the patch: {step['op']} needs from")
    return given


def _done(whole: Any, step: dict[str, Any], number: int) -> Any:
    said = f"step {number} of the patch, {step['op']} {step['path']}"
    try:
        return jsonpatch.JsonPatch([step]).apply(whole)
    except jsonpatch.JsonPatchTestFailed:
        raise status.Failure(422, "Invalid", f"{said}: the value is another one") from None
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise status.Failure(422, "Invalid", f"{said}: {error}") from None
    except (TypeError, AttributeError, KeyError, IndexError, ValueError):
        # The library lets these through where a path leads through a value that has no parts.
        raise status.Failure(422, "Invalid", f"{said}: there is no such place") from None


def _require_blind(steps: list[dict[str, Any]]) -> None:
    for number, step in enumerate(steps):
        looks_at = [step["path"], step.get("from", "/")] if step["op"] in _READS else []
        if any(not path or _root(path) in _PAYLOAD for path in looks_at):
            raise status.bad_request(
                f"step {number} of the patch would read the secret's bytes, which the API never"
                " shows; use add, replace and remove on them"
            )


def _root(path: str) -> str:
    return path.split("/")[1] if path.startswith("/") else ""
