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

from controllers.placement.cluster import NodeInfo
from controllers.placement.constraints import label_of
from controllers.placement.filters import PLENTY, Group, Sieve, explain, room


class Placed:
    """Nodes for the first tasks of the group, in order; the others find none, and this is why."""

    __slots__ = ("nodes", "why")

    def __init__(self, nodes: list[str], why: str) -> None:
        self.nodes = nodes
        self.why = why


def place(group: Group, count: int, sieve: Sieve, now: datetime) -> Placed:
    """Nodes for `count` tasks. The caller then tells the cluster that they are held."""
    passed = sieve(group)
    field = _Field(group, passed.infos, now)
    tree = _grow(group.preferences, field, field.free)
    infos, nodes = passed.infos, []
    for _ in range(count):
        at = tree.take()
        if at < 0:
            break
        nodes.append(infos[at].name)
    if len(nodes) == count:
        return Placed(nodes, "")
    # Whoever had room has given all of it.
    return Placed(nodes, explain(passed.refusals + Counter(room(group, i)[1] for i in infos)))


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


class _Field:
    """The nodes that the group may use, by their number: where each stands, what it has left."""

    __slots__ = ("free", "infos", "rooms", "standing", "steps")

    def __init__(self, group: Group, infos: Sequence[NodeInfo], now: datetime) -> None:
        self.infos = infos
        service, revision = group.service, group.revision
        if group.demand.memory or group.demand.cpus:
            loads = [_load(group, info) for info in infos]
            self.steps = [step for _, step in loads]
        else:
            loads = [(info.tasks, 1) for info in infos]
            self.steps = [1] * len(infos)
        self.standing: list[tuple[int, int, float]] = [
            (
                info.recent_failures(revision, now) if info.failures else 0,
                info.services.get(service, 0),
                load,
            )
            for info, (load, _) in zip(infos, loads, strict=True)
        ]
        self.rooms = [PLENTY] * len(infos)
        self.free: Sequence[int] = range(len(infos))
        if group.limited:
            self.rooms = [room(group, info)[0] for info in infos]
            self.free = [at for at in self.free if self.rooms[at] > 0]


def _load(group: Group, info: NodeInfo) -> tuple[float, float]:
    """The larger share of what the group reserves that is taken, and what one more task adds."""
    demand = group.demand
    load, step = -1.0, 1.0
    for wanted, held, total in (
        (demand.memory, info.memory_held, info.memory),
        (demand.cpus, info.cpus_held, info.cpus),
    ):
        # A node without any has no room either; its load does not matter.
        if wanted and total and held / total > load:
            load, step = held / total, wanted / total
    return load, step


class _Level:
    """The nodes of one branch, in a heap."""

    __slots__ = ("count", "field", "heap")

    def __init__(self, field: _Field, members: Sequence[int]) -> None:
        self.field = field
        self.heap = [(*field.standing[at], at) for at in members]
        self.count: int = sum(entry[1] for entry in self.heap)
        heapq.heapify(self.heap)

    def take(self) -> int:
        """The number of the next task's node; -1 when there is no room left."""
        heap = self.heap
        if not heap:
            return -1
        failures, of_service, load, at = heap[0]
        rooms = self.field.rooms
        rooms[at] -= 1
        if rooms[at]:
            step = self.field.steps[at]
            heapq.heapreplace(heap, (failures, of_service + 1, load + step, at))
        else:
            heapq.heappop(heap)
        return at


class _Branches:
    """Branches side by side: the one with the fewest tasks is next."""

    __slots__ = ("children", "count", "heap")

    def __init__(self, children: Sequence[_Level | _Branches]) -> None:
        self.children = children
        self.count: int = sum(child.count for child in children)
        self.heap = [(child.count, at) for at, child in enumerate(children)]
        heapq.heapify(self.heap)

    def take(self) -> int:
        heap = self.heap
        while heap:
            count, branch = heap[0]
            at = self.children[branch].take()
            if at >= 0:
                heapq.heapreplace(heap, (count + 1, branch))
                return at
            heapq.heappop(heap)
        return -1


def _grow(preferences: Sequence[str], field: _Field, members: Sequence[int]) -> _Level | _Branches:
    if not preferences:
        return _Level(field, members)
    branches: dict[str, list[int]] = {}
    for at in members:
        node = field.infos[at].node
        value = label_of(preferences[0], node) if node is not None else ""
        branches.setdefault(value, []).append(at)
    return _Branches([_grow(preferences[1:], field, branches[value]) for value in sorted(branches)])
