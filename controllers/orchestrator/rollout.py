"""Bringing a service's slots to where they should be, a few at a time.

What must hold, whatever state the slots are found in:

- Each slot comes to one live, wanted task of the wanted revision on a fitting node.
- At most `parallelism` slots are under way to the wanted revision: they have a task of it that
  does not run yet or not for long enough, failed, or waits for the old one to stop. A revision
  that never runs therefore gets no further than that, and the rollout stands still by itself.
- A running task is only stopped for the rollout while fewer than `parallelism` slots are down,
  whatever they are down for. Slots whose failure is tolerated count for neither, nor do those
  that have done their work and are not started again.
- While it is held, no task is stopped for the rollout, and new slots get what the others had.
- A slot that has to be replaced for another reason (its node is lost, it failed) while no share
  of the parallelism is free gets the revision that it had.
- Lost nodes' tasks are replaced at once. Draining nodes' tasks stay until their replacement
  runs, but no longer than `PATIENCE`.
- A replacement starts when the old task is over, or `PATIENCE` after it was told to stop.

A slot whose only task never found a node takes no share: it was not taken from anyone, and room
for it may only come from the rollout going on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from api.types.service import Service
from api.types.task import TERMINAL, Task, TaskState
from controllers.orchestrator.births import new_task
from controllers.orchestrator.decision import Decision, Note, World
from controllers.orchestrator.restart import Policy, Verdict, verdict
from controllers.orchestrator.slots import Slot, made, never_assigned, runs
from controllers.orchestrator.update import Course, proves_until

PATIENCE = 60.0  # seconds; SwarmKit's

_SHUTDOWN = TaskState.SHUTDOWN
_REMOVE = TaskState.REMOVE


class Rollout:
    """One decision's work on the slots that are not at rest."""

    def __init__(
        self, service: Service, course: Course, kept: Collection[str], world: World,
        decision: Decision,
    ) -> None:  # fmt: skip
        self.service = service
        self.revision = course.target
        self.decision = decision
        self._course = course
        self._kept = kept  # revisions that can still be made tasks of
        self._world = world
        self._policy = Policy.of(service.spec.restart)
        self._parallelism = course.pace.parallelism
        self._start_first = course.pace.start_first
        self._free = 0 if course.held else self._parallelism  # shares of the parallelism
        self._down = 0  # slots that don't run
        self.idle = 0  # slots that don't run, which holds nobody up
        self.proving = 0  # slots whose new task runs, but not for long enough
        self.given_up: dict[str, str] = {}  # tasks that are not replaced, and why
        self.next_try: dict[str, Verdict] = {}  # tasks whose replacement waits

    def settle(
        self,
        slots: Sequence[Slot],
        starting: Iterable[Task],
        young: Iterable[Task],
        waiting: Mapping[Any, Task],
        unfold: Callable[[Any, Task], Slot],
    ) -> None:
        """`slots` in the order in which they take their turn. Of slots with one simple task only
        the task is given: `starting` as it is wanted, `young` if it began to run since the update
        did, or `waiting` to be replaced."""
        on_their_way = sum(not never_assigned(task) for task in starting)
        self._free -= on_their_way
        self._down += on_their_way
        self._free -= sum(map(self._proves, young))
        for slot in slots:
            self._tidy(slot)
            if not slot.up and (slot.key in self._course.tolerated or self._done(slot)):
                self.idle += 1
                continue
            self._free -= self._under_way(slot)
            self._down += not slot.up and not slot.fresh
        for slot in slots:
            self._pair(slot)
            if slot.keeper is None:
                self._fill(slot)
        outdated = [slot for slot in slots if slot.outdated and not slot.current]
        outdated.sort(key=lambda slot: (not slot.fresh, slot.up))
        for slot in outdated:
            self._replace(slot)
        for key, task in waiting.items():
            if not self._may_replace(goes_down=not self._start_first):
                break
            self._replace(unfold(key, task))

    def stop(self, task: Task, desired: TaskState = _SHUTDOWN) -> None:
        """Have it stopped; what never reached a node is just deleted."""
        if never_assigned(task) or (desired is _REMOVE and task.status.state in TERMINAL):
            self.decision.delete.append(task)
        elif task.spec.desired_state is not desired:
            self.decision.update.append((task, desired))

    def fill_new(self, slot: Slot) -> None:
        """A slot that has no task yet, but perhaps one of an earlier life that still leaves."""
        if self._all_over(slot.leaving):
            self._create(slot, self._course.newcomers)

    def _tidy(self, slot: Slot) -> None:
        """Leave one task of a sort, and tell the lost ones to stop should their node return."""
        for extra in (*slot.current[1:], *slot.outdated[1:]):
            self.stop(extra)
        del slot.current[1:], slot.outdated[1:]
        for task in slot.lost:
            self.stop(task)
            self.decision.notes.append(
                Note("Warning", "NodeLost", f"node {task.spec.node} is lost: replacing its task")
            )

    def _under_way(self, slot: Slot) -> bool:
        """Whether the slot has a share of the parallelism."""
        if slot.current:
            task = slot.current[0]
            return self._proves(task) if runs(task) else not slot.fresh
        ended, last = slot.ended, slot.last
        if ended is not None and ended.spec.revision == self.revision:
            return True
        if slot.outdated or slot.up:
            return False
        return bool(slot.stopping) or (last is not None and last.spec.revision == self.revision)

    def _done(self, slot: Slot) -> bool:
        """Whether it has done what it was wanted for, and is not started again."""
        ended = slot.ended
        return (
            ended is not None
            and ended.status.state is TaskState.COMPLETE
            and ended.spec.revision == self.revision
            and self._policy.condition != "any"
        )

    def _proves(self, task: Task) -> bool:
        """Whether a running task is still watched; asks to look again when it won't be."""
        since = self._course.watched_since
        if since is None or made(task) < since:
            return False
        until = proves_until(task, self._course.pace, self._world)
        left = (until - self._world.now).total_seconds()
        if left <= 0:
            return False
        self.decision.look_again(left)
        self.proving += 1
        return True

    def _pair(self, slot: Slot) -> None:
        """Stop what has been replaced."""
        keeper = slot.keeper
        if keeper is None:
            return
        if slot.current and slot.outdated and (runs(keeper) or not self._start_first):
            self.stop(slot.outdated[0])
        for task in slot.draining:
            since = self._world.observed.draining.get(task.spec.node, self._world.now)
            if runs(keeper) or not runs(task) or self._past(since):
                self.stop(task)

    def _fill(self, slot: Slot) -> None:
        """No task that may stay: make one, when it is time."""
        for task in slot.draining:
            since = self._world.observed.draining.get(task.spec.node, self._world.now)
            if not runs(task) or self._past(since):
                self.stop(task)
        ended = slot.ended
        if ended is not None:
            self._restart(slot, ended)
        elif slot.lost or slot.draining or self._all_over(slot.stopping):
            last = slot.last.spec if slot.last is not None else None
            restarts, failures = (last.restarts, last.failures) if last is not None else (0, 0)
            self._create(slot, self._grant(slot), restarts, failures)

    def _restart(self, slot: Slot, ended: Task) -> None:
        """After a task that ended by itself."""
        fix = ended.spec.revision != self.revision and self._free > 0
        judged = verdict(self._policy, ended, slot.tasks, self._world.observed, self._world.now)
        if not (fix or self._anew(ended)):
            if judged.at is None:
                self.given_up[ended.metadata.name] = judged.why
                return
            if judged.at > self._world.now:
                self.decision.look_again((judged.at - self._world.now).total_seconds())
                self.next_try[ended.metadata.name] = judged
                return
        self._note_end(ended)
        self.stop(ended)  # it is history now, as its desired state tells people
        own = ended.status.state is not TaskState.ORPHANED
        self._create(slot, self._grant(slot), ended.spec.restarts + own, judged.failures)

    def _anew(self, ended: Task) -> bool:
        """Whether it failed before the update began or was resumed: that asks for a try now."""
        since = self._course.watched_since
        if since is None or since > self._world.now:  # by the clock of another manager
            return False
        failed = ended.status.state is not TaskState.COMPLETE
        return failed and ended.spec.revision == self.revision and made(ended) < since

    def _replace(self, slot: Slot) -> None:
        """An outdated task's turn, if there is a share free for it."""
        old = slot.outdated[0]
        if slot.fresh:
            if not self._course.held:
                self.stop(old)
                self._create(slot, self.revision)
            return
        ended = slot.ended
        if ended is not None and made(ended) > made(old) and ended.spec.revision == self.revision:
            # Its replacement failed while it went on: the policy says when to try again.
            self._restart(slot, ended)
            return
        costs = runs(old) and not self._start_first  # it goes down for this
        if not self._may_replace(goes_down=costs):
            return
        self._free -= 1
        self.decision.notes.append(
            Note("Normal", "Updating", f"replacing a task of revision {old.spec.revision}")
        )
        if self._start_first:
            self._create(slot, self.revision)
            return
        self._down += costs
        self.stop(old)
        if never_assigned(old):
            self._create(slot, self.revision)

    def _may_replace(self, *, goes_down: bool) -> bool:
        return self._free > 0 and not (goes_down and self._down >= self._parallelism)

    def _grant(self, slot: Slot) -> str:
        """The revision the slot's next task gets."""
        last = slot.last
        if last is None or last.spec.revision == self.revision or slot.stopping:
            return self.revision
        if self._free > 0:
            self._free -= 1
            return self.revision
        return last.spec.revision if last.spec.revision in self._kept else self.revision

    def _create(self, slot: Slot, revision: str, restarts: int = 0, failures: int = 0) -> None:
        if slot.last is not None and slot.last.spec.revision != revision:
            restarts = failures = 0
        task = new_task(
            self.service, slot.key, revision, slot.newest, self._world.now,
            restarts=restarts, failures=failures,
        )  # fmt: skip
        self.decision.create.append(task)

    def _all_over(self, tasks: Sequence[Task]) -> bool:
        """Whether all have stopped, or were given their time."""
        observed, now = self._world.observed, self._world.now
        return all(self._past(observed.told.get(t.metadata.uid, now)) for t in tasks)

    def _past(self, since: datetime) -> bool:
        """Whether PATIENCE has passed; asks to look again when it will have."""
        left = (since + timedelta(seconds=PATIENCE) - self._world.now).total_seconds()
        if left > 0:
            self.decision.look_again(left)
        return left <= 0

    def _note_end(self, task: Task) -> None:
        status = task.status
        if status.state in (TaskState.FAILED, TaskState.REJECTED):
            words = status.error or status.message or "it did not say why"
            reason = "TaskFailed" if status.state is TaskState.FAILED else "TaskRejected"
            self.decision.notes.append(Note("Warning", reason, f"replacing a task: {words}"))
        elif status.state is TaskState.COMPLETE:
            self.decision.notes.append(
                Note("Normal", "TaskComplete", "replacing a task that exited with code 0")
            )
