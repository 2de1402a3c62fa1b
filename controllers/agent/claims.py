"""Who on this node has which of its generic resources: the last guard against two at once.

The scheduler gives what has a name to one task only, and again when that task has ended. But a
task that was given up (its node was lost, it was deleted) may have ended for the managers while
its container still runs here. So a container is not made before those that have the same have
ended, whatever the managers say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from api.types.generic import Claim


class Claims:
    def __init__(self) -> None:
        self._holders: dict[Claim, set[str]] = {}  # task uids; two only where containers say so
        self._held: dict[str, frozenset[Claim]] = {}

    def take(self, uid: str, claims: Iterable[Claim]) -> None:
        """The task has these, or is about to; whoever asks first has to have looked."""
        wanted = frozenset(claims)
        if self._held.get(uid, frozenset()) == wanted:
            return
        self.release(uid)
        if wanted:
            self._held[uid] = wanted
        for claim in wanted:
            self._holders.setdefault(claim, set()).add(uid)

    def release(self, uid: str) -> bool:
        """The task has ended; whether it had any."""
        held = self._held.pop(uid, frozenset())
        for claim in held:
            holders = self._holders[claim]
            holders.discard(uid)
            if not holders:
                del self._holders[claim]
        return bool(held)

    def other(self, uid: str, claims: Collection[Claim]) -> tuple[Claim, str] | None:
        """One of these that another task has, and that task's uid."""
        for claim in claims:
            for holder in self._holders.get(claim, ()):
                if holder != uid:
                    return claim, holder
        return None
