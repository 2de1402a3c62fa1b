"""Keeps components running: one that crashes is started again, after a wait that doubles.

A component is an object with a `name` and a `run()` that runs until cancelled. It must be able to
run again after any exception, building what it knows anew. Its neighbours never notice.

The wait starts at the backoff's first value, and does so again once a run has lasted `healthy`
seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec
import structlog

from controllers.reconcile.queue import Backoff

_log = structlog.get_logger("skep.supervisor")

RUNNING = "Running"
WAITING = "Restarting"  # it crashed, and starts again after a wait
STOPPED = "Stopped"


class Component(Protocol):
    @property
    def name(self) -> str: ...

    async def run(self) -> None: ...


class Named(msgspec.Struct, frozen=True):
    """Any coroutine function as a component."""

    name: str
    start: Callable[[], Awaitable[None]]

    async def run(self) -> None:
        await self.start()


class _Health(msgspec.Struct):
    name: str
    state: str = STOPPED
    since: datetime | None = None
    restarts: int = 0
    last_error: str = ""


class Supervisor:
    def __init__(
        self,
        components: Sequence[Component],
        *,
        clock: Callable[[], datetime],
        backoff: Backoff | None = None,
        healthy: float = 60.0,
    ) -> None:
        self._components = list(components)
        self._clock = clock
        self._backoff = backoff or Backoff(0.5, 30.0)
        self._healthy = healthy
        self._health = {c.name: _Health(c.name) for c in components}
        if len(self._health) != len(self._components):
            raise ValueError("components need names of their own")

    def report(self) -> list[dict[str, object]]:
        """What `ctl get components` shows: name, state, since, restarts, lastError, message."""
        return [
            {
                "name": health.name,
                "state": health.state,
                "since": None if health.since is None else _rfc3339(health.since),
                "restarts": health.restarts,
                "lastError": health.last_error,
                "message": getattr(component, "message", ""),
            }
            for component, health in zip(self._components, self._health.values(), strict=True)
        ]

    async def run(self) -> None:
        """Run all components until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for component in self._components:
                    group.create_task(self._keep(component), name=component.name)
        finally:
            for health in self._health.values():
                self._turn(health, STOPPED)

    async def _keep(self, component: Component) -> None:
        health = self._health[component.name]
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            self._turn(health, RUNNING)
            started = loop.time()
            error = await self._run_once(component)
            failures = 1 if loop.time() - started >= self._healthy else failures + 1
            delay = self._backoff.after(failures)
            health.restarts += 1
            health.last_error = error
            self._turn(health, WAITING)
            _log.error(
                "component stopped; starting it again", component=component.name, error=error,
                seconds=round(delay, 2),
            )  # fmt: skip
            await asyncio.sleep(delay)

    async def _run_once(self, component: Component) -> str:
        """Run it until it ends; why it did, in words."""
        try:
            await component.run()
        except Exception as error:
            _log.exception("component crashed", component=component.name)
            return _words(error)
        return "it ended by itself"

    def _turn(self, health: _Health, state: str) -> None:
        health.state = state
        health.since = self._clock()


def _words(error: BaseException) -> str:
    """An error in one line; of a group, its first member that is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
