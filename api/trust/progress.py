"""How far the replacing of the cluster's root has come: decided without I/O, from what is stored.

The states, and what leads from one to the next:

    steady    one root. `ctl ca rotate` stores a second one, which the first vouches for.
    moving    both are accepted, the new one signs; certificates go out with its certificate
              as the old root signed it, so that who knows only the old one accepts them too.
              Managers take new server certificates at once. Nodes are asked to renew at their
              heartbeats, `BATCH` at a time. When the last of them shows a certificate of the
              new root, and every manager that lives has one, the old root is dropped: at once,
              or when it has been kept for as long as was asked, for people's sake.

There is no third state and nothing to remember: which nodes have moved is seen from the
certificates they show, so a manager that starts in the middle goes on where things are. A node
that is away holds the end up, by name: it comes back, or is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from api.trust.records import ManagerRecord
from api.types.meta import condition
from api.types.node import Node

BATCH = 20  # nodes that renew at the same time


class Progress(msgspec.Struct, frozen=True):
    moved: int  # nodes
    waiting: list[str]  # for whom, and why
    ask: frozenset[str] = frozenset()  # nodes that are to renew now

    @property
    def done(self) -> bool:
        return not self.waiting


def progress(
    signs: str, nodes: Sequence[Node], managers: Mapping[str, ManagerRecord], *, batch: int = BATCH
) -> Progress:
    """`signs`: the id of the root that all are to have a certificate of."""
    behind = [node for node in nodes if node.status.certificate.authority != signs]
    here = [node.metadata.name for node in behind if _ready(node)]
    waiting = [
        f"node {node.metadata.name}: "
        + (
            "to renew its certificate"
            if _ready(node)
            else "is not ready; bring it back or remove it"
        )
        for node in behind
    ]
    waiting += [
        f"manager {name}: to take a certificate of the new root"
        for name, record in sorted(managers.items())
        if record.signs != signs
    ]
    return Progress(
        moved=len(nodes) - len(behind), waiting=waiting, ask=frozenset(sorted(here)[:batch])
    )


def _ready(node: Node) -> bool:
    found = condition(node.status.conditions, "Ready")
    return found is not None and found.status == "True"
