"""One run of a job: what its tasks say about it, and which tasks to make and to stop.

A run has slots: of a replicated job the numbers 1 to `completions`, of a global job the nodes that
fit. A slot is done when one of its tasks ended with exit code 0. What must hold, whatever state the
tasks are found in:

- No task starts while `parallelism` tasks of the run are there, those that stop included; nor in a
  slot that is done, or has a task that is not over.
- Tasks on lost nodes are over as far as anyone can know: a replicated job starts others at once,
  a global job's wait for their node, and the run does not wait for them.
- Tasks on draining nodes, and on those that don't fit any more, are stopped and started elsewhere.
- A task that failed is tried again when the restart policy says; the newest task of a slot carries
  the number of those that failed before it, so that they count when they are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import msgspec

from api.types.job import Run
from api.types.quantity import parse_duration
from api.types.service import Service
from api.types.task import TERMINAL, Task, TaskState
from controllers.orchestrator.births import new_task
from controllers.orchestrator.decision import Decision, Note, World
from controllers.orchestrator.restart import Policy, verdict
from controllers.orchestrator.slots import Key, made, never_assigned, worth
from controllers.orchestrator.standing import Standing

_FAILURES = (TaskState.FAILED, TaskState.REJECTED)
_MOST = 300  # characters of a task's words


class Slot(msgspec.Struct):
    """One slot's tasks, sorted out."""

    key: Key
    newest: Task | None = None
    done: bool = False
    failures: int = 0  # tasks that failed in it
    in_a_row: int = 0  # those that ended too soon, for the restart policy
    keeper: Task | None = None  # the one that is to go on
    stop: list[Task] = []  # wanted and not over, but not to go on
    active: int = 0  # tasks that are not over, those that stop included
    why_final: str = ""  # why it is not tried again
    again: datetime | None = None  # when it may be tried again


