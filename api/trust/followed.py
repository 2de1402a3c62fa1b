"""What every manager follows of what is stored: read, then watched from there, whatever happens.

Whoever follows says how it catches up and takes a change in; the order of these, what a watch that
falls behind or ends means, and who is told, is here.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Sequence

import structlog

from api.store.contract import Change, Compacted, Store, StoreError

_RETRY = 1.0  # seconds
_log = structlog.get_logger("skep.trust")

Listener = Callable[[], None]


class Followed(abc.ABC):
    """What is below `place`. Listeners are plain functions, called after every change."""

    name: str
    passing: tuple[type[Exception], ...] = (StoreError,)  # after which following goes on

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = place
        self._behind = False  # more was missed than the store still tells
        self._listeners: list[Listener] = []

    async def run(self) -> None:
        """Follow the store until cancelled."""
        while True:
            try:
                after = await self._caught_up()
                self._behind = False
                changes = self._store.watch(self._place, after=after)
                try:
                    async for batch in changes:
                        await self._told(batch)
                finally:
                    await changes.aclose()
            except Compacted:
                self._behind = True
            except self.passing as error:
                _log.warning("the store does not tell of changes now", of=self.name,
                             error=str(error))  # fmt: skip
                await asyncio.sleep(_RETRY)

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call it after every change; returns what ends that."""
        self._listeners = [*self._listeners, callback]

        def unsubscribe() -> None:
            self._listeners = [one for one in self._listeners if one is not callback]

        return unsubscribe

    def _tell(self) -> None:
        for callback in self._listeners:
            callback()

    @abc.abstractmethod
    async def _caught_up(self) -> int:
        """Be as far as the store is, where that is not so yet; the revision that this is at."""

    @abc.abstractmethod
    async def _told(self, batch: Sequence[Change]) -> None:
        """The store has changed there."""
