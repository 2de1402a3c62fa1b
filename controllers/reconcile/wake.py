"""A bell for a loop that works in rounds: many rings while it is busy are one."""

from __future__ import annotations

import asyncio
import math


class Wake:
    """`ring` may come from any callback; `wait` returns once it rang, and takes the ring away."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last = -math.inf  # loop's time

    def ring(self) -> None:
        self._event.set()

    def ring_after(self, seconds: float) -> None:
        """Ring then, unless that is due earlier already."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._due)

    async def wait(self, *, collect: float = 0.0, apart: float = 0.0) -> None:
        """Wait for a ring, then `collect` seconds for more to come with it; and return `apart`
        seconds after the last time, at the earliest: so only what is not the first waits."""
        await self._event.wait()
        loop = asyncio.get_running_loop()
        wait = max(collect, self._last + apart - loop.time())
        if wait > 0:
            await asyncio.sleep(wait)
        self._last = loop.time()
        self._event.clear()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.ring()
