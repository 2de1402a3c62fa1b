"""When a job runs: at once, by its schedule, or because somebody asked for it.

What was dealt with is in the service's status, and moves forward only: `scheduled_until` for times
of the schedule, `last_run` for numbers, `forced` for requests. It is written, as one write that
fails where the service changed meanwhile, before the run has a task. So a time has one run,
whichever manager sees it first and whenever that one dies.

The schedule's times are looked for after `scheduled_until`: a manager that was away, or whose
clock jumped ahead, finds the latest of those that passed. A clock that is set back finds none
until it is there again; but one that is back by more than a day was wrong before, and the
schedule begins anew from now.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from api.types.cron import cron
from api.types.job import JobStatus, Schedule
from api.types.quantity import parse_duration
from api.types.service import Service

CLOCK_CHECK = 60.0  # seconds: how often to look whether a clock jumped over a time
MOST_RUNS = 100  # under way at a time: a job that hangs must not fill its status with them
LEAST_DEADLINE = 5.0  # seconds: a busy manager is late by more than nothing

_WRONG_CLOCK = timedelta(days=1)


class Agenda(msgspec.Struct):
    """What there is to start now, and the status with what has been dealt with."""

    job: JobStatus
    cause: str = ""  # of the run to start; empty: none
    scheduled_at: datetime | None = None
    missed: datetime | None = None  # a time that is too late to start for
    wait: float | None = None  # seconds until something may be to start


def agenda(service: Service, job: JobStatus, revision: str, busy: bool, now: datetime) -> Agenda:
    """`busy`: an earlier run is under way, or its tasks still stop. Raises ValueError for a
    schedule that can't be read."""
    schedule = service.spec.schedule
    held = schedule is not None and busy and schedule.concurrency == "forbid"
    held = held or sum(not run.over for run in job.runs) >= MOST_RUNS
    force = service.spec.template.force_update
    if schedule is None:
        found = Agenda(_unscheduled(job))
        if not job.last_run or not job.runs or job.runs[0].revision != revision:
            found.cause = "Change"
    else:
        if service.status.observed_generation == 0:
            # What a new service says is no request that came after it.
            job = msgspec.structs.replace(job, forced=force)
        found = _scheduled(service, schedule, job, held, now)
        if force > job.forced and not held:
            found = Agenda(job, cause="Restart")  # what is due besides has its turn right after
    if found.cause:
        found.job = msgspec.structs.replace(
            found.job,
            last_run=job.last_run + 1,
            forced=job.forced if found.cause == "Schedule" else force,
        )
    return found


def _unscheduled(job: JobStatus) -> JobStatus:
    return msgspec.structs.replace(job, schedule="", scheduled_until=None, next_schedule_time=None)


def _scheduled(
    service: Service, schedule: Schedule, job: JobStatus, held: bool, now: datetime
) -> Agenda:
    times = cron(schedule.cron, schedule.time_zone)
    if schedule.suspend:
        return Agenda(_unscheduled(job))
    job = _begun(service, schedule, job, now)
    since = job.scheduled_until or now
    coming = times.after(max(since, now))
    found = Agenda(msgspec.structs.replace(job, next_schedule_time=coming))
    if coming is not None:
        found.wait = min((coming - now).total_seconds(), CLOCK_CHECK)
    due = times.latest(since, now)
    if due is None:
        return found
    left = _time_left(schedule, due, now)
    if left is not None and left < 0:
        found.missed = due
    elif held:
        if left is not None:
            found.wait = min(left, found.wait or left)
        return found
    else:
        found.cause, found.scheduled_at = "Schedule", due
        found.job = msgspec.structs.replace(found.job, last_schedule_time=due)
    found.job = msgspec.structs.replace(found.job, scheduled_until=due)
    return found


def _begun(service: Service, schedule: Schedule, job: JobStatus, now: datetime) -> JobStatus:
    """With a beginning, where the schedule is new, was resumed, or the clock was wrong."""
    words = f"{schedule.cron} {schedule.time_zone}"
    until = job.scheduled_until
    if job.schedule == words and until is not None and until <= now + _WRONG_CLOCK:
        return job
    created = service.metadata.creation_timestamp
    new = service.status.observed_generation == 0 and created is not None
    since = min(created, now) if new and created is not None else now
    return msgspec.structs.replace(job, schedule=words, scheduled_until=since)


def _time_left(schedule: Schedule, due: datetime, now: datetime) -> float | None:
    """Seconds in which a run for `due` may still start; None: there is no end to that."""
    if not schedule.starting_deadline:
        return None
    allowed = max(parse_duration(schedule.starting_deadline), LEAST_DEADLINE)
    return allowed - (now - due).total_seconds()
