"""A revision: an immutable snapshot of a service's task template, named by its content.

Its image's name may come to stand for something else in the registry, and its tasks start at any
time on any node. So the first node that has the image says its digest, which is kept here, written
once, and run by all later tasks. An image without a digest (made or loaded on the node) has none
here either.
"""

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


class RevisionStatus(Struct, kw_only=True):
    digest: str = ""  # what the image's name stood for when its first task was made; never changes
    node: str = ""  # which found it


class Revision(Object, kw_only=True):
    kind: ClassVar[str] = "Revision"
    spec: RevisionSpec
    status: RevisionStatus = msgspec.field(default_factory=RevisionStatus)


def revision_name(service: str, template: TaskTemplate) -> str:
    """The name the template's revision has: the same content, the same name, on any machine."""
    digest = hashlib.sha256(_ENCODER.encode(template)).hexdigest()
    return f"{service}-{digest[:10]}"
