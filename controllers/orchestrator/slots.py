"""A slot: the place of one replica (a number) or, for a global service, of one node (its name).

A slot's tasks are one attempt after the other. In rest it has one task that is live and wanted;
while it is replaced it may have a second, and beside them those that still stop, and history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from api.types.task import RANK, TERMINAL, Task, TaskState
from controllers.orchestrator.standing import Standing

Key = int | str

_RUNNING = TaskState.RUNNING
_REMOVE = TaskState.REMOVE
_SILENT = (Standing.STRANDED, Standing.LOST)
_FAILURES = (TaskState.FAILED, TaskState.REJECTED)
_ASSIGNED = RANK[TaskState.ASSIGNED]
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def never_assigned(task: Task) -> bool:
    """No agent knows of it: the controllers may finish or delete it alone."""
    return RANK[task.status.state] < _ASSIGNED


def runs(task: Task) -> bool:
    return task.status.state is _RUNNING


def made(task: Task) -> datetime:
    return task.metadata.creation_timestamp or _LONG_AGO


class Slot:
    """The tasks of one slot, sorted by what they are to the service now.

    A task is in exactly one of the lists, or it is history.
    """

    __slots__ = (
        "current", "draining", "key", "last", "leaving", "lost", "newest", "outdated", "stopping",
        "tasks",
    )  # fmt: skip

    def __init__(
        self, key: Key, tasks: list[Task], revision: str, standing: Callable[[str], Standing]
    ) -> None:
        self.key = key
        self.tasks = tasks
        self.current: list[Task] = []  # wanted, live, of the revision that is wanted
        self.outdated: list[Task] = []  # wanted and live, but to be replaced when there is time
        self.draining: list[Task] = []  # wanted and live on a node that is to be empty soon
        self.lost: list[Task] = []  # wanted and live, as far as anyone knows, on a lost node
        self.stopping: list[Task] = []  # told to stop, not over yet
        self.leaving: list[Task] = []  # told to stop and to be forgotten, not over yet
        self.newest: Task | None = None  # of all
        self.last: Task | None = None  # the newest that is not to be forgotten
        for task in tasks:
            self._sort(task, revision, standing)
        if len(self.current) > 1:
            self.current.sort(key=worth)
        if len(self.outdated) > 1:
            self.outdated.sort(key=worth)

    def _sort(self, task: Task, revision: str, standing: Callable[[str], Standing]) -> None:
        spec, state = task.spec, task.status.state
        if self.newest is None or made(task) > made(self.newest):
            self.newest = task
        if spec.desired_state is not _REMOVE and (
            self.last is None or made(task) > made(self.last)
        ):
            self.last = task
        if state in TERMINAL:
            return
        if spec.desired_state is not _RUNNING:
            # On a lost node nobody will say that it is over; and nothing unassigned has to stop.
            if not never_assigned(task) and standing(spec.node) not in _SILENT:
                (self.leaving if spec.desired_state is _REMOVE else self.stopping).append(task)
            return
        place = standing(spec.node)
        if place is Standing.LOST:
            self.lost.append(task)
        elif place is Standing.DRAINING:
            self.draining.append(task)
        elif place is Standing.MISPLACED or spec.revision != revision:
            self.outdated.append(task)
        else:
            self.current.append(task)

    @property
    def present(self) -> bool:
        """Whether it is one of the service's, not just what is left of one."""
        return self.last is not None

    @property
    def keeper(self) -> Task | None:
        """The task that is to stay, at least for now."""
        if self.current:
            return self.current[0]
        return self.outdated[0] if self.outdated else None

    @property
    def up(self) -> bool:
        return any(map(runs, self.current)) or self.up_otherwise

    @property
    def up_otherwise(self) -> bool:
        """Whether it runs, but not as it is wanted."""
        return any(map(runs, self.outdated)) or any(map(runs, self.draining))

    @property
    def fresh(self) -> bool:
        """Whether it never was more than a task that waits for its node."""
        return len(self.tasks) == 1 and never_assigned(self.tasks[0])

    @property
    def ended(self) -> Task | None:
        """Its newest task, where that ended by itself."""
        last = self.last
        if last is not None and last.status.state in TERMINAL and last.wanted:
            return last
        return None

    @property
    def failure(self) -> Task | None:
        """The newest of its tasks that failed with the keeper's revision."""
        keeper = self.keeper
        failed = [
            task
            for task in self.tasks
            if task.status.state in _FAILURES
            and keeper is not None
            and task.spec.revision == keeper.spec.revision
        ]
        return max(failed, key=made, default=None)


def worth(task: Task) -> tuple[int, datetime, str]:
    """Of two tasks in one slot, the one that is further stays; then the older."""
    return (-RANK[task.status.state], made(task), task.metadata.name)


def group(tasks: Iterable[Task], key_of: Callable[[Task], Key]) -> dict[Key, list[Task]]:
    slots: dict[Key, list[Task]] = {}
    for task in tasks:
        key = key_of(task)
        found = slots.get(key)
        if found is None:
            slots[key] = [task]
        else:
            found.append(task)
    return slots
