"""The envelope every object shares, in Kubernetes' words.

All structs encode to camelCase JSON and leave out fields that hold their default, so that an
object in the store is as small as what it says. Times are aware `datetime`s in UTC, RFC 3339 in
JSON. `resource_version` is never stored: it is the
store's modification revision, filled in on the way out.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

API_GROUP = "skep.dev"
API_VERSION = f"{API_GROUP}/v1"

# Finalizers of an object that is deleted after what it owns, or without it; Kubernetes' names.
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

NO_BOOK = msgspec.Raw(b"[]")


class Struct(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, gc=False):
    """Base of everything that is stored or sent: trees, in which no cycle can be, and of which
    there are very many. So the garbage collector need not look at them."""


class OwnerReference(Struct, kw_only=True):
    api_version: str = API_VERSION
    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(Struct, kw_only=True):
    name: str = ""
    namespace: str = ""  # empty for Namespace and Node
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []
    # Never looked into but by the server: kept as the bytes that it is.
    managed_fields: msgspec.Raw = NO_BOOK


class Condition(Struct, kw_only=True):
    """One observation of an object. `status` is "True", "False" or "Unknown"."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Object(Struct, kw_only=True):
    """What a kind must have to be stored, watched and indexed.

    apiVersion and kind are the class's, not the object's: `api.types.codec` writes them.
    """

    kind: ClassVar[str]
    metadata: Metadata = msgspec.field(default_factory=Metadata)


def condition(conditions: list[Condition], kind: str) -> Condition | None:
    """The condition of that type, if it is there."""
    return next((c for c in conditions if c.type == kind), None)


def set_condition(conditions: list[Condition], new: Condition, *, now: datetime) -> list[Condition]:
    """`conditions` with `new` in its place; the transition time moves only when status does."""
    old = condition(conditions, new.type)
    same = old is not None and old.status == new.status
    since = old.last_transition_time if old is not None and same else now
    dated = Condition(
        type=new.type,
        status=new.status,
        reason=new.reason,
        message=new.message,
        last_transition_time=since,
    )
    return [c for c in conditions if c.type != new.type] + [dated]
