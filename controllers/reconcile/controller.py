"""The reconcile loop: takes a key, calls the reconciler, and acts on the outcome.

A reconciler reads the present state, compares it with the desired one, writes the difference, and
ends in one of five ways, all of them handled in `Controller._settle`:

    Done()          converged, or a write is on its way that will wake the key again
    After(seconds)  look again then, even if nothing happens
    Conflict        raised: someone wrote first; try again with what they wrote
    GiveUp          raised: trying again won't help until the object changes; it is told why
    anything else   raised: logged, tried again with backoff; other keys go on
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec
import structlog

from api.store.contract import Conflict, StoreError
from controllers.reconcile.queue import Backoff, K, WorkQueue, _no_pace

_log = structlog.get_logger("skep.reconcile")

R = TypeVar("R")


class Done(msgspec.Struct, frozen=True):
    """Nothing to do until something changes."""


class After(msgspec.Struct, frozen=True):
    """Look again after so many seconds."""

    seconds: float


Outcome = Done | After
DONE = Done()


class GiveUp(Exception):
    """The object can't be reconciled as it is. `reason` is one CamelCase word, for a condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


async def _tell_nobody(_key: object, _why: GiveUp) -> None:
    return None


class Controller(Generic[K]):
    """Bounded workers on one queue. `given_up` puts a GiveUp's words where the user sees them."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[Outcome]],
        *,
        workers: int = 4,
        backoff: Backoff | None = None,
        pace: Callable[[K], float] = _no_pace,
        given_up: Callable[[K, GiveUp], Awaitable[None]] = _tell_nobody,
    ) -> None:
        self.name = name
        self.queue: WorkQueue[K] = WorkQueue(backoff=backoff, pace=pace)
        self._reconcile = reconcile
        self._workers = workers
        self._given_up = given_up

    async def run(self) -> None:
        """Work until cancelled. What was queued is lost then: whoever runs it again adds all."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(), name=f"{self.name}-{number}")
        finally:
            self.queue.clear()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._settle(key)
            finally:
                self.queue.done(key)

    async def _settle(self, key: K) -> None:
        try:
            outcome = await self._reconcile(key)
        except Conflict:
            self.queue.retry(key)
        except StoreError as error:
            delay = self.queue.retry(key)
            _log.warning(
                "the store refused; trying again", controller=self.name, key=str(key),
                error=str(error), seconds=round(delay, 2),
            )  # fmt: skip
        except GiveUp as why:
            await self._refuse(key, why)
        except Exception:
            delay = self.queue.retry(key)
            _log.exception(
                "reconcile failed; trying again", controller=self.name, key=str(key),
                seconds=round(delay, 2),
            )  # fmt: skip
        else:
            self.queue.forget(key)
            if isinstance(outcome, After):
                self.queue.add_after(key, outcome.seconds)

    async def _refuse(self, key: K, why: GiveUp) -> None:
        _log.warning("gave up", controller=self.name, key=str(key), reason=why.reason, why=str(why))
        try:
            await self._given_up(key, why)
        except StoreError:
            # It could not be told: come back and give up once more.
            self.queue.retry(key)
        else:
            self.queue.forget(key)
