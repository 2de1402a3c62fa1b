"""That a manager stays, whatever is written of nodes' roles.

A manager may also run on a machine that is no node, or a worker: those count by their sign of
life. Of two requests at the same moment each sees the other's node as it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from api.server import status
from api.server.admission import Draft
from api.store.cache import Cache
from api.types.kinds import NODE

MANAGER = "manager"


class Managers:
    """`alive` says how many there are that give a sign of life."""

    def __init__(self, cache: Cache, alive: Callable[[], int]) -> None:
        self._cache = cache
        self._alive = alive

    def require_one_left(self, drafts: Sequence[Draft]) -> None:
        """Of drafts that are written together. Raises Failure 409."""
        roles = {draft.name: _role(draft) for draft in drafts if draft.kind is NODE}
        going = sorted(name for name, role in roles.items() if role != MANAGER and self._is(name))
        if not going:
            return
        there = {item.name for item in self._cache.items(NODE) if item.obj.spec.role == MANAGER}
        coming = {name for name, role in roles.items() if role == MANAGER}
        elsewhere = self._alive() - len(there)
        if not (there | coming).difference(going) and elsewhere <= 0:
            why = (
                "it is the last manager, and nobody would be left to run the cluster; promote"
                " another one first (ctl node promote NAME)"
            )
            raise status.conflict(NODE, "", going[0], why)

    def _is(self, name: str) -> bool:
        item = self._cache.get(NODE, "", name)
        return item is not None and item.obj.spec.role == MANAGER


def _role(draft: Draft) -> str:
    return str(draft.document.get("spec", {}).get("role", "worker"))
