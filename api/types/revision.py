"""A revision: an immutable snapshot of a service's task template, named by its content.

Its image's name may come to stand for something else in the registry, and its tasks start at any
time on any node. So the first node that has the image says its digest, which is kept here, written
once, and run by all later tasks. An image without a digest (made or loaded on the node) has none
here either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from api.types.meta import Object, Struct
from api.types.template import TaskTemplate

_ENCODER = msgspec.json.Encoder(order="deterministic")


class RevisionSpec(Struct, kw_only=True):
    service: str
    number: int  # 1, 2, 3 … in the order they were first wanted
    template: TaskTemplate
    # The version of each secret that tasks are started with, where it is not the secret's oldest:
    # so a service is of the same revision before and after its secret comes to be.
    secrets: dict[str, int] = {}

    def version_of(self, secret: str, oldest: int) -> int:
        """The version of a secret that tasks are given; `oldest`: as `SecretStatus.oldest`."""
        return self.secrets.get(secret, oldest)


class RevisionStatus(Struct, kw_only=True):
    digest: str = ""  # what the image's name stood for when its first task was made; never changes
    node: str = ""  # which found it


class Revision(Object, kw_only=True):
    kind: ClassVar[str] = "Revision"
    spec: RevisionSpec
    status: RevisionStatus = msgspec.field(default_factory=RevisionStatus)


def revision_name(
    service: str, template: TaskTemplate, secrets: Mapping[str, int] | None = None
) -> str:
    """The name the template's revision has: the same content, the same name, on any machine.

    `secrets` as in RevisionSpec.
    """
    content = _ENCODER.encode(template)
    if secrets:
        content += _ENCODER.encode(secrets)
    digest = hashlib.sha256(content).hexdigest()
    return f"{service}-{digest[:10]}"
