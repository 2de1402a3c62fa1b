"""What agents report of their tasks, written many at a time.

The model: reports of all nodes gather for some milliseconds after the last write, or for as long as
it takes, and go to the store together, each with a compare of its own. Their requests are answered
when the cache has seen them, so a node's next report is decided on what its last one made.

Only the status is the agent's. Where a write conflicts (a controller has just said Shutdown) the
report is merged into what the task is now, and tried again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import msgspec
import structlog

from api.server.metrics import Metrics
from api.server.resources import Resources
from api.store.cache import Cache, Item
from api.store.contract import Conflict, Store, StoreError, Write
from api.types import codec
from api.types.assignment import Rejection, StatusReport, StatusResult
from api.types.kinds import TASK
from api.types.task import TERMINAL, Task, forward

GATHER = 0.01  # seconds
_TRIES = 8

_log = structlog.get_logger(__name__)


class _Request:
    """One node's reports, and its answer to come."""

    __slots__ = ("answer", "node", "rejected", "reports")

    def __init__(
        self, node: str, reports: Sequence[StatusReport], answer: asyncio.Future[StatusResult]
    ) -> None:
        self.node = node
        self.reports = reports
        self.answer = answer
        self.rejected: list[Rejection] = []


class Statuses:
    """Takes reports; `run` writes them."""

    def __init__(self, store: Store, cache: Cache, resources: Resources, metrics: Metrics) -> None:
        self._store = store
        self._cache = cache
        self._resources = resources
        self._metrics = metrics
        self._waiting: list[_Request] = []
        self._there = asyncio.Event()

    async def report(self, node: str, reports: Sequence[StatusReport]) -> StatusResult:
        """When it returns, what was not rejected is stored. Raises StoreError: report again."""
        if not reports:
            return StatusResult()
        answer: asyncio.Future[StatusResult] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(node, reports, answer))
        self._there.set()
        return await answer

    async def run(self) -> None:
        """Write what gathers, for ever."""
        loop = asyncio.get_running_loop()
        last = -math.inf
        while True:
            await self._there.wait()
            await asyncio.sleep(last + GATHER - loop.time())
            last = loop.time()
            self._there.clear()
            requests, self._waiting = self._waiting, []
            try:
                await self._write(requests)
            except StoreError as error:
                _answer(requests, error)
            except Exception as error:
                _log.exception("statuses could not be written", requests=len(requests))
                _answer(requests, error)
            except asyncio.CancelledError:
                for request in requests + self._waiting:
                    request.answer.cancel()
                raise
            else:
                _answer(requests, None)

    async def _write(self, requests: Sequence[_Request]) -> None:
        open = [(request, report) for request in requests for report in request.reports]
        for _ in range(_TRIES):
            open = await self._round(open)
            if not open:
                return
            await self._resources.refresh()
        # A task that is written faster than we can follow is the store's trouble, not the node's.
        raise Conflict([f"{report.namespace}/{report.name}" for _, report in open])

    async def _round(
        self, reports: Sequence[tuple[_Request, StatusReport]]
    ) -> list[tuple[_Request, StatusReport]]:
        """Try each report once; those to try again."""
        writes: list[Write] = []
        written: list[tuple[_Request, StatusReport]] = []
        again: list[tuple[_Request, StatusReport]] = []
        keys: set[str] = set()
        get = self._cache.get
        for pair in reports:
            request, report = pair
            item = get(TASK, report.namespace, report.name)
            if item is not None and item.key in keys:
                again.append(pair)  # a second word on a task: on what the first one made of it
                continue
            decided = _decide(item, request.node, report)
            if isinstance(decided, Rejection):
                request.rejected.append(decided)
            elif decided is not None:
                keys.add(decided.key)
                writes.append(decided)
                written.append(pair)
        if not writes:
            return again
        newest = 0
        for pair, result in zip(written, await self._store.write(writes), strict=True):
            if isinstance(result, Conflict):
                again.append(pair)
            elif result > newest:
                newest = result
        self._metrics.statuses(len(writes), len(again))
        await self._resources.seen(newest)
        return again


def _decide(item: Item | None, node: str, report: StatusReport) -> Write | Rejection | None:
    """What to write for a report: nothing where the task is so already."""
    if item is None or item.obj.metadata.uid != report.uid:
        return _rejection(report, "NotFound", "there is no such task any more")
    task: Task = item.obj
    if task.spec.node != node:
        return _rejection(report, "OtherNode", f"the task is not on node {node}")
    old, new = task.status, report.status
    if old == new or (old.state == new.state and old.state in TERMINAL):
        return None  # a report that was repeated because its answer was lost
    if not forward(old.state, new.state):
        return _rejection(report, "Backwards", f"the task is {old.state} already")
    changed = msgspec.structs.replace(task, status=new)
    return Write(item.key, codec.encode(changed), item.revision)


def _rejection(report: StatusReport, reason: str, message: str) -> Rejection:
    return Rejection(
        namespace=report.namespace,
        name=report.name,
        uid=report.uid,
        reason=reason,
        message=message,
    )


def _answer(requests: Sequence[_Request], error: Exception | None) -> None:
    for request in requests:
        if request.answer.done():  # its client has gone
            continue
        if error is None:
            request.answer.set_result(StatusResult(rejected=request.rejected))
        else:
            request.answer.set_exception(error)
