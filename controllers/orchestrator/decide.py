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
from controllers.orchestrator.census import Census, conditions_of, status_of, turned_status
from controllers.orchestrator.decision import Decision, Note, World
from controllers.orchestrator.dependencies import waiting_conditions, waiting_status
from controllers.orchestrator.jobs import decide_job
from controllers.orchestrator.rollout import Rollout
from controllers.orchestrator.slots import Key, Slot, group, made, never_assigned, runs
from controllers.orchestrator.standing import Standing, Standings
from controllers.orchestrator.update import Course, course_of, finished, note_of
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
    if world.waits_for and not (tasks or revisions):
        status = waiting_status(service, world.newest)
        told = waiting_conditions(world.waits_for)
        status.conditions = conditions_of(service.status.conditions, *told, now=world.now)
        decision.status = status
        return decision
    if all(known.metadata.name != revision for known in revisions):
        decision.revision = new_revision(service, revision, revisions, world.now, world.secrets)
        number = decision.revision.spec.number
        if number > 1:  # the first is no news beside its tasks
            note = Note("Normal", "RevisionCreated", f"revision {number} ({revision})")
            decision.notes.append(note)
    requirements = Requirements(service.spec.placement)
    if service.spec.is_job:
        _decide_job(decision, service, revision, tasks, revisions, world)
        return decision
    everywhere = service.spec.mode == "global"
    suitable, untouched = _places(world, requirements) if everywhere else (set(), set())
    total = len(suitable) if everywhere else service.spec.replicas
    kept = {known.metadata.name for known in revisions} - world.lost
    course = course_of(service, revision, kept, tasks, total, world, decision)
    if course.turned:
        decision.status = turned_status(service, course)
        decision.record = True
        decision.look_again(0)
        return decision
    standings = Standings(world.nodes, requirements, world.now, movable=not everywhere)
    fleet = _Fleet(service, course, standings)
    rollout = Rollout(service, course, kept, world, decision)
    if everywhere:
        fleet.look(tasks, lambda task: task.spec.node, untouched)
        _everywhere(fleet, rollout, suitable, untouched)
    else:
        fleet.look(tasks, lambda task: task.spec.slot, ())
        _scale(fleet, rollout, total)
    rollout.settle(fleet.slots, fleet.starting.values(), fleet.young, fleet.waiting, fleet.unfold)
    for wait in standings.waits:
        decision.look_again(wait)
    _count(fleet, rollout)
    _finish(fleet, rollout, course, world)
    decision.status = status_of(service, course, fleet.census, world)
    _note_changes(decision)
    if not decision.record:
        _drop_revisions(decision, _needed(course), tasks, revisions)
    return decision


def _decide_job(
    decision: Decision,
    service: Service,
    revision: str,
    tasks: Sequence[Task],
    revisions: Sequence[Revision],
    world: World,
) -> None:
    requirements = Requirements(service.spec.placement)
    suitable, _ = _places(world, requirements)
    movable = service.spec.mode != "global-job"
    standings = Standings(world.nodes, requirements, world.now, movable=movable)
    used = decide_job(decision, service, revision, tasks, standings, suitable, world)
    _drop_revisions(decision, {revision, *used}, tasks, revisions)


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
    """A service's slots. Those with one task about which nothing can be doubted are only counted
    and kept by their keys; the others are sorted out, task by task."""

    def __init__(self, service: Service, course: Course, standings: Standings) -> None:
        self.service = service
        self.revision = course.target
        self._watched_since = course.watched_since
        self.standings = standings
        self.census = Census()
        self.resting: dict[Any, Task] = {}  # running as wanted
        self.young: list[Task] = []  # of those, the ones made since the update began
        self.starting: dict[Any, Task] = {}  # on its way to that
        self.waiting: dict[Any, Task] = {}  # running an older revision
        self.slots: list[Slot] = []
        self.remains: dict[Any, Slot] = {}  # slots of which only leaving tasks are left

    def look(
        self, tasks: Sequence[Task], key_of: Callable[[Task], Key], untouched: Collection[str]
    ) -> None:
        groups: dict[Any, list[Task]] = group(tasks, key_of)
        for key in sorted(groups):
            members = groups[key]
            if len(members) == 1 and key not in untouched and self._simple(key, members[0]):
                continue
            slot = self.slot(key, members)
            if slot.present:
                self.slots.append(slot)
            else:
                self.remains[key] = slot
                self.census.leaving += len(slot.leaving)

    def _simple(self, key: Key, task: Task) -> bool:
        spec, state = task.spec, task.status.state
        if spec.desired_state is not _RUNNING or state in TERMINAL:
            return False
        standing = self.standings.of.get(spec.node) or self.standings(spec.node)
        if standing is not Standing.FINE:
            return False
        if spec.revision == self.revision:
            if state is not _RUNNING:
                self.starting[key] = task
                return True
            self.resting[key] = task
            if self._watched_since is not None and made(task) >= self._watched_since:
                self.young.append(task)
        elif state is _RUNNING:
            self.waiting[key] = task
        else:
            return False
        return True

    def slot(self, key: Key, tasks: list[Task]) -> Slot:
        return Slot(key, tasks, self.revision, self.standings)

    def unfold(self, key: Key, task: Task) -> Slot:
        """A slot that was only counted, sorted out."""
        return self.slot(key, [task])

    @property
    def simple(self) -> tuple[dict[Any, Task], ...]:
        return (self.resting, self.starting, self.waiting)

    def keys(self) -> set[Any]:
        return {slot.key for slot in self.slots}.union(*self.simple)

    def __len__(self) -> int:
        return len(self.slots) + sum(map(len, self.simple))


