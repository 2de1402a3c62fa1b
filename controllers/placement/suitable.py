"""Whether a service may run on a node at all: its constraints and platforms, not the node's load.

The orchestrator asks this of the nodes its tasks run on (a label may change under them) and to
find where a global service goes; the scheduler asks the same before it looks at resources.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.types.node import Node
from api.types.service import Placement, Platform
from controllers.placement.constraints import Constraint, architecture, parse

Key = tuple[str | tuple[str, str], ...]


class Requirements:
    """A service's placement, parsed once. Raises ValueError for a constraint it can't read."""

    __slots__ = ("constraints", "key", "platforms")

    def __init__(self, placement: Placement) -> None:
        self.constraints: list[Constraint] = [parse(text) for text in placement.constraints]
        self.platforms: Sequence[Platform] = placement.platforms
        # Requirements with the same key are met by the same nodes.
        self.key: Key = (
            *(constraint.text for constraint in self.constraints),
            *((platform.os, platform.architecture) for platform in placement.platforms),
        )

    def met_by(self, node: Node) -> bool:
        return self.unmet(node) is None and self.runs_on(node)

    def unmet(self, node: Node) -> Constraint | None:
        """The first constraint the node does not meet."""
        for constraint in self.constraints:
            if not constraint.met_by(node):
                return constraint
        return None

    def runs_on(self, node: Node) -> bool:
        """Whether the node is of one of the platforms."""
        if not self.platforms:
            return True
        os, arch = node.status.os.lower(), architecture(node.status.architecture)
        return any(
            (not platform.os or platform.os.lower() == os)
            and (not platform.architecture or architecture(platform.architecture) == arch)
            for platform in self.platforms
        )
