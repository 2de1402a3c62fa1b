"""What nodes have of generic resources and what of it tasks there have, for tables and describe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from api.types.columns import NONE, Document, field
from api.types.generic import Amount, count
from api.types.kinds import TASK
from api.types.task import TERMINAL

if TYPE_CHECKING:
    from api.calls import Calls

FORBIDDEN = 403


class Held:
    """What the live tasks of each node have."""

    def __init__(self, tasks: Iterable[Document]) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.names: dict[str, dict[str, set[str]]] = {}
        for task in tasks:
            given: Mapping[str, Amount] | None = field(task, "spec", "generic")
            if not given or field(task, "status", "state") in TERMINAL:
                continue
            node = str(field(task, "spec", "node"))
            for kind, amount in given.items():
                self.counts.setdefault(node, Counter())[kind] += count(amount)
                if not isinstance(amount, int):
                    self.names.setdefault(node, {}).setdefault(kind, set()).update(amount)

    def cell(self, node: Document) -> str:
        """`gpu 1/2, licence 0/4`: used and there."""
        name, offered = node["metadata"]["name"], _offered(node)
        used = self.counts.get(name, Counter())
        kinds = sorted(offered.keys() | used.keys())
        return ", ".join(f"{k} {used[k]}/{count(offered.get(k, 0))}" for k in kinds) or NONE

    def lines(self, node: Document) -> Iterator[str]:
        """A line a kind."""
        name, offered = node["metadata"]["name"], _offered(node)
        used = self.counts.get(name, Counter())
        for kind in sorted(offered.keys() | used.keys()):
            amount = offered.get(kind, 0)
            yield f"{kind}: {used[kind]} of {count(amount)} used" + self._named(name, kind, amount)

    def _named(self, node: str, kind: str, amount: Amount) -> str:
        held = self.names.get(node, {}).get(kind, set())
        there = [] if isinstance(amount, int) else amount
        said = ""
        if taken := [name for name in there if name in held]:
            said += f"; used: {', '.join(taken)}"
        if free := [name for name in there if name not in held]:
            said += f"; free: {', '.join(free)}"
        if gone := sorted(held.difference(there)):
            said += f"; used, though the node no longer has them: {', '.join(gone)}"
        return said


async def held(client: Calls, nodes: Iterable[Document]) -> Held | None:
    """None where there is nothing to tell, or who asks may not see all tasks."""
    from api.rest import ApiError

    if not any(_offered(node) for node in nodes):
        return None
    try:
        listing = await client.list(TASK, "")
    except ApiError as error:
        if error.code != FORBIDDEN:
            raise
        return None
    return Held(listing.items)


def _offered(node: Document) -> dict[str, Any]:
    return field(node, "status", "resources", "generic") or {}
