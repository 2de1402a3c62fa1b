"""How a node stands towards the tasks on it, read from its object alone.

A node whose agent sent no heartbeat is lost at once: the node controller says so only after three
periods. One whose engine is down is given time to restart it, as containers may go on without it.

Where no other node could take a lost node's tasks, nothing is won by giving them up: their
containers most likely go on, and the agent that comes back adopts them. They are given up as soon
as there is another node.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime

from api.types.meta import condition
from api.types.node import Node
from controllers.placement.cluster import is_ready
from controllers.placement.suitable import Requirements

ENGINE_GRACE = 30.0  # seconds an engine may be down before its tasks are replaced


class Standing(enum.Enum):
    FINE = "fine"
    MISPLACED = "misplaced"  # it no longer meets the service's constraints
    DRAINING = "draining"
    STRANDED = "stranded"  # lost, and its tasks can't go anywhere else
    LOST = "lost"


class Standings:
    """Answers for one service and one moment; each node is looked at once."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        requirements: Requirements,
        now: datetime,
        *,
        movable: bool = True,
    ) -> None:
        """`movable`: a task's place may be another node."""
        self._nodes = nodes
        self._requirements = requirements
        self._now = now
        self._movable = movable
        self._refuge: bool | None = None  # whether there is a node that could take tasks
        self.of: dict[str, Standing] = {"": Standing.FINE}  # not assigned yet
        self.waits: list[float] = []  # seconds until an engine's grace is over

    def __call__(self, name: str) -> Standing:
        found = self.of.get(name)
        if found is None:
            found = self.of[name] = self._look(name)
        return found

    def _look(self, name: str) -> Standing:
        node = self._nodes.get(name)
        if node is None:
            return Standing.LOST
        left = grace_left(node, self._now)
        if left is not None and left <= 0:
            return Standing.LOST if self._goes_elsewhere() else Standing.STRANDED
        if left is not None:
            self.waits.append(left)
        if node.spec.availability == "drain":
            return Standing.DRAINING
        return Standing.FINE if self._requirements.met_by(node) else Standing.MISPLACED

    def _goes_elsewhere(self) -> bool:
        if self._refuge is None:
            self._refuge = not self._movable or any(
                is_ready(node)
                and node.spec.availability == "active"
                and self._requirements.met_by(node)
                for node in self._nodes.values()
            )
        return self._refuge


def grace_left(node: Node, now: datetime) -> float | None:
    """Seconds until the tasks there count as lost: 0 for now, None while all is well."""
    ready = condition(node.status.conditions, "Ready")
    if ready is None or ready.status == "True":
        return None
    if ready.status == "Unknown":
        return 0.0
    since = ready.last_transition_time or now
    return max(0.0, ENGINE_GRACE - (now - since).total_seconds())
