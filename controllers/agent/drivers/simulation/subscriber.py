"""One reader of a simulated engine's events."""

from __future__ import annotations

import asyncio

from controllers.agent.drivers.contract import EngineDown


class Subscriber:
    """Changes of a container that the reader hasn't seen yet are one event."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._ended = False
        self._wake: asyncio.Future[None] | None = None

    def put(self, task_uid: str) -> None:
        self._changed[task_uid] = None
        self._rouse()

    def end(self) -> None:
        self._ended = True
        self._rouse()

    async def take(self) -> list[str]:
        """What has changed since the last time. Raises EngineDown when the stream has ended."""
        if not self._changed and not self._ended:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._ended:
            raise EngineDown("the simulated engine closed its events stream")
        changed, self._changed = list(self._changed), {}
        return changed

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
