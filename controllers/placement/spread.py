"""Spreading a group of tasks over nodes: by branches, then by levels.

The nodes that pass the filters are the leaves of a tree with a level for each preference: nodes
with the same value of the label are one branch. Each task goes to the branch with the fewest
tasks of the service, and in it to the next branch, down to the nodes. Among nodes it goes to the
one with, in this order,

    fewest recent failures of this revision (only from five in five minutes on)
    fewest tasks of the service
    the least load: the larger share of CPU or memory reserved where the group reserves any,
                    else the number of tasks

Every branch keeps its children in a heap, so a task costs the logarithm of their number.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from controllers.placement.cluster import Cluster, NodeInfo
from controllers.placement.constraints import label_of
from controllers.placement.filters import Group, explain, refusal, room


class Placed:
    """Nodes for the first tasks of the group, in order; the others find none, and this is why."""

    __slots__ = ("nodes", "why")

    def __init__(self, nodes: list[str], why: str) -> None:
        self.nodes = nodes
        self.why = why


def place(group: Group, count: int, cluster: Cluster, now: datetime) -> Placed:
    """Nodes for `count` tasks. The caller then tells the cluster that they are held."""
    refusals: Counter[str] = Counter()
    leaves: list[_Leaf] = []
    for info in cluster:
        why = refusal(group, info)
        fits = 0
        if why is None:
            fits, why = room(group, info)
        if fits > 0:
            leaves.append(_Leaf(group, info, fits, why or "", now))
        else:
            refusals[why or ""] += 1
    tree = _grow(group.preferences, leaves)
    nodes: list[str] = []
    for _ in range(count):
        leaf = tree.take()
        if leaf is None:
            break
        nodes.append(leaf.name)
    if len(nodes) == count:
        return Placed(nodes, "")
    for leaf in leaves:
        refusals[leaf.why] += 1
    return Placed(nodes, explain(refusals))


def place_on(group: Group, info: NodeInfo | None) -> str | None:
    """Why a task that is bound to that node can't go there now; None: it can."""
    if info is None:
        return "its node is gone"
    if not info.ready:
        return f"node {info.name} is not ready"
    if info.node is not None and info.node.spec.availability != "active":
        return f"node {info.name} is not available for new tasks"
    # A global service has one task a node by itself; a limit would only hinder its replacement.
    fits, why = room(group, info)
    return None if fits > 0 else f"{why} on node {info.name}"


class _Leaf:
    """A node that the group may use, and how many tasks of it more."""

    __slots__ = ("failures", "load", "name", "node", "of_service", "room", "step", "why")

    def __init__(self, group: Group, info: NodeInfo, fits: int, why: str, now: datetime) -> None:
        self.name = info.name
        self.node = info.node
        self.room = fits
        self.why = why
        self.failures = info.recent_failures(group.revision, now) if info.failures else 0
        self.of_service = info.services.get(group.service, 0)
        self.load, self.step = _load(group, info)


def _load(group: Group, info: NodeInfo) -> tuple[float, float]:
    """The node's load, and what one more task adds to it."""
    demand = group.demand
    load, step = -1.0, 1.0
    for wanted, held, total in (
        (demand.memory, info.memory_held, info.memory),
        (demand.cpus, info.cpus_held, info.cpus),
    ):
        if wanted and held / total > load:
            load, step = held / total, wanted / total
    return (load, step) if load >= 0 else (float(info.tasks), 1.0)


class _Level:
    """The nodes of one branch, in a heap."""

    __slots__ = ("count", "heap", "leaves")

    def __init__(self, leaves: Sequence[_Leaf]) -> None:
        self.leaves = leaves
        self.count: int = sum(leaf.of_service for leaf in leaves)
        self.heap = [
            (leaf.failures, leaf.of_service, leaf.load, at) for at, leaf in enumerate(leaves)
        ]
        heapq.heapify(self.heap)

    def take(self) -> _Leaf | None:
        heap = self.heap
        if not heap:
            return None
        failures, of_service, load, at = heap[0]
        leaf = self.leaves[at]
        leaf.room -= 1
        if leaf.room:
            heapq.heapreplace(heap, (failures, of_service + 1, load + leaf.step, at))
        else:
            heapq.heappop(heap)
        return leaf


class _Branches:
    """Branches side by side: the one with the fewest tasks is next."""

    __slots__ = ("children", "count", "heap")

    def __init__(self, children: Sequence[_Level | _Branches]) -> None:
        self.children = children
        self.count: int = sum(child.count for child in children)
        self.heap = [(child.count, at) for at, child in enumerate(children)]
        heapq.heapify(self.heap)

    def take(self) -> _Leaf | None:
        heap = self.heap
        while heap:
            count, at = heap[0]
            leaf = self.children[at].take()
            if leaf is not None:
                heapq.heapreplace(heap, (count + 1, at))
                return leaf
            heapq.heappop(heap)
        return None


def _grow(preferences: Sequence[str], leaves: Sequence[_Leaf]) -> _Level | _Branches:
    if not preferences:
        return _Level(leaves)
    branches: dict[str, list[_Leaf]] = {}
    for leaf in leaves:
        value = label_of(preferences[0], leaf.node) if leaf.node is not None else ""
        branches.setdefault(value, []).append(leaf)
    return _Branches([_grow(preferences[1:], branches[value]) for value in sorted(branches)])
