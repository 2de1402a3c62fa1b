"""Deciding about a job: which runs there are, and what their tasks are to do.

A job's status is its memory: which runs it had and how they ended can't be told from tasks, which
come to be forgotten. So a decision has one of two parts:

1. Where runs start or end, or are dropped, that is written to the status, and nothing else is done.
   The write fails where the service changed since; then all is decided again.
2. Where the status says all that there is to say about runs, tasks are made and stopped for it.

A run that is over stays over, whatever its last tasks report. Only a global job without a schedule
goes on: its newest run still comes to nodes that join, which changes its counts and not its result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from api.types.job import JobStatus, Run
from api.types.meta import Condition
from api.types.quantity import parse_duration
from api.types.service import Service, ServiceStatus
from api.types.task import Task, TaskState
from controllers.orchestrator.agenda import Agenda, agenda
from controllers.orchestrator.census import PROGRESSING, conditions_of
from controllers.orchestrator.decision import Decision, Note, World
from controllers.orchestrator.run import RunWork, stop
from controllers.orchestrator.standing import Standing, Standings

COMPLETE = "Complete"
FAILED = "Failed"

_GOES_ON = ("Succeeded", "BackoffLimitExceeded")  # to nodes that join


def decide_job(
    decision: Decision,
    service: Service,
    revision: str,
    tasks: Sequence[Task],
    standings: Standings,
    suitable: Collection[str],
    world: World,
) -> set[str]:
    """Adds to `decision` what there is to do; gives the revisions that runs still need.

    `suitable`: nodes that a global job is to run on. Raises ValueError for a spec that can't be
    read.
    """
    job = service.status.job or JobStatus()
    by_run: dict[int, list[Task]] = {}
    for task in tasks:
        by_run.setdefault(task.spec.run, []).append(task)
    works = {
        run.number: RunWork(service, run, by_run.get(run.number, ()), standings, suitable, world)
        for run in job.runs
    }
    book = _Book(service, job, works, world)
    stopping = _there(tasks, standings)
    found = book.keep(revision, stopping)
    decision.status = _status(
        service, revision, book, sum(w.active for w in works.values()), world.newest
    )
    decision.status.conditions = conditions_of(
        service.status.conditions, *_conditions(service, book, works), now=world.now
    )
    used = {run.revision for run in book.runs if not run.over or run is book.runs[0]}
    if book.changed or found.job != _memory(job, found.job):
        decision.record = True
        decision.notes += book.notes
        decision.look_again(0)
        return used
    for wait in (found.wait, *standings.waits):
        if wait is not None:
            decision.look_again(wait)
    _work(decision, service, works, by_run, stopping)
    _expire(decision, service, book)
    return used


def _there(tasks: Iterable[Task], standings: Standings) -> set[int]:
    """Runs of which a task may still be running on a node that is there."""
    return {
        task.spec.run
        for task in tasks
        if task.live and task.spec.node and standings(task.spec.node) is not Standing.LOST
    }


def _memory(old: JobStatus, new: JobStatus) -> JobStatus:
    """`new` where it differs from `old` only by what follows from the schedule and the time."""
    return msgspec.structs.replace(
        old, runs=new.runs, next_schedule_time=new.next_schedule_time
    )  # fmt: skip


class _Book:
    """The record of a job's runs, brought up to date."""

    def __init__(
        self, service: Service, job: JobStatus, works: dict[int, RunWork], world: World
    ) -> None:
        self._service = service
        self._works = works
        self._now = world.now
        self.job = job
        self.runs: list[Run] = []
        self.changed = False
        self.notes: list[Note] = []

    def keep(self, revision: str, stopping: set[int]) -> Agenda:
        for run in self.job.runs:
            work = self._works[run.number]
            work.run = seen = work.seen()
            if not run.over:
                seen = work.judged(seen)
                if seen.over:
                    self._ended(seen)
            self.runs.append(seen)
        busy = bool(stopping) or any(not run.over for run in self.runs)
        found = agenda(self._service, self.job, revision, busy, self._now)
        if found.missed is not None:
            self.notes.append(
                Note("Warning", "RunMissed", "too late to start a run that the schedule asked for")
            )
        self.job = found.job
        if found.cause:
            self._start(found, revision)
        self._drop()
        self.job = msgspec.structs.replace(self.job, runs=self.runs)
        return found

    def _ended(self, run: Run) -> None:
        self.changed = True
        if run.result == COMPLETE:
            self.job = msgspec.structs.replace(self.job, last_success_time=run.finished_at)
            self.notes.append(Note("Normal", "RunComplete", "a run is complete"))
        else:
            words = f"a run failed: {run.reason}" + (f": {run.message}" if run.message else "")
            self.notes.append(Note("Warning", "RunFailed", words))

    def _start(self, found: Agenda, revision: str) -> None:
        schedule = self._service.spec.schedule
        if schedule is None or schedule.concurrency == "replace":
            self.runs = [run if run.over else self._replaced(run) for run in self.runs]
        job = self._service.spec.job
        new = Run(
            number=self.job.last_run,
            revision=revision,
            cause=found.cause,
            scheduled_at=found.scheduled_at,
            started_at=self._now,
            wanted=job.completions if self._service.spec.mode == "replicated-job" else 0,
        )
        self.runs.insert(0, new)
        self.changed = True
        why = {"Change": "the job changed", "Schedule": "it is time", "Restart": "asked for"}
        words = "the job is new" if new.number == 1 and schedule is None else why[new.cause]
        self.notes.append(Note("Normal", "RunStarted", f"started a run: {words}"))

    def _replaced(self, run: Run) -> Run:
        run = msgspec.structs.replace(
            run,
            result=FAILED,
            reason="Replaced",
            message="a newer run took its place",
            finished_at=self._now,
        )
        self._ended(run)
        return run

    def _drop(self) -> None:
        """Leave out runs that are over and beyond what is to be kept."""
        policy = self._service.spec.job
        kept = {COMPLETE: policy.keep_succeeded, FAILED: policy.keep_failed}
        left = []
        for run in self.runs:
            stays = not run.over or run is self.runs[0]
            if not stays:
                stays = kept[run.result] > 0
                kept[run.result] -= 1
            if stays and not (self._service.spec.schedule and self.time_to_live(run) == 0):
                left.append(run)
        self.changed |= len(left) < len(self.runs)
        self.runs = left

    def time_to_live(self, run: Run) -> float | None:
        """Seconds until the run is to be gone, 0 for now; None: it stays."""
        ttl = self._service.spec.job.ttl_after_finish
        if not ttl or run.finished_at is None:
            return None
        age = (self._now - run.finished_at).total_seconds()
        return max(0.0, parse_duration(ttl) - age)