def _scale(fleet: _Fleet, rollout: Rollout, replicas: int) -> None:
    """Come to as many slots as replicas; new ones take the lowest free numbers."""
    fleet.census.replicas = replicas
    surplus = len(fleet) - replicas
    if surplus > 0:
        _shrink(fleet, rollout, surplus)
    elif surplus < 0:
        taken = fleet.keys()
        number = 0
        for _ in range(-surplus):
            number += 1
            while number in taken:
                number += 1
            slot = fleet.remains.get(number)
            rollout.fill_new(slot or fleet.slot(number, []))


def _shrink(fleet: _Fleet, rollout: Rollout, surplus: int) -> None:
    """Remove slots: those that don't run first, then from the fullest nodes, then the highest."""
    fleet.slots += [fleet.unfold(key, task) for key, task in fleet.starting.items()]
    fleet.starting.clear()
    idle = sorted((slot for slot in fleet.slots if not slot.up), key=_least_far)[:surplus]
    chosen: set[Key] = {slot.key for slot in idle}
    running: dict[Any, str] = {key: task.spec.node for key, task in fleet.resting.items()}
    running.update((key, task.spec.node) for key, task in fleet.waiting.items())
    for slot in fleet.slots:
        if slot.up:
            running[slot.key] = (slot.keeper or slot.draining[0]).spec.node
    chosen |= _from_fullest(running, surplus - len(chosen))
    for simple in (fleet.resting, fleet.waiting):
        _retire(fleet, rollout, simple, chosen & simple.keys())
    for slot in fleet.slots:
        if slot.key in chosen:
            fleet.census.leaving += _remove(slot, rollout)
    fleet.slots = [slot for slot in fleet.slots if slot.key not in chosen]
    rollout.decision.notes.append(Note("Normal", "ScaledDown", "removing a replica", surplus))


def _retire(
    fleet: _Fleet, rollout: Rollout, simple: dict[Any, Task], chosen: Collection[Key]
) -> None:
    """Take slots that were only counted out of the service."""
    for key in chosen:
        task = simple.pop(key)
        fleet.census.leaving += not never_assigned(task)
        rollout.stop(task, _REMOVE)


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
    for simple in fleet.simple:
        _retire(fleet, rollout, simple, simple.keys() - suitable)
    census, slots = fleet.census, []
    for slot in fleet.slots:
        if slot.key in suitable:
            slots.append(slot)
        elif slot.key in untouched:
            up = any(map(runs, slot.current)) or any(map(runs, slot.outdated))
            census.replicas += up
            census.running += up
            current = any(map(runs, slot.current))
            census.updated += current
            census.out_of_reach += up and not current
        else:
            census.leaving += _remove(slot, rollout)
    fleet.slots = slots
    census.replicas += len(suitable)
    for name in sorted(suitable - fleet.keys()):
        rollout.fill_new(fleet.remains.get(name) or fleet.slot(name, []))


def _count(fleet: _Fleet, rollout: Rollout) -> None:
    census = fleet.census
    census.running += len(fleet.resting) + len(fleet.waiting)
    census.updated += len(fleet.resting)
    for task in fleet.starting.values():
        if task.status.message or task.status.error:
            census.notice(task)
    for slot in fleet.slots:
        current = any(map(runs, slot.current))
        up = current or slot.up_otherwise
        census.running += up
        census.updated += current
        census.leaving += len(slot.stopping) + len(slot.leaving)
        if current and not slot.outdated and not slot.draining:
            continue
        if slot.ended is not None:
            name = slot.ended.metadata.name
            census.notice(slot.ended, rollout.given_up.get(name, ""))
            if name in rollout.next_try:
                census.notice_wait(slot.ended, rollout.next_try[name])
        elif slot.keeper is not None and not current:
            census.notice(slot.keeper)
            census.notice_retry(slot.keeper, slot.failure)
            if slot.failure is not None:
                census.notice(slot.failure)


def _finish(fleet: _Fleet, rollout: Rollout, course: Course, world: World) -> None:
    """Whether the update is through: each slot runs what it should, or nobody waits for it."""
    census, decision = fleet.census, rollout.decision
    through = (
        census.updated + census.out_of_reach + rollout.idle >= census.replicas
        and census.running <= census.updated + census.out_of_reach
        and not (census.leaving or rollout.proving)
        and not (decision.create or decision.update or decision.delete)
    )
    before = course.update
    finished(course, through, census.updated, census.replicas, world.now)
    if course.update is not None and before is not None and course.update.state != before.state:
        decision.notes.append(note_of(course.update))
        decision.record = True
        decision.look_again(0)


def _note_changes(decision: Decision) -> None:
    made = Counter(task.spec.revision for task in decision.create)
    for revision, count in made.items():
        decision.notes.append(
            Note("Normal", "TasksCreated", f"created a task of revision {revision}", count)
        )


def _needed(course: Course) -> set[str]:
    """Revisions that an update goes to, or may go back to."""
    needed = {course.target}
    if course.update is not None:
        needed |= {course.update.revision, course.update.previous}
    return needed


def _drop_revisions(
    decision: Decision, needed: set[str], tasks: Sequence[Task], revisions: Sequence[Revision]
) -> None:
    """Keep the newest ones, those that tasks name, and those that are needed besides."""
    if len(revisions) <= KEPT_REVISIONS:
        return
    used = {task.spec.revision for task in tasks}
    used.update(task.spec.revision for task in decision.create)
    used |= needed
    oldest = sorted(revisions, key=lambda known: known.spec.number)[:-KEPT_REVISIONS]
    decision.drop = [known for known in oldest if known.metadata.name not in used]
