"""Where a sealed value is good: the more of it is bound, the less a copy can be used for."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import NamedTuple

_NAME = b"skep-seal:v1"
DIGEST_BYTES = 8


class Scope(StrEnum):
    """How far a sealed value may be moved."""

    STRICT = "strict"  # nowhere: one key of one secret of one namespace
    NAMESPACE = "namespace"  # to any secret and key of its namespace
    CLUSTER = "cluster"  # to any secret of the cluster


class Place(NamedTuple):
    """A key of a secret."""

    namespace: str
    name: str
    key: str

    def __str__(self) -> str:
        return f"key {self.key} of secret {self.namespace}/{self.name}"

    def bound(self, scope: Scope) -> bytes:
        """What of the place a value of that scope is bound to, so that no two read the same."""
        parts = {
            Scope.STRICT: (self.namespace, self.name, self.key),
            Scope.NAMESPACE: (self.namespace,),
            Scope.CLUSTER: (),
        }[scope]
        return b"\0".join(part.encode() for part in (scope.value, *parts))

    def info(self, scope: Scope) -> bytes:
        """HPKE's `info`: a value opens with the very same only."""
        return _NAME + b"\0" + self.bound(scope)

    def digest(self, scope: Scope) -> bytes:
        """Tells a value that was moved from one that was damaged, without opening it."""
        return hashlib.sha256(_NAME + b" place\0" + self.bound(scope)).digest()[:DIGEST_BYTES]

    def words(self, scope: Scope) -> str:
        """What a value of that scope is bound to, for people."""
        return {
            Scope.STRICT: str(self),
            Scope.NAMESPACE: f"namespace {self.namespace}",
            Scope.CLUSTER: "the cluster",
        }[scope]