def _work(
    decision: Decision,
    service: Service,
    works: dict[int, RunWork],
    by_run: dict[int, list[Task]],
    stopping: set[int],
) -> None:
    schedule = service.spec.schedule
    together = schedule is not None and schedule.concurrency == "allow"
    newest = max(works, default=0)
    for number, work in works.items():
        run = work.run
        late = work.everywhere and schedule is None and number == newest and run.reason in _GOES_ON
        if run.over and not late:
            work.end(decision)
        elif together or not any(earlier < number for earlier in stopping):
            work.proceed(decision)  # otherwise an earlier run's tasks have to stop first
    for number, tasks in by_run.items():
        if number not in works:
            _forget(decision, tasks)
    made = len(decision.create)
    if made:
        decision.notes.append(Note("Normal", "TasksCreated", "created a task of a run", made))


def _forget(decision: Decision, tasks: Iterable[Task]) -> None:
    """Tasks of a run that is not kept any more."""
    for task in tasks:
        if task.live:
            stop(decision, task, TaskState.REMOVE)
        else:
            decision.delete.append(task)


def _expire(decision: Decision, service: Service, book: _Book) -> None:
    scheduled = service.spec.schedule is not None
    for run in book.runs if scheduled else book.runs[:1]:
        left = book.time_to_live(run)
        if left == 0 and not scheduled:
            decision.expired = True
            decision.notes.append(
                Note("Normal", "Expired", "deleting the job: job.ttlAfterFinish is over")
            )
        elif left is not None:
            decision.look_again(left)


# What its status says


def _status(
    service: Service, revision: str, book: _Book, running: int, seen: Mapping[str, int]
) -> ServiceStatus:
    newest = book.runs[0] if book.runs else None
    return ServiceStatus(
        observed_generation=service.metadata.generation,
        observed_secrets=dict(seen),
        revision=revision,
        replicas=newest.wanted if newest is not None else 0,
        running=running,
        job=book.job,
    )


def _conditions(service: Service, book: _Book, works: dict[int, RunWork]) -> list[Condition]:
    if not book.runs:
        return [_progressing(service, book, None, ""), *_before(service, book)]
    run = book.runs[0]
    work = works.get(run.number)
    problem = work.problem() if work is not None and not run.over else ""
    counts = f"run {run.number}: {run.succeeded}/{run.wanted} completed"
    words = f"{counts}; {run.message}" if run.message else counts
    result = run.result or "Active"
    reason = run.reason or "Active"
    return [
        Condition(type=COMPLETE, status=_is(result == COMPLETE), reason=reason, message=words),
        Condition(type=FAILED, status=_is(result == FAILED), reason=reason, message=words),
        _progressing(service, book, run, problem),
    ]


def _before(service: Service, book: _Book) -> list[Condition]:
    """Without a run on record: it has none yet, or the last one's record is gone."""
    if book.job.last_run:
        return []
    return [
        Condition(type=kind, status="False", reason="NoRun", message="it has not run yet")
        for kind in (COMPLETE, FAILED)
    ]


def _is(true: bool) -> str:
    return "True" if true else "False"


def _progressing(service: Service, book: _Book, run: Run | None, problem: str) -> Condition:
    schedule, coming = service.spec.schedule, book.job.next_schedule_time
    if run is not None and not run.over:
        message = f"run {run.number}: {run.succeeded}/{run.wanted} completed, {run.active} active"
        if run.failed:
            message = f"{message}, {run.failed} failed"
        if problem:
            message = f"{message}; {problem}"
        return Condition(type=PROGRESSING, status="True", reason="Running", message=message)
    if schedule is None:
        reason = run.result if run is not None else "Waiting"
        message = "a change of its template, or a restart, runs it again"
    elif schedule.suspend:
        reason, message = "Suspended", "schedule.suspend is true"
    elif coming is None:
        reason, message = "NeverAgain", "the schedule has no more times"
    else:
        reason, message = "Scheduled", f"the next run is at {coming:%Y-%m-%dT%H:%M:%SZ}"
    return Condition(type=PROGRESSING, status="False", reason=reason, message=message)
