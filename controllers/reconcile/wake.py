"""A bell for a loop that works in rounds: many rings while it is busy are one."""

from __future__ import annotations

import asyncio


class Wake:
    """`ring` may come from any callback; `wait` returns once it rang, and takes the ring away."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

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

    async def wait(self, *, collect: float = 0.0) -> None:
        """Wait for a ring, then `collect` seconds for more to come with it."""
        await self._event.wait()
        if collect > 0:
            await asyncio.sleep(collect)
        self._event.clear()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self.ring()
