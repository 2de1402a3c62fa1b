"""What a service waits for before its first task is made."""

from __future__ import annotations

from api.types.meta import Struct

STARTED, HEALTHY, COMPLETED = "started", "healthy", "completed"


class Dependency(Struct, kw_only=True):
    service: str  # in the same namespace
    condition: str = HEALTHY  # started | healthy | completed
