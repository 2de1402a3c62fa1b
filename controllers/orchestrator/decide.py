"""Deciding about a service: from its spec, its tasks and the nodes to what has to change.

`decide` is pure and level-based: it may be called in any state, any number of times, and what it
asks for brings the service closer; when nothing has to change it asks for nothing. Most slots of
a big service are at rest, so those are counted and left in one pass, and only the others are
looked at closely.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from api.types.revision import Revision
from api.types.service import Service
from api.types.task import RANK, TERMINAL, Task, TaskState
from controllers.orchestrator.births import new_revision
from controllers.orchestrator.census import Census, status_of
from controllers.orchestrator.decision import Decision, Note, World
from controllers.orchestrator.rollout import Rollout
from controllers.orchestrator.slots import Key, Slot, group, never_assigned, runs
from controllers.orchestrator.standing import Standing, Standings
from controllers.placement.cluster import is_ready
from controllers.placement.suitable import Requirements

KEPT_REVISIONS = 10

_RUNNING = TaskState.RUNNING
_REMOVE = TaskState.REMOVE


def decide(
    service: Service,
    revision: str,
    tasks: Sequence[Task],
    revisions: Sequence[Revision],
    world: World,
) -> Decision:
    """`revision` is the name of the template's revision; `tasks` and `revisions` are all of the
    service's. Raises ValueError for a spec that can't be read."""
    if service.metadata.deletion_timestamp is not None:
        return cascade(tasks, revisions)
    decision = Decision()
    if all(known.metadata.name != revision for known in revisions):
        decision.revision = new_revision(service, revision, revisions, world.now)
        number = decision.revision.spec.number
        decision.notes.append(Note("Normal", "RevisionCreated", f"revision {number} ({revision})"))
    requirements = Requirements(service.spec.placement)
    standings = Standings(world.nodes, requirements, world.now)
    kept = {known.metadata.name for known in revisions}
    fleet = _Fleet(service, revision, standings)
    if service.spec.mode == "global":
        suitable, untouched = _places(world, requirements)
        fleet.look(tasks, lambda task: task.spec.node, untouched)
        rollout = Rollout(service, revision, kept, len(suitable), world, decision)
        _everywhere(fleet, rollout, suitable, untouched)
    else:
        fleet.look(tasks, lambda task: task.spec.slot, ())
        rollout = Rollout(service, revision, kept, service.spec.replicas, world, decision)
        _scale(fleet, rollout, service.spec.replicas)
    rollout.settle(fleet.slots)
    for wait in standings.waits:
        decision.look_again(wait)
    _count(fleet, rollout, service)
    decision.status = status_of(service, revision, fleet.census, world.now)
    _note_changes(decision)
    _drop_revisions(decision, revision, tasks, revisions)
    return decision


def cascade(tasks: Sequence[Task], revisions: Sequence[Revision]) -> Decision:
    """For a service that is to be deleted, or is gone: its tasks go, then its revisions."""
    decision = Decision()
    for task in tasks:
        if task.status.state in TERMINAL or never_assigned(task):
            decision.delete.append(task)
        elif task.spec.desired_state is not _REMOVE:
            decision.update.append((task, _REMOVE))
    if not tasks:
        decision.drop = list(revisions)
        decision.finished = True
    return decision


class _Fleet:
    """A service's slots: those at rest counted, the others sorted out."""

    def __init__(self, service: Service, revision: str, standings: Standings) -> None:
        self.service = service
        self.revision = revision
        self.standings = standings
        self.census = Census()
        self.resting: dict[Any, Task] = {}  # slots whose one task runs as it should
        self.slots: list[Slot] = []
        self.remains: dict[Any, Slot] = {}  # slots of which only leaving tasks are left

    def look(
        self, tasks: Sequence[Task], key_of: Callable[[Task], Key], untouched: Collection[str]
    ) -> None:
        groups: dict[Any, list[Task]] = group(tasks, key_of)
        revision, standings, known = self.revision, self.standings, self.standings.of
        for key in sorted(groups):
            members = groups[key]
            if len(members) == 1:
                task = members[0]
                spec = task.spec
                if (
                    task.status.state is _RUNNING
                    and spec.desired_state is _RUNNING
                    and spec.revision == revision
                    and (known.get(spec.node) or standings(spec.node)) is Standing.FINE
                    and key not in untouched
                ):
                    self.resting[key] = task
                    continue
            slot = Slot(key, members, revision, standings)
            if slot.present:
                self.slots.append(slot)
            else:
                self.remains[key] = slot
                self.census.leaving += len(slot.leaving)

    def __len__(self) -> int:
        return len(self.resting) + len(self.slots)


def _scale(fleet: _Fleet, rollout: Rollout, replicas: int) -> None:
    """Come to as many slots as replicas; new ones take the lowest free numbers."""
    fleet.census.replicas = replicas
    surplus = len(fleet) - replicas
    if surplus > 0:
        _shrink(fleet, rollout, surplus)
    elif surplus < 0:
        taken = {slot.key for slot in fleet.slots} | fleet.resting.keys()
        number = 0
        for _ in range(-surplus):
            number += 1
            while number in taken:
                number += 1
            slot = fleet.remains.get(number)
            rollout.fill_new(slot or Slot(number, [], fleet.revision, fleet.standings))


