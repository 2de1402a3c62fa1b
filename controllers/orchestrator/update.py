"""An update's course: where a service's tasks are to go, how fast, and whether they may.

It is kept in `status.update`, and every turn of it is written there before anything is done
about it. So whoever decides next, after any crash, knows what failures are counted for and where
back is.

                      too many failures, or the deadline          ┌─ the template changes: a new
    updating ───┬──────────► paused ◄──── spec.paused             │  update supersedes, from any
        │       │               └─ resumed: updating              │  state; `previous` stays the
        ▼       └──────────► rollback_started ──► rollback_paused ┘  last one that was completed
    completed                     └──► rollback_completed

- A new task has failed if it ended by itself before it ran for `monitor`; what counts is the
  share of slots that this happened in.
- Slots whose failure is tolerated, by `maxFailureRatio` or by `continue`, hold nobody up.
- Rolled back, the spec still has the template that failed: whoever applies the same manifest
  again changes nothing. A rollback by hand is a template like any other, under the rollback's
  policy.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import msgspec

from api.types.quantity import parse_duration
from api.types.service import (
    RESUME,
    UNDONE_TO,
    Service,
    UpdatePolicy,
    UpdateState,
    UpdateStatus,
)
from api.types.task import Task, TaskState
from controllers.orchestrator.decision import Decision, Note, World
from controllers.orchestrator.restart import ran
from controllers.orchestrator.slots import Key, made

MOVING = (UpdateState.UPDATING, UpdateState.ROLLBACK_STARTED)
HALTED = (UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED)
DONE = (UpdateState.COMPLETED, UpdateState.ROLLBACK_COMPLETED)
_BACK = (
    UpdateState.ROLLBACK_STARTED,
    UpdateState.ROLLBACK_PAUSED,
    UpdateState.ROLLBACK_COMPLETED,
)
_PAUSED_OF = dict(zip(MOVING, HALTED, strict=True))
_MOVING_OF = dict(zip(HALTED, MOVING, strict=True))
_NOTES = {
    UpdateState.UPDATING: ("Normal", "UpdateStarted"),
    UpdateState.PAUSED: ("Warning", "UpdatePaused"),
    UpdateState.COMPLETED: ("Normal", "UpdateCompleted"),
    UpdateState.ROLLBACK_STARTED: ("Warning", "RollbackStarted"),
    UpdateState.ROLLBACK_PAUSED: ("Warning", "RollbackPaused"),
    UpdateState.ROLLBACK_COMPLETED: ("Normal", "RollbackCompleted"),
}
_MOST = 200  # characters of a task's words


class Pace(msgspec.Struct, frozen=True):
    """An update's or a rollback's policy, read for a service of `total` slots."""

    parallelism: int
    start_first: bool
    monitor: timedelta
    hold: timedelta  # how long a new task runs before it gives its share back
    deadline: timedelta
    max_failure_ratio: float
    failure_action: str

    @classmethod
    def of(cls, policy: UpdatePolicy, total: int) -> Pace:
        """Raises ValueError for a duration it can't read."""
        monitor = timedelta(seconds=parse_duration(policy.monitor))
        return cls(
            parallelism=_parallelism(policy.parallelism, total),
            start_first=policy.order == "start-first",
            monitor=monitor,
            hold=max(monitor, timedelta(seconds=parse_duration(policy.delay))),
            deadline=timedelta(seconds=parse_duration(policy.deadline)),
            max_failure_ratio=policy.max_failure_ratio,
            failure_action=policy.failure_action,
        )


