"""A namespace: what Swarm calls a stack."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from api.types.meta import Condition, Object, Struct


class NamespaceStatus(Struct, kw_only=True):
    phase: str = "Active"  # Active | Terminating
    conditions: list[Condition] = []


class Namespace(Object, kw_only=True):
    kind: ClassVar[str] = "Namespace"
    status: NamespaceStatus = msgspec.field(default_factory=NamespaceStatus)