class RunWork:
    """`eligible`: of a global job, the nodes that it is to run on."""

    def __init__(
        self,
        service: Service,
        run: Run,
        tasks: Sequence[Task],
        standing: Callable[[str], Standing],
        eligible: Collection[str],
        world: World,
    ) -> None:
        self.run = run
        self.everywhere = service.spec.mode == "global-job"
        self._service = service
        self._world = world
        self._standing = standing
        self._policy = Policy.of(service.spec.restart)
        self._limit = service.spec.job.backoff_limit
        self._eligible = eligible
        groups: dict[Key, list[Task]] = {}
        for task in tasks:
            groups.setdefault(task.spec.node if self.everywhere else task.spec.slot, []).append(
                task
            )
        # Most slots of a big job are done with one task, and are only counted.
        self.done: set[Key] = set()
        self.slots: dict[Key, Slot] = {}
        self.failed = 0
        for key, found in groups.items():
            if len(found) == 1 and found[0].status.state is TaskState.COMPLETE:
                self.done.add(key)
                self.failed += found[0].spec.restarts
            else:
                self._sort(key, found)
        self.succeeded = len(self.done)
        self.active = sum(slot.active for slot in self.slots.values())
        self.spent = sorted(str(slot.key) for slot in self.slots.values() if slot.why_final)

    def _sort(self, key: Key, tasks: list[Task]) -> None:
        slot = self.slots[key] = Slot(key, newest=max(tasks, key=made))
        slot.done = any(task.status.state is TaskState.COMPLETE for task in tasks)
        if slot.done:
            self.done.add(key)
        going: list[Task] = []
        for task in tasks:
            if task.status.state in TERMINAL:
                continue
            place = self._standing(task.spec.node)
            if place is Standing.LOST:
                if task.wanted and not self.everywhere:
                    slot.stop.append(task)
                continue
            if never_assigned(task) and not task.wanted:
                continue
            slot.active += 1
            if not task.wanted:
                continue
            if place in (Standing.FINE, Standing.STRANDED) and not slot.done:
                going.append(task)
            else:
                slot.stop.append(task)
        going.sort(key=worth)
        slot.keeper = going[0] if going else None
        slot.stop += going[1:]
        self._judge(slot, tasks)
        self.failed += slot.failures

    def _judge(self, slot: Slot, tasks: list[Task]) -> None:
        """What follows from how its newest task ended."""
        newest = slot.newest
        if newest is None:
            return
        slot.failures, slot.in_a_row = newest.spec.restarts, newest.spec.failures
        if newest.status.state not in _FAILURES:
            return
        slot.failures += 1
        if slot.done:
            return
        judged = verdict(self._policy, newest, tasks, self._world.observed, self._world.now)
        slot.again, slot.why_final, slot.in_a_row = judged.at, judged.why, judged.failures
        if self.everywhere and slot.failures > self._limit:
            slot.why_final = f"job.backoffLimit is {self._limit}"

    # How it stands

    def seen(self) -> Run:
        """The run with its counts as they are."""
        wanted = self._service.spec.job.completions
        if self.everywhere:
            there = {key for key, slot in self.slots.items() if slot.keeper is not None}
            wanted = len(there.union(self.done, self._eligible, self.spent))
        return msgspec.structs.replace(
            self.run,
            wanted=wanted,
            active=self.active,
            succeeded=self.succeeded,
            failed=max(self.failed, self.run.failed),
        )

    def judged(self, run: Run) -> Run:
        """The run with its result, where there is one now. `run` is as seen. Raises ValueError."""
        reason, message = self._result(run)
        if not reason:
            return run
        result = "Complete" if reason == "Succeeded" else "Failed"
        return msgspec.structs.replace(
            run, result=result, reason=reason, message=message, finished_at=self._world.now
        )

    def _result(self, run: Run) -> tuple[str, str]:
        if self.everywhere:
            # Before it ran anywhere, nodes may still be about to join.
            ran = self.succeeded or self.spent
            if ran and not self.active and not self.open_nodes():
                if not self.spent:
                    return "Succeeded", ""
                nodes = ", ".join(self.spent[:3]) + (", …" if len(self.spent) > 3 else "")
                return "BackoffLimitExceeded", self._blamed(f"it failed for good on node {nodes}")
        elif self.succeeded >= run.wanted:
            return "Succeeded", ""
        deadline = parse_duration(self._service.spec.job.deadline)
        if deadline and self._age() >= deadline:
            words = self._service.spec.job.deadline
            return "DeadlineExceeded", self._blamed(f"it took longer than job.deadline, {words}")
        if self.everywhere:
            return "", ""
        if run.failed > self._limit:
            failed = "a task" if run.failed == 1 else f"{run.failed} tasks"
            words = f"{failed} failed, and job.backoffLimit is {self._limit}"
            return "BackoffLimitExceeded", self._blamed(words)
        if self.spent:
            slot = self.slots[int(self.spent[0])]
            words = f"slot {slot.key} is not tried again: {slot.why_final}"
            return "RestartsExhausted", self._blamed(words)
        return "", ""

    def _age(self) -> float:
        started = self.run.started_at or self._world.now
        return (self._world.now - started).total_seconds()

    def _blamed(self, words: str) -> str:
        problem = self.problem()
        return f"{words}; {problem}" if problem else words

    def problem(self) -> str:
        """The words of one task, the most telling: of one that failed, or else that waits."""
        telling: list[tuple[int, datetime, str]] = []
        for slot in self.slots.values():
            task = slot.newest
            if task is None or slot.done:
                continue
            words = task.status.error or task.status.message
            rank = 2 if task.status.state in _FAILURES else int(task.live) - (not words)
            if words and rank > 0:
                telling.append((rank, made(task), f"{task.metadata.name}: {words[:_MOST]}"))
        return max(telling)[2] if telling else ""

    def open_nodes(self) -> list[str]:
        """Of a global job: nodes that it is to run on and has not, as far as it ever will."""
        return sorted(
            node
            for node in self._eligible
            if node not in self.done
            and ((slot := self.slots.get(node)) is None or not slot.why_final)
        )

    # What to do

    def proceed(self, decision: Decision) -> None:
        """Of a run that goes on: stop what is not to go on, and start what there is room for."""
        for slot in self.slots.values():
            for task in slot.stop:
                stop(decision, task)
        if not self.everywhere:
            self._trim(decision)
        self._start(decision)
        deadline = parse_duration(self._service.spec.job.deadline)
        if deadline and not self.run.over:
            decision.look_again(deadline - self._age())

    def end(self, decision: Decision) -> None:
        """Of a run that is over: stop all that is left of it."""
        for slot in self.slots.values():
            for task in slot.stop:
                stop(decision, task)
            if slot.keeper is not None:
                stop(decision, slot.keeper)

    def _going(self) -> list[Slot]:
        return [slot for slot in self.slots.values() if slot.keeper is not None]

    def _trim(self, decision: Decision) -> None:
        """Fewer completions are wanted than it has begun: the highest slots end."""
        surplus = len(self._going()) - max(0, self.run.wanted - self.succeeded)
        if surplus <= 0:
            return
        for slot in sorted(self._going(), key=lambda slot: slot.key)[-surplus:]:
            if slot.keeper is not None:
                stop(decision, slot.keeper)
                slot.keeper = None

    def _start(self, decision: Decision) -> None:
        parallelism = self._service.spec.job.parallelism
        room = parallelism - self.active if parallelism else len(self._candidates())
        if not self.everywhere:
            room = min(room, self.run.wanted - self.succeeded - len(self._going()))
        now = self._world.now
        for key in self._candidates():
            if room <= 0:
                return
            if key in self.done:
                continue
            slot = self.slots.get(key) or Slot(key)
            if slot.active or slot.keeper is not None or slot.why_final:
                continue
            if slot.again is not None and slot.again > now:
                decision.look_again((slot.again - now).total_seconds())
                continue
            room -= 1
            if slot.again is not None:
                decision.notes.append(_retry(slot.newest))
            task = new_task(
                self._service, key, self.run.revision, slot.newest, now,
                restarts=slot.failures, failures=slot.in_a_row, run=self.run.number,
            )  # fmt: skip
            decision.create.append(task)

    def _candidates(self) -> Sequence[Key]:
        if self.everywhere:
            return sorted(self._eligible)
        return range(1, self.run.wanted + 1)


def stop(decision: Decision, task: Task, desired: TaskState = TaskState.SHUTDOWN) -> None:
    """Have a task that is not over stopped; one that never reached a node is just deleted."""
    if never_assigned(task):
        decision.delete.append(task)
    elif task.spec.desired_state not in (desired, TaskState.REMOVE):
        decision.update.append((task, desired))


def _retry(task: Task | None) -> Note:
    words = (task.status.error or task.status.message) if task is not None else ""
    reason = "TaskFailed"
    if task is not None and task.status.state is TaskState.REJECTED:
        reason = "TaskRejected"
    return Note("Warning", reason, f"trying a task again: {words or 'it did not say why'}")
