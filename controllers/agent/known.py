"""A task as its node's agent knows it: what was last heard from the manager and from the engine."""

from __future__ import annotations

import asyncio

from api.types.task import Task, TaskStatus
from api.types.template import TaskTemplate
from controllers.agent.drivers.contract import Container
from controllers.agent.files import Scope
from controllers.agent.states import Failure

RETRY_FIRST = 1.0  # seconds until another try to stop or remove a container


class Known:
    """A task, or what is left of one."""

    __slots__ = (
        "again", "behind", "container", "failure", "files", "gone", "parting", "pulling", "retry",
        "retry_wait", "secrets", "stale", "status", "task", "template", "uid", "worker",
    )  # fmt: skip

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.task: Task | None = None  # None: never assigned to this agent
        self.gone = False  # deleted, or never ours
        self.status = TaskStatus()
        self.template: TaskTemplate | None = None
        self.secrets: dict[str, int] = {}  # versions, as its revision says
        self.container: Container | None = None
        self.failure: Failure | None = None
        self.parting = ""  # what went wrong before it was told to stop
        self.files = True  # it may have secrets' or configs' files: an earlier agent's
        self.stale = False  # the engine may know better than `container`
        self.behind = ""  # why it has not followed a secret yet
        self.again = False  # kicked while its worker was busy
        self.worker: asyncio.Task[None] | None = None
        self.pulling: asyncio.Timeout | None = None
        self.retry: asyncio.TimerHandle | None = None
        self.retry_wait = RETRY_FIRST

    @property
    def wanted(self) -> bool:
        task = self.task
        if task is None or self.gone:
            return False
        return task.wanted and task.metadata.deletion_timestamp is None

    @property
    def scope(self) -> Scope:
        task = self.task
        return Scope("" if task is None else task.metadata.namespace, self.secrets)
