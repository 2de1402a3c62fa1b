"""What a look at a service leads to. Made without I/O; `services.py` carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from api.types.node import Node
from api.types.revision import Revision
from api.types.service import ServiceStatus
from api.types.task import Task, TaskState


class Note(msgspec.Struct, frozen=True):
    """An event to record on the service, `count` times. The message holds no names or numbers
    that differ from task to task, so that a thousand alike are one event."""

    type: str  # Normal | Warning
    reason: str
    message: str
    count: int = 1


class Observed(msgspec.Struct):
    """When this manager saw things happen on its own clock, by the tasks' uids.

    Agents' clocks may be wrong by hours: a delay counted from their times would be skipped, or
    never end. What happened before this process began is missing here, and then the reported
    time is believed as far as it can be true.
    """

    running: dict[str, datetime] = {}  # it came to run
    ended: dict[str, datetime] = {}  # it became terminal
    told: dict[str, datetime] = {}  # it was told to stop
    draining: dict[str, datetime] = {}  # by node: it was set to drain


class World(msgspec.Struct, frozen=True):
    """All that a decision about a service depends on besides the service."""

    nodes: Mapping[str, Node]
    observed: Observed
    now: datetime
    waits_for: str = ""  # services that have to be there before it starts for the first time
    secrets: Mapping[str, int] = {}  # what its wanted revision says of secrets' versions
    newest: Mapping[str, int] = {}  # the newest versions of secrets that its revisions name
    lost: frozenset[str] = frozenset()  # revisions that no task can be made of any more


class Decision(msgspec.Struct):
    revision: Revision | None = None  # to be created first
    create: list[Task] = []
    update: list[tuple[Task, TaskState]] = []  # new desired states
    delete: list[Task] = []
    drop: list[Revision] = []
    finished: bool = False  # of a deleted service: nothing is left, the finalizer may go
    expired: bool = False  # a job that is over for long enough: the service is to be deleted
    status: ServiceStatus | None = None
    record: bool = False  # nothing else is done before this status is written
    requeue_after: float | None = None  # seconds
    notes: list[Note] = []

    def look_again(self, seconds: float) -> None:
        """Come back in `seconds` at the latest."""
        seconds = max(seconds, 0.001)
        if self.requeue_after is None or seconds < self.requeue_after:
            self.requeue_after = seconds
