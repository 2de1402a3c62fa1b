"""What happens when: one heap, one timer of the running loop, however many containers there are."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Agenda:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        # Its time is kept beside it: what uvloop gives for a time that has passed knows none.
        self._timer: asyncio.Handle | None = None
        self._armed_for = 0.0
        self._epoch: datetime | None = None

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return asyncio.get_running_loop().time()

    def moment(self, seconds: float) -> datetime:
        """A time of the loop's clock as a date."""
        if self._epoch is None:
            self._epoch = datetime.now(UTC) - timedelta(seconds=self.now())
        return self._epoch + timedelta(seconds=seconds)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it `seconds` from now."""
        heapq.heappush(self._heap, (self.now() + seconds, next(self._order), action))
        self._arm()

    async def sleep(self, seconds: float) -> None:
        over = asyncio.get_running_loop().create_future()
        self.at(seconds, lambda: None if over.done() else over.set_result(None))
        await over

    def pause(self) -> None:
        """Time stands still: nothing happens until `resume`; then what was missed happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        if self._heap:
            self._arm()

    def _arm(self) -> None:
        when = self._heap[0][0]
        if self._timer is not None:
            if self._armed_for <= when and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._armed_for = when
        self._timer = asyncio.get_running_loop().call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self.now()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
        if self._heap:
            self._arm()
