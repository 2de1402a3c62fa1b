"""One simulated container: a small object, for which nothing runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from api.types.task import PublishedPort
from controllers.agent.drivers.contract import ContainerSpec, DriverError, Phase
from controllers.agent.drivers.simulation.program import Course

Printed = tuple[float, int, bytes]  # when, stream, line


class Simulated:
    __slots__ = (
        "course", "earlier", "error", "exit_code", "finished", "health", "health_output", "id",
        "life", "oom_killed", "owner", "phase", "ports", "serving", "signals", "silence", "spec",
        "started", "starting", "waiters",
    )  # fmt: skip

    def __init__(
        self, number: int, owner: tuple[str, str], spec: ContainerSpec, course: Course
    ) -> None:
        self.id = f"{number:064x}"
        self.owner = owner  # cluster, node
        self.spec = spec
        self.course = course
        self.phase = Phase.CREATED
        self.life = 0  # counts starts and ends: what was planned for an earlier life is void
        self.exit_code: int | None = None
        self.oom_killed = False
        self.error = ""
        self.health = ""
        self.health_output = ""
        self.signals: list[str] = []  # that it was sent, but for those to stop
        self.serving = False  # found by its service's name
        self.silence = ""  # why it doesn't answer checks over the network
        self.starting: asyncio.Future[DriverError | None] | None = None
        self.started: float | None = None
        self.finished: float | None = None
        self.ports: list[PublishedPort] = []
        self.earlier: tuple[Printed, ...] = ()  # what it printed in earlier lives
        self.waiters: list[Callable[[], None]] = []  # called at its end

    @property
    def running(self) -> bool:
        return self.phase is Phase.RUNNING

    def printed(self, now: float) -> list[Printed]:
        """All that it has printed, in order."""
        return [*self.earlier, *(line for line in self._planned() if line[0] <= self._until(now))]

    def next_print(self, now: float) -> float | None:
        """Seconds until it prints something more; None: it won't by itself."""
        return next((line[0] - now for line in self._planned() if line[0] > now), None)

    def _planned(self) -> Iterator[Printed]:
        if self.started is not None:
            for offset, line in self.course.prints:
                yield self.started + offset, line.stream, line.data

    def _until(self, now: float) -> float:
        return now if self.finished is None else self.finished
