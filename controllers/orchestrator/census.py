"""What a service's status says: counts, and conditions that explain them.

Available     True when as many tasks run as are wanted: `3/3 running`. Where some don't, the words
              of the most telling one: `2/3 running; web-3-x1y2z: no suitable node (…)`. With
              reason CrashLoop a slot's tasks end again and again: how, and when the next starts.
Progressing   True while something is under way, False with reason Complete when all is as wanted,
              and False with another reason when it can't go on without a change by the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from api.types.meta import Condition, set_condition
from api.types.service import Service, ServiceStatus, UpdateState
from api.types.task import Task, TaskState
from controllers.orchestrator.decision import World
from controllers.orchestrator.restart import Verdict
from controllers.orchestrator.update import HALTED, Course

AVAILABLE = "Available"
PROGRESSING = "Progressing"
CRASH_LOOP = "CrashLoop"  # a reason of both: tasks of a slot end again and again

_MOST = 300  # characters of a task's words


_LOOP = 2  # tasks in a row that ended too soon: it is no accident any more


class Census(msgspec.Struct):
    """A service's tasks, counted slot by slot."""

    replicas: int = 0
    running: int = 0
    updated: int = 0
    out_of_reach: int = 0  # running, not updated, on nodes that take no task now
    leaving: int = 0  # told to stop, not over
    problem: str = ""  # the words of one task, the most telling
    gave_up: str = ""  # why a slot will not run again by itself
    looping: str = ""  # the words of the slot that failed most often in a row
    _gravity: int = 0
    _failures: int = 0  # of that slot

    def notice(self, task: Task, why_final: str = "") -> None:
        """A task of a slot that does not run as it should."""
        gravity, words = _trouble(task)
        if why_final:
            gravity += 10
            words = f"{words}; not started again: {why_final}"
            self.gave_up = self.gave_up or why_final
        if gravity > self._gravity:
            self._gravity = gravity
            self.problem = f"{task.metadata.name}: {words[:_MOST]}"

    def notice_wait(self, ended: Task, judged: Verdict) -> None:
        """A slot that waits until it may start again."""
        if judged.at is not None:
            next_try = f"the next try is at {judged.at:%Y-%m-%dT%H:%M:%SZ}"
            self._notice_loop(ended, judged.failures, next_try)

    def notice_retry(self, task: Task, failed: Task | None) -> None:
        """A slot that is starting again."""
        self._notice_loop(failed or task, task.spec.failures, f"{task.metadata.name} is the next")

    def _notice_loop(self, ended: Task, failures: int, what_next: str) -> None:
        if failures >= _LOOP and failures > self._failures:
            self._failures = failures
            words = _trouble(ended)[1][:_MOST] or "ended"
            name = ended.metadata.name
            self.looping = f"{name}: {words}; {failures} in a row ended so, {what_next}"

    @property
    def complete(self) -> bool:
        return self.running >= self.replicas <= self.updated and not self.leaving


def _trouble(task: Task) -> tuple[int, str]:
    """How telling the task's words are (0: not), and the words."""
    status = task.status
    match status.state:
        case TaskState.FAILED | TaskState.REJECTED:
            return 5, status.error or status.message or status.state.lower()
        case TaskState.ORPHANED:
            return 2, status.error or status.message or "its node was lost"
        case TaskState.COMPLETE:
            return 1, "exited with code 0"
        case TaskState.PENDING if status.message:
            return 4, status.message
        case _ if status.error:
            return 3, status.error
        case TaskState.PREPARING if status.message.startswith("waiting for"):
            return 3, status.message
    return 0, ""


def turned_status(service: Service, course: Course) -> ServiceStatus:
    """Of a service whose update took a turn, before anything is done about it. What is said of
    the tasks is of the generation and the secrets before, and stays so until they are looked at."""
    return msgspec.structs.replace(service.status, revision=course.target, update=course.update)


def status_of(service: Service, course: Course, census: Census, world: World) -> ServiceStatus:
    return ServiceStatus(
        observed_generation=service.metadata.generation,
        observed_secrets=dict(world.newest),
        revision=course.target,
        replicas=census.replicas,
        running=census.running,
        updated=census.updated,
        update=course.update,
        conditions=conditions_of(
            service.status.conditions,
            _available(census),
            _progressing(census, course),
            now=world.now,
        ),
    )


def refused_status(
    service: Service, newest: Mapping[str, int], reason: str, message: str, now: datetime
) -> ServiceStatus:
    """The status of a service that can't be reconciled as it is written."""
    condition = Condition(type=PROGRESSING, status="False", reason=reason, message=message)
    return msgspec.structs.replace(
        service.status,
        observed_generation=service.metadata.generation,
        observed_secrets=dict(newest),
        conditions=conditions_of(service.status.conditions, condition, now=now),
    )


def conditions_of(old: list[Condition], *new: Condition, now: datetime) -> list[Condition]:
    """Those conditions in place of the old ones of their types, in the order of their types."""
    for condition in new:
        old = set_condition(old, condition, now=now)
    return sorted(old, key=lambda condition: condition.type)


def _available(census: Census) -> Condition:
    up = census.running >= census.replicas
    message = f"{census.running}/{census.replicas} running"
    reason = "TasksRunning"
    if not up:
        words = census.problem if census.gave_up else census.looping or census.problem
        message = f"{message}; {words}" if words else message
        reason = CRASH_LOOP if census.looping else "TasksNotRunning"
    return Condition(
        type=AVAILABLE, status="True" if up else "False", reason=reason, message=message
    )


def _progressing(census: Census, course: Course) -> Condition:
    revision, update = course.target, course.update
    state = None if update is None else update.state
    if update is not None and state in HALTED:
        status = "False"
        reason = "UpdatePaused" if state is UpdateState.PAUSED else "RollbackPaused"
        message = f"{census.updated}/{census.replicas} run revision {revision}; {update.message}"
    elif census.gave_up:
        status, reason = "False", "RestartsExhausted"
        message = f"{census.problem}; change the service, or restart it, to try again"
    elif update is not None and census.complete and course.target != update.revision:
        status, reason, message = "False", "RolledBack", update.message
    elif census.complete:
        status, reason = "False", "Complete"
        message = f"all tasks run revision {revision}" if census.replicas else "no tasks wanted"
    elif census.looping:
        status, reason = "True", CRASH_LOOP
        message = census.looping
    elif census.updated < census.running:
        back = state is UpdateState.ROLLBACK_STARTED
        status, reason = "True", "RollingBack" if back else "Updating"
        message = f"{census.updated}/{census.replicas} run revision {revision}"
        if census.problem:
            message = f"{message}; {census.problem}"
    elif census.running < census.replicas:
        status, reason = "True", "Starting"
        message = f"{census.running}/{census.replicas} running"
    else:
        status, reason = "True", "Stopping"
        message = "waiting for tasks to stop"
    return Condition(type=PROGRESSING, status=status, reason=reason, message=message)
