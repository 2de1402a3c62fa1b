"""The filters a node passes before it may run a task; each says why it refuses.

Every filter answers for one node with None or the words of its refusal. The pipeline counts them,
and the counts explain why a task waits:

    no suitable node (insufficient memory on 3 nodes; not available for new tasks on 1 node)

The last filters are about room, and give a number instead: how many tasks of the group still fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from controllers.placement.cluster import Cluster, Demand, NodeInfo
from controllers.placement.suitable import Key, Requirements

PLENTY = 1 << 60
_KEPT = 1000  # different requirements


class Group(msgspec.Struct, frozen=True):
    """Tasks that are alike to placement: one revision of one service."""

    service: str  # namespace/name
    revision: str  # namespace/name
    demand: Demand
    requirements: Requirements
    preferences: tuple[str, ...] = ()  # keys of labels, outermost first
    max_per_node: int = 0  # 0: no limit

    @property
    def limited(self) -> bool:
        """Whether a node can run out of room for it."""
        demand = self.demand
        return bool(
            demand.memory or demand.cpus or demand.ports or demand.generic or self.max_per_node
        )


Filter = Callable[[Group, NodeInfo], str | None]


def ready(_group: Group, info: NodeInfo) -> str | None:
    return None if info.ready else "not ready"


def available(_group: Group, info: NodeInfo) -> str | None:
    node = info.node
    if node is None or node.spec.availability != "active":
        return "not available for new tasks"
    return None


def constraints(group: Group, info: NodeInfo) -> str | None:
    if info.node is None:
        return None
    unmet = group.requirements.unmet(info.node)
    return None if unmet is None else f"constraint {unmet.text.strip()} not met"


def platform(group: Group, info: NodeInfo) -> str | None:
    if info.node is None or group.requirements.runs_on(info.node):
        return None
    return "unsupported platform"


def room(group: Group, info: NodeInfo) -> tuple[int, str]:
    """How many more tasks of the group the node takes, and what it runs out of then."""
    demand = group.demand
    least, why = PLENTY, ""
    if demand.memory:
        least, why = (info.memory - info.memory_held) // demand.memory, "insufficient memory"
    if demand.cpus:
        fits = (info.cpus - info.cpus_held) // demand.cpus
        if fits < least:
            least, why = fits, "insufficient CPUs"
    for kind, wanted in demand.generic:
        stock = info.stocks.get(kind)
        fits = stock.free() // wanted if stock is not None else 0
        if fits < least:
            least, why = fits, f"insufficient {kind}"
        if fits > 0 and stock is not None and kind in demand.devices and not stock.names:
            least, why = 0, f"no names for {kind}"
    if demand.ports and least > 0:
        taken = next((port for port in demand.ports if port in info.ports), None)
        fits = 1 if taken is None else 0
        if fits < least:
            number, protocol = taken or demand.ports[0]
            least, why = fits, f"host port {number}/{protocol} in use"
    if group.max_per_node:
        fits = group.max_per_node - info.services.get(group.service, 0)
        if fits < least:
            least, why = fits, f"limit of {group.max_per_node} per node reached"
    return max(least, 0), why


PIPELINE: tuple[Filter, ...] = (ready, available, constraints, platform)


class Passed(msgspec.Struct, frozen=True):
    """The nodes that pass the pipeline, and how often which filter refused one."""

    infos: list[NodeInfo]
    refusals: Counter[str]


class Sieve:
    """Puts a cluster's nodes through the pipeline, once for all groups that ask the same of them.

    A thousand small services mostly ask the same. What passed is kept until a node changes.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._passed: dict[Key, Passed] = {}
        self._offers = cluster.offers

    def __call__(self, group: Group) -> Passed:
        if self._offers != self._cluster.offers or len(self._passed) >= _KEPT:
            self._passed.clear()
            self._offers = self._cluster.offers
        found = self._passed.get(group.requirements.key)
        if found is None:
            found = self._passed[group.requirements.key] = self._put_through(group)
        return found

    def _put_through(self, group: Group) -> Passed:
        infos: list[NodeInfo] = []
        refusals: Counter[str] = Counter()
        for info in self._cluster:
            why = next((why for one in PIPELINE if (why := one(group, info)) is not None), None)
            if why is None:
                infos.append(info)
            else:
                refusals[why] += 1
        return Passed(infos, refusals)


def explain(refusals: Counter[str]) -> str:
    """Counted refusals in words, the most frequent first."""
    if not refusals:
        return "no suitable node (the cluster has no nodes: join one)"
    parts = [
        f"{why} on {count} {'node' if count == 1 else 'nodes'}"
        for why, count in sorted(refusals.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    return f"no suitable node ({'; '.join(parts)})"
