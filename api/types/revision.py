"""A revision: an immutable snapshot of a service's task template, named by its content."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import msgspec

from api.types.meta import Object, Struct
from api.types.template import TaskTemplate

_ENCODER = msgspec.json.Encoder(order="deterministic")


class RevisionSpec(Struct, kw_only=True):
    service: str
    number: int  # 1, 2, 3 … in the order they were first wanted
    template: TaskTemplate


class Revision(Object, kw_only=True):
    kind: ClassVar[str] = "Revision"
    spec: RevisionSpec


def revision_name(service: str, template: TaskTemplate) -> str:
    """The name the template's revision has: the same content, the same name, on any machine."""
    digest = hashlib.sha256(_ENCODER.encode(template)).hexdigest()
    return f"{service}-{digest[:10]}"
