"""JSON documents compared: merge patches (RFC 7396), readable forms and unified diffs."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

LAST_APPLIED = "skep.dev/last-applied"
# The server's own fields, which say nothing about what a user wants.
_SYSTEM_METADATA = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "ownerReferences",
    "managedFields",
)


def merge_patch(old: Any, new: Any) -> Any:
    """What turns `old` into `new` as a JSON merge patch; {} where nothing does."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch: Document = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value:
            patch[key] = merge_patch(old[key], value)
    return patch


def declared(obj: Document) -> Document:
    """The part that users declare: without the server's metadata and the status.

    A secret's status stays, as the sizes of its values, because they are all that can be seen.
    """
    kept = copy.deepcopy(obj)
    status = kept.pop("status", None)
    if kept.get("kind") == "Secret" and status:
        kept["sizes"] = status.get("sizes", {})
    metadata = kept.get("metadata", {})
    for key in _SYSTEM_METADATA:
        metadata.pop(key, None)
    annotations = metadata.get("annotations", {})
    annotations.pop(LAST_APPLIED, None)
    if not annotations:
        metadata.pop("annotations", None)
    return kept


def unified(old: str, new: str, name: str) -> Iterator[str]:
    """The lines of a unified diff, as `diff -u` and git write them."""
    return difflib.unified_diff(
        old.splitlines(),
        new.splitlines(),
        fromfile=f"live/{name}",
        tofile=f"applied/{name}",
        lineterm="",
    )
