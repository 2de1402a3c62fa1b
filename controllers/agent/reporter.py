"""Statuses on their way to the manager: the newest of each task, many at a time.

What is reported while a batch gathers or a request is under way replaces what was to be said of
the same task before. How long it may wait for others depends on what it says: that a task ended
or is ill has others wait for it, while how far it is on its way to run is only told to people, so
a task that starts quickly is said once, when it runs. A batch that could not be delivered is said
again, unless something newer has come. What the manager rejects is dropped: the
task is gone, or further on. A request that it refuses as a whole (too large, or not to be read) is
halved until what is to blame is alone.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from api.client import ApiError, ClientError
from api.types.assignment import Rejection, StatusReport, StatusResult
from api.types.task import RANK, TERMINAL, TaskState

log = structlog.get_logger("skep.agent")

_FIRST_WAIT, _LAST_WAIT = 0.2, 5.0
_A_WHILE = 1.0  # seconds

_REFUSED = (400, 413, 422)  # the same request would be refused again

Send = Callable[[Sequence[StatusReport]], Awaitable[StatusResult]]


class Reporter:
    def __init__(
        self,
        send: Send,
        *,
        gather: float = 0.025,
        busy: float = 0.1,
        progress: float = 0.25,
        batch: int = 1000,
    ) -> None:
        """Seconds that reports collect before they go, at most `batch` at a time: `gather`, but
        `busy` for tasks that run where others went in the second before, and `progress` for
        those that are on their way there."""
        self._send = send
        self._gather = gather
        self._busy = busy
        self._progress = progress
        self._sent = -math.inf  # when a batch last went, on the loop's clock
        self._batch = batch
        self._pending: dict[str, StatusReport] = {}  # by task uid, the newest of each
        self._sending: dict[str, StatusReport] = {}  # what is under way
        self._there = asyncio.Event()
        self._due = math.inf  # when the first of it has to go, on the loop's clock
        self._sooner = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def report(self, status: StatusReport) -> None:
        self._pending[status.uid] = status
        self._there.set()
        due = asyncio.get_running_loop().time() + self._wait(status)
        if due < self._due:
            self._due = due
            self._sooner.set()
        self._idle.clear()

    def forget(self, task_uid: str) -> None:
        """The task is no more; nothing need be said of it."""
        self._pending.pop(task_uid, None)
        self._sending.pop(task_uid, None)

    async def delivered(self) -> None:
        """All that was reported has been taken, or rejected."""
        await self._idle.wait()

    async def run(self) -> None:
        wait = _FIRST_WAIT
        while True:
            await self._there.wait()
            await self._gathered()
            uids = list(self._pending)[: self._batch]
            self._sending = {uid: self._pending.pop(uid) for uid in uids}
            self._due = -math.inf if self._pending else math.inf
            if not uids:
                self._rest()
                continue
            try:
                await self._deliver(list(self._sending.values()))
            except ClientError as error:
                for uid, status in self._sending.items():
                    self._pending.setdefault(uid, status)
                self._due = -math.inf
                log.warning("statuses not delivered; trying again", error=str(error))
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
                wait = min(2 * wait, _LAST_WAIT)
            else:
                wait = _FIRST_WAIT
                if not self._pending:
                    self._rest()

    async def _gathered(self) -> None:
        """Until what is there has to go."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._due:
            self._sooner.clear()
            try:
                async with asyncio.timeout_at(self._due):
                    await self._sooner.wait()
            except TimeoutError:
                break  # whatever the clock says: timers may be early by its resolution
        self._sent = loop.time()

    def _wait(self, report: StatusReport) -> float:
        """Seconds."""
        status = report.status
        if status.error or status.state in TERMINAL:
            return self._gather
        if RANK[status.state] < RANK[TaskState.RUNNING]:
            return self._progress
        recently = asyncio.get_running_loop().time() < self._sent + _A_WHILE
        return self._busy if recently else self._gather

    async def _deliver(self, batch: Sequence[StatusReport]) -> None:
        try:
            self._rejected((await self._send(batch)).rejected)
        except ApiError as error:
            if error.code not in _REFUSED:
                raise
            if len(batch) == 1:
                log.error("a status was refused", task=batch[0].name, error=str(error))
                return
            half = len(batch) // 2
            await self._deliver(batch[:half])
            await self._deliver(batch[half:])

    def _rest(self) -> None:
        self._there.clear()
        self._idle.set()

    def _rejected(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            log.debug(
                "status rejected",
                task=f"{rejection.namespace}/{rejection.name}",
                reason=rejection.reason,
                message=rejection.message,
            )
