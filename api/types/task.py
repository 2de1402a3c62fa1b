"""A task: one slot's one attempt to run one container. It never moves: it is replaced.

A task's `spec` is the orchestrator's (`desired_state`) and the scheduler's (`node`); its `status`
is the scheduler's until it is assigned and its agent's from then on. States only move forward.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from api.types.generic import Amount
from api.types.meta import Object, Struct


class TaskState(StrEnum):
    NEW = "New"
    PENDING = "Pending"  # waits for a node; `status.message` says for what
    ASSIGNED = "Assigned"
    ACCEPTED = "Accepted"
    PREPARING = "Preparing"  # pulling, mounting, creating
    READY = "Ready"
    STARTING = "Starting"  # started, not yet healthy
    RUNNING = "Running"
    COMPLETE = "Complete"  # exited 0 by itself
    SHUTDOWN = "Shutdown"  # stopped because it was told to
    FAILED = "Failed"
    REJECTED = "Rejected"  # never could start: image, mount, name
    REMOVE = "Remove"  # a desired state only: stop it, then forget it
    ORPHANED = "Orphaned"  # its node was lost


RANK: dict[TaskState, int] = {state: rank for rank, state in enumerate(TaskState)}
TERMINAL = frozenset(
    {
        TaskState.COMPLETE,
        TaskState.SHUTDOWN,
        TaskState.FAILED,
        TaskState.REJECTED,
        TaskState.ORPHANED,
    }
)


class TaskSpec(Struct, kw_only=True):
    service: str
    revision: str
    slot: int = 0  # 1, 2, 3 … for replicated; 0 for global, where the node is the slot
    node: str = ""
    desired_state: TaskState = TaskState.RUNNING  # Running | Shutdown | Remove
    restarts: int = 0  # how often its slot was restarted before it, with this revision
    failures: int = 0  # how many tasks in a row ended too soon before it, with this revision
    run: int = 0  # of a job: which of its runs it belongs to, 1, 2, 3 …
    generic: dict[str, Amount] | None = None  # what of its node's it was given, with `node`


class PublishedPort(Struct, kw_only=True):
    target: int
    published: int
    protocol: str = "tcp"


class CheckFailure(Struct, kw_only=True):
    check: str  # health | readiness
    at: datetime
    output: str = ""


class ContainerStatus(Struct, kw_only=True):
    id: str = ""
    digest: str = ""  # of the image that it was made of; "" where that has none
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    health: str = ""  # "" | starting | healthy | unhealthy
    check_failures: list[CheckFailure] = []  # the last ones, the newest last


class TaskStatus(Struct, kw_only=True):
    state: TaskState = TaskState.NEW
    message: str = ""  # for people: what it is doing, or why it can't
    error: str = ""  # what went wrong, in words; kept in history
    ready: bool = False  # whether it gets traffic: it runs, and its checks pass
    since: datetime | None = None  # when `state` was reached, on the reporter's clock
    started_at: datetime | None = None
    finished_at: datetime | None = None
    container: ContainerStatus | None = None
    ports: list[PublishedPort] = []
    secrets: dict[str, int] = {}  # the version of each that its container has


class Task(Object, kw_only=True):
    kind: ClassVar[str] = "Task"
    spec: TaskSpec
    status: TaskStatus = msgspec.field(default_factory=TaskStatus)

    @property
    def live(self) -> bool:
        """Whether a container of it may be running or may come to run."""
        return self.status.state not in TERMINAL

    @property
    def wanted(self) -> bool:
        """Whether it is still meant to run."""
        return self.spec.desired_state == TaskState.RUNNING


def forward(old: TaskState, new: TaskState) -> bool:
    """Whether a task may go from `old` to `new`: never backwards, never out of a final state."""
    return old not in TERMINAL and RANK[new] >= RANK[old]
