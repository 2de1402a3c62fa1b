"""A service: what a user wants run, how many, where, and how it changes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from api.types.dependency import Dependency
from api.types.job import JOB_MODES, JobPolicy, JobStatus, Schedule
from api.types.meta import Condition, Object, Struct
from api.types.template import TaskTemplate

TASKS_FINALIZER = "skep.dev/tasks"

# Annotations of a service.
UNDONE_TO = "skep.dev/undone-to"  # the revision that its template was copied back from
# JSON: the newest version of each of its secrets by then. One that is newer takes effect.
UNDONE_SECRETS = "skep.dev/undone-secrets"
RESUME = "skep.dev/resume-update"  # `status.update.since` of the halt that is to end


class SpreadPreference(Struct, kw_only=True):
    spread: str  # e.g. node.labels.zone


class Platform(Struct, kw_only=True):
    os: str = ""
    architecture: str = ""


class Placement(Struct, kw_only=True):
    constraints: list[str] = []  # AND-ed
    preferences: list[SpreadPreference] = []
    max_replicas_per_node: int = 0  # 0: no limit
    platforms: list[Platform] = []  # any of; empty: all


class UpdatePolicy(Struct, kw_only=True):
    """SwarmKit's defaults; each field has its own, also when others are given."""

    parallelism: int | str = 1  # 0: all at once; "25%": that share
    delay: str = "0s"
    failure_action: str = "pause"  # pause | continue | rollback
    monitor: str = "5s"
    max_failure_ratio: float = 0.0
    deadline: str = "0s"  # without progress; 0: none
    order: str = "stop-first"  # stop-first | start-first


class RestartPolicy(Struct, kw_only=True):
    condition: str = "any"  # any | on-failure | none
    delay: str = "5s"
    max_delay: str = "5m"  # the delay doubles up to this; at most `delay`: it stays the same
    reset_after: str = "1m"  # a task that ran for this long is no failure in a row
    max_attempts: int = 0  # 0: no limit
    window: str = "0s"  # attempts older than this don't count; 0: all count


class ServiceSpec(Struct, kw_only=True):
    mode: str = "replicated"  # replicated | global | replicated-job | global-job
    replicas: int = 1
    template: TaskTemplate
    placement: Placement = msgspec.field(default_factory=Placement)
    depends_on: list[Dependency] = []  # what its first start waits for
    update: UpdatePolicy = msgspec.field(default_factory=UpdatePolicy)
    rollback: UpdatePolicy = msgspec.field(default_factory=UpdatePolicy)
    paused: bool = False  # hold updates and rollbacks
    restart: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    job: JobPolicy = msgspec.field(default_factory=JobPolicy)
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        # Who ended well has done a job: jobs of before this was their default say so too.
        if self.is_job and self.restart.condition == "any":
            self.restart = msgspec.structs.replace(self.restart, condition="on-failure")

    @property
    def is_job(self) -> bool:
        return self.mode in JOB_MODES


class UpdateState(StrEnum):
    """Swarm's words."""

    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_COMPLETED = "rollback_completed"


class UpdateStatus(Struct, kw_only=True):
    """The newest update. While it is rolled back tasks go to `previous`, else to `revision`."""

    state: UpdateState
    revision: str  # of the template that the spec had when it began
    previous: str = ""  # the last one before it that all tasks ran
    held: bool = False  # paused by `spec.paused`, not by failures
    started: datetime | None = None
    since: datetime | None = None  # the state's; failures count from here on
    progressed: datetime | None = None  # when another task ran last
    completed: datetime | None = None
    replicas: int = 0
    updated: int = 0  # tasks that run what they are to come to
    failed: int = 0  # slots of which a new task failed
    message: str = ""


class ServiceStatus(Struct, kw_only=True):
    observed_generation: int = 0
    # The newest versions, by then, of the secrets that its revisions name versions of.
    observed_secrets: dict[str, int] = {}
    revision: str = ""  # the name of the current revision
    replicas: int = 0  # desired tasks: for a global service, one a suitable node
    running: int = 0  # tasks in state Running, of any revision
    updated: int = 0  # tasks in state Running, of the current revision
    update: UpdateStatus | None = None  # None: nothing was updated yet
    conditions: list[Condition] = []  # Available, Progressing; of a job Complete, Failed, …
    job: JobStatus | None = None


class Service(Object, kw_only=True):
    kind: ClassVar[str] = "Service"
    spec: ServiceSpec
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)
