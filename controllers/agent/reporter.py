"""Statuses on their way to the manager: the newest of each task, many at a time.

What is reported while a batch gathers or a request is under way replaces what was to be said of
the same task before. How far a task is on its way to run is only told to people, so it gathers
for longer: a task that starts quickly is said once, when it runs. A batch that could not be
delivered is said again, unless something newer has come. What the manager rejects is dropped: the
task is gone, or further on. A request that it refuses as a whole (too large, or not to be read) is
halved until what is to blame is alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from api.client import ApiError, ClientError
from api.types.assignment import Rejection, StatusReport, StatusResult
from api.types.task import RANK, TaskState

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
        """Reports collect for `gather` seconds before they go, at most `batch` at a time; for
        `busy` seconds where others went in the second before; and for `progress` seconds where
        they say no more than how far tasks are."""
        self._send = send
        self._gather = gather
        self._busy = busy
        self._progress = progress
        self._sent = -math.inf  # when a batch last went, on the loop's clock
        self._batch = batch
        self._pending: dict[str, StatusReport] = {}  # by task uid, the newest of each
        self._sending: dict[str, StatusReport] = {}  # what is under way
        self._there = asyncio.Event()
        self._news = asyncio.Event()  # something among it that is more than progress
        self._idle = asyncio.Event()
        self._idle.set()

    def report(self, status: StatusReport) -> None:
        self._pending[status.uid] = status
        self._there.set()
        if not _is_progress(status):
            self._news.set()
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
            if len(uids) == len(self._pending):
                self._news.clear()
            self._sending = {uid: self._pending.pop(uid) for uid in uids}
            if not uids:
                self._rest()
                continue
            try:
                await self._deliver(list(self._sending.values()))
            except ClientError as error:
                for uid, status in self._sending.items():
                    self._pending.setdefault(uid, status)
                log.warning("statuses not delivered; trying again", error=str(error))
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
                wait = min(2 * wait, _LAST_WAIT)
            else:
                wait = _FIRST_WAIT
                if not self._pending:
                    self._rest()

    async def _gathered(self) -> None:
        now = asyncio.get_running_loop().time()
        gather = self._busy if now < self._sent + _A_WHILE else self._gather
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._progress - gather):
                await self._news.wait()
        await asyncio.sleep(gather)
        self._sent = asyncio.get_running_loop().time()

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
        self._news.clear()
        self._idle.set()

    def _rejected(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            log.debug(
                "status rejected",
                task=f"{rejection.namespace}/{rejection.name}",
                reason=rejection.reason,
                message=rejection.message,
            )


def _is_progress(report: StatusReport) -> bool:
    status = report.status
    return RANK[status.state] < RANK[TaskState.RUNNING] and not status.error