def _parallelism(said: int | str, total: int) -> int:
    if isinstance(said, str):
        return max(1, total * int(said.removesuffix("%")) // 100)
    return said or total + 1


class Course(msgspec.Struct):
    """What an update means for one look at a service's slots."""

    target: str  # the revision that tasks are to come to
    newcomers: str  # the revision of slots that are new
    pace: Pace
    held: bool  # no slot may be replaced
    update: UpdateStatus | None = None
    turned: bool = False  # it came to another state: to be written first
    tolerated: dict[Key, Task] = {}  # slots whose new task failed, and that hold nobody up

    @property
    def watched_since(self) -> datetime | None:
        """Tasks made from then on are watched until they ran for `hold`."""
        if self.update is None or self.update.state not in MOVING:
            return None
        return self.update.since


def course_of(
    service: Service,
    revision: str,
    kept: Collection[str],
    tasks: Sequence[Task],
    total: int,
    world: World,
    decision: Decision,
) -> Course:
    """`revision` is the template's, `kept` are those that tasks can be made of."""
    status, old = service.status, service.status.update
    before = old.revision if old is not None else status.revision
    if not status.revision or (old is None and before == revision):
        pace = Pace.of(service.spec.update, total)
        return Course(revision, revision, pace, held=service.spec.paused)
    failed: dict[Key, Task] = {}
    if old is None or before != revision:
        update = _begun(service, revision, world.now)
    else:
        pace = _pace(service, old, total)
        if old.state in MOVING:
            failed = _failed(service, old, pace, tasks, world)
        update = _went_on(service, old, pace, failed, kept, total, world.now)
        if update is old and old.state in MOVING and pace.deadline:
            decision.look_again((_due(old, pace) - world.now).total_seconds())
    if update is not old:
        decision.notes.append(note_of(update))
    target = target_of(update)
    back = update.previous if update.previous in kept else target
    return Course(
        target=target,
        newcomers=back if update.state is UpdateState.PAUSED else target,
        pace=_pace(service, update, total),
        held=service.spec.paused or update.state in HALTED,
        update=update,
        turned=update is not old,
        tolerated=failed,
    )


def target_of(update: UpdateStatus) -> str:
    return update.previous if update.state in _BACK else update.revision


def finished(course: Course, through: bool, updated: int, total: int, now: datetime) -> None:
    """Bring the record up to date with what was counted. `through`: nothing is left to do."""
    update = course.update
    if update is None or update.state in DONE:
        return
    progressed = now if updated > update.updated else update.progressed
    update = msgspec.structs.replace(
        update, replicas=total, updated=updated, progressed=progressed,
        failed=max(update.failed, len(course.tolerated)),
    )  # fmt: skip
    if through and update.state in MOVING and not course.turned:
        back = update.state is UpdateState.ROLLBACK_STARTED
        state = UpdateState.ROLLBACK_COMPLETED if back else UpdateState.COMPLETED
        words = f"all tasks run revision {course.target}"
        if back and update.revision != update.previous:
            words = f"{words} again; {update.revision} failed: {update.message}"
        update = msgspec.structs.replace(
            update, state=state, since=now, completed=now, message=words
        )
    course.update = update


def note_of(update: UpdateStatus) -> Note:
    kind, reason = _NOTES[update.state]
    return Note(kind, reason, update.message)


def _pace(service: Service, update: UpdateStatus, total: int) -> Pace:
    back = update.state in (UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_PAUSED)
    return Pace.of(service.spec.rollback if back else service.spec.update, total)


def _begun(service: Service, revision: str, now: datetime) -> UpdateStatus:
    """A new update, which supersedes the one before where that was under way."""
    status, old = service.status, service.status.update
    good = status.revision if old is None or old.state in DONE else old.previous
    back = service.metadata.annotations.get(UNDONE_TO) == revision
    state = UpdateState.ROLLBACK_STARTED if back else UpdateState.UPDATING
    message = f"going back to revision {revision} by hand" if back else f"to revision {revision}"
    if old is not None and old.state not in DONE and old.revision != revision:
        message = f"{message}, instead of {old.revision}"
    return UpdateStatus(
        state=state, revision=revision, previous=revision if back else good,
        started=now, since=now, progressed=now, message=message,
    )  # fmt: skip


def _went_on(
    service: Service,
    old: UpdateStatus,
    pace: Pace,
    failed: dict[Key, Task],
    kept: Collection[str],
    total: int,
    now: datetime,
) -> UpdateStatus:
    """The record after what happened: `old` itself where that turns nothing."""
    if old.state in MOVING:
        if service.spec.paused:
            words = "spec.paused is true; `ctl rollout resume` goes on"
            return _turned(old, _PAUSED_OF[old.state], words, now, held=True)
        if pace.failure_action == "continue":
            return old
        why = _trouble(old, pace, failed, total, now)
        return _failed_now(old, pace, why, len(failed), kept, now) if why else old
    goes_on = (
        not service.spec.paused
        if old.held
        else service.metadata.annotations.get(RESUME) == halt_of(old)
    )
    if not goes_on:
        return old
    if old.state in HALTED:
        return _turned(old, _MOVING_OF[old.state], "resumed", now)
    if old.state is UpdateState.ROLLBACK_COMPLETED and old.previous != old.revision:
        words = f"to revision {old.revision}, once more"
        return _turned(old, UpdateState.UPDATING, words, now)
    return old


def halt_of(update: UpdateStatus) -> str:
    """What the annotation RESUME has to say to end this halt, and no other."""
    return "" if update.since is None else update.since.isoformat().replace("+00:00", "Z")


def _turned(
    old: UpdateStatus, state: UpdateState, message: str, now: datetime, *, held: bool = False
) -> UpdateStatus:
    failed = 0 if state in MOVING else old.failed
    return msgspec.structs.replace(
        old, state=state, message=message, held=held, since=now, progressed=now, failed=failed,
        completed=None,
    )  # fmt: skip


def _failed_now(
    old: UpdateStatus, pace: Pace, why: str, failed: int, kept: Collection[str], now: datetime
) -> UpdateStatus:
    """What the policy says is to be done about it."""
    old = msgspec.structs.replace(old, failed=max(old.failed, failed))
    if pace.failure_action == "rollback" and old.state is UpdateState.UPDATING:
        if old.previous != old.revision and old.previous in kept:
            return _turned(old, UpdateState.ROLLBACK_STARTED, why, now)
        why = f"{why}; there is no revision to go back to"
    return _turned(old, _PAUSED_OF[old.state], why, now)


def _trouble(
    old: UpdateStatus, pace: Pace, failed: dict[Key, Task], total: int, now: datetime
) -> str:
    """Why it is not to go on like this; "" where it may."""
    if len(failed) > pace.max_failure_ratio * max(total, 1):
        newest = max(failed.values(), key=made)
        status = newest.status
        words = (status.error or status.message or f"it is {status.state}")[:_MOST]
        new = f"new tasks of {len(failed)} of {total} replicas failed"
        return f"{new}; {newest.metadata.name}: {words}"
    if pace.deadline and now >= _due(old, pace):
        seconds = pace.deadline.total_seconds()
        return f"no progress for {seconds:g} s: {old.updated}/{total} run {target_of(old)}"
    return ""


def _due(update: UpdateStatus, pace: Pace) -> datetime:
    latest = max(filter(None, (update.progressed, update.since)))
    return latest + pace.hold + pace.deadline


def _failed(
    service: Service, update: UpdateStatus, pace: Pace, tasks: Sequence[Task], world: World
) -> dict[Key, Task]:
    """A task for every slot in which one of this update failed."""
    target, since = target_of(update), update.since
    states = {TaskState.FAILED, TaskState.REJECTED}
    if service.spec.restart.condition == "any":
        states.add(TaskState.COMPLETE)
    found: dict[Key, Task] = {}
    for task in tasks:
        if (
            task.status.state in states
            and task.spec.revision == target
            and (since is None or made(task) >= since)
            and _too_soon(task, pace, world)
        ):
            found[task.spec.slot or task.spec.node] = task
    return found


def _too_soon(task: Task, pace: Pace, world: World) -> bool:
    """Whether it ended before it ran for as long as it is watched."""
    observed, uid = world.observed, task.metadata.uid
    if uid not in observed.ended:
        return ran(task) <= pace.monitor
    began = observed.running.get(uid)
    return began is None or observed.ended[uid] - began <= pace.monitor


def proves_until(task: Task, pace: Pace, world: World) -> datetime:
    """When a running task has run long enough."""
    began = world.observed.running.get(task.metadata.uid)
    if began is None:
        began = min(max(task.status.since or world.now, made(task)), world.now)
    return began + pace.hold
