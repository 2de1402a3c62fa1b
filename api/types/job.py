"""What a service of a job mode says besides: how often to run to the end, when, and how it went.

A job's run is what Swarm calls its iteration: all tasks that one start of the job leads to.
"""

from __future__ import annotations

from datetime import datetime

from api.types.meta import Struct

JOB_MODES = ("replicated-job", "global-job")


class JobPolicy(Struct, kw_only=True):
    completions: int = 1  # replicated-job alone
    parallelism: int = 0  # 0: all at once
    backoff_limit: int = 6
    deadline: str = "0s"  # of a run; 0: none
    ttl_after_finish: str = ""  # empty: kept
    keep_succeeded: int = 3  # runs
    keep_failed: int = 1


class Schedule(Struct, kw_only=True):
    cron: str
    time_zone: str = "UTC"
    concurrency: str = "allow"  # allow | forbid | replace
    starting_deadline: str = ""  # empty: none
    suspend: bool = False


class Run(Struct, kw_only=True):
    """One run. It is recorded before its first task is made, and its result before any is stopped:
    so two managers, or one that died between, never start one twice."""

    number: int
    revision: str = ""
    cause: str = ""  # Change | Schedule | Restart
    scheduled_at: datetime | None = None  # the time of the schedule that it is for
    started_at: datetime | None = None
    finished_at: datetime | None = None
    wanted: int = 0  # completions; of a global job: nodes
    active: int = 0  # tasks that are not over
    succeeded: int = 0  # completions so far
    failed: int = 0  # tasks
    result: str = ""  # "" | Complete | Failed
    reason: str = ""
    message: str = ""

    @property
    def over(self) -> bool:
        return self.result != ""


class JobStatus(Struct, kw_only=True):
    runs: list[Run] = []  # the newest first
    last_run: int = 0  # the highest number so far, also where its record is gone
    forced: int = 0  # the template's forceUpdate that was acted on last
    schedule: str = ""  # what the next two are about; empty while suspended
    scheduled_until: datetime | None = None  # times until then are dealt with
    next_schedule_time: datetime | None = None
    last_schedule_time: datetime | None = None
    last_success_time: datetime | None = None