def _shrink(fleet: _Fleet, rollout: Rollout, surplus: int) -> None:
    """Remove slots: those that don't run first, then from the fullest nodes, then the highest."""
    idle = sorted((slot for slot in fleet.slots if not slot.up), key=_least_far)[:surplus]
    chosen: set[Key] = {slot.key for slot in idle}
    running: dict[Any, str] = {key: task.spec.node for key, task in fleet.resting.items()}
    for slot in fleet.slots:
        if slot.up and slot.keeper is not None:
            running[slot.key] = slot.keeper.spec.node
        elif slot.up:
            running[slot.key] = slot.draining[0].spec.node
    chosen |= _from_fullest(running, surplus - len(chosen))
    for key in chosen & fleet.resting.keys():
        rollout.stop(fleet.resting.pop(key), _REMOVE)
        fleet.census.leaving += 1
    for slot in fleet.slots:
        if slot.key in chosen:
            fleet.census.leaving += _remove(slot, rollout)
    fleet.slots = [slot for slot in fleet.slots if slot.key not in chosen]
    rollout.decision.notes.append(Note("Normal", "ScaledDown", "removing a replica", count=surplus))


def _least_far(slot: Slot) -> tuple[int, Any]:
    live = [RANK[task.status.state] for task in slot.tasks if task.live and task.wanted]
    return (max(live, default=-1), -slot.key if isinstance(slot.key, int) else slot.key)


def _from_fullest(running: dict[Any, str], count: int) -> set[Key]:
    """`count` slots, each from the node that then has the most of the rest."""
    if count <= 0:
        return set()
    on: dict[str, list[Any]] = {}
    for key in sorted(running):
        on.setdefault(running[key], []).append(key)
    # Of nodes equally full, the one with the highest slot.
    heap = [(-len(keys), -keys[-1], node) for node, keys in on.items()]
    heapq.heapify(heap)
    chosen: set[Key] = set()
    while heap and len(chosen) < count:
        _, _, node = heap[0]
        keys = on[node]
        chosen.add(keys.pop())
        if keys:
            heapq.heapreplace(heap, (-len(keys), -keys[-1], node))
        else:
            heapq.heappop(heap)
    return chosen


def _remove(slot: Slot, rollout: Rollout) -> int:
    """All of a slot goes, history too; how many of its tasks have yet to stop."""
    waiting = 0
    for task in slot.tasks:
        waiting += task.live and not never_assigned(task)
        rollout.stop(task, _REMOVE)
    return waiting


def _places(world: World, requirements: Requirements) -> tuple[set[str], set[str]]:
    """Nodes that a global service is to run on, and those where its tasks stay as they are."""
    suitable: set[str] = set()
    untouched: set[str] = set()
    for name, node in world.nodes.items():
        if node.spec.availability == "drain" or not requirements.met_by(node):
            continue
        if node.spec.availability == "active" and is_ready(node):
            suitable.add(name)
        else:
            # Nobody else can run its task, so nothing is won by ending it.
            untouched.add(name)
    return suitable, untouched


def _everywhere(fleet: _Fleet, rollout: Rollout, suitable: set[str], untouched: set[str]) -> None:
    """One slot for each suitable node, none where a node is gone or does not suit any more."""
    for key in fleet.resting.keys() - suitable:
        rollout.stop(fleet.resting.pop(key), _REMOVE)
        fleet.census.leaving += 1
    census, slots = fleet.census, []
    for slot in fleet.slots:
        if slot.key in suitable:
            slots.append(slot)
        elif slot.key in untouched:
            up = any(map(runs, slot.current)) or any(map(runs, slot.outdated))
            census.replicas += up
            census.running += up
            census.updated += any(map(runs, slot.current))
        else:
            census.leaving += _remove(slot, rollout)
    fleet.slots = slots
    census.replicas += len(suitable)
    for name in sorted(suitable - fleet.resting.keys() - {slot.key for slot in slots}):
        slot = fleet.remains.get(name) or Slot(name, [], fleet.revision, fleet.standings)
        rollout.fill_new(slot)


def _count(fleet: _Fleet, rollout: Rollout, service: Service) -> None:
    census = fleet.census
    census.running += len(fleet.resting)
    census.updated += len(fleet.resting)
    for slot in fleet.slots:
        current = any(map(runs, slot.current))
        up = current or slot.up_otherwise
        census.running += up
        census.updated += current
        census.leaving += len(slot.stopping) + len(slot.leaving)
        if current and not slot.outdated and not slot.draining:
            continue
        if slot.current:
            census.notice(slot.current[0])
        if slot.ended is not None:
            name = slot.ended.metadata.name
            census.notice(slot.ended, rollout.given_up.get(name, ""))
        elif slot.keeper is not None and not up:
            census.notice(slot.keeper)


def _note_changes(decision: Decision) -> None:
    made = Counter(task.spec.revision for task in decision.create)
    for revision, count in made.items():
        decision.notes.append(
            Note("Normal", "TasksCreated", f"created a task of revision {revision}", count)
        )


def _drop_revisions(
    decision: Decision, revision: str, tasks: Sequence[Task], revisions: Sequence[Revision]
) -> None:
    """Keep the newest ones and those that tasks name."""
    if len(revisions) <= KEPT_REVISIONS:
        return
    used = {task.spec.revision for task in tasks}
    used.update(task.spec.revision for task in decision.create)
    used.add(revision)
    oldest = sorted(revisions, key=lambda known: known.spec.number)[:-KEPT_REVISIONS]
    decision.drop = [known for known in oldest if known.metadata.name not in used]
