"""A work queue: keys to reconcile, each at most once at a time.

A key is in one of these states:

    idle ──add──► ready ──get──► running ──done──► resting ──► idle
                    ▲              │add: wanted        │add: wanted
                    └──────────────┴───────────────────┘ as soon as the state allows

- However often a key is added while it is ready, it is handed out once. Added while it runs, it is
  handed out once more afterwards: the run may have read the old state.
- Ready keys leave in the order they came, so a busy key can't starve a quiet one.
- After a run a key rests for `pace(key)` seconds. The first change is served at once; a thousand
  that follow are served together when the rest ends.
- A delayed add (`add_after`) is one timer a key, the earliest asked for. It ends when the key
  becomes ready for any reason: whoever reconciles then will ask again.
- `retry` is a delayed add with a delay that doubles from one failure to the next until `forget`.

Times are the loop's. Not thread safe: use it from the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)


class Backoff(msgspec.Struct, frozen=True):
    """Seconds to wait after the first failure, and at most."""

    first: float = 0.02
    most: float = 30.0

    def after(self, failures: int) -> float:
        """The wait after that many failures in a row (1, 2, …)."""
        # The exponent is bounded so that a key that fails for years does not overflow.
        return min(self.most, self.first * 2.0 ** min(failures - 1, 60))


def _no_pace(_key: object) -> float:
    return 0.0


class WorkQueue(Generic[K]):
    def __init__(
        self, *, backoff: Backoff | None = None, pace: Callable[[K], float] = _no_pace
    ) -> None:
        self._backoff = backoff or Backoff()
        self._pace = pace
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._queued: set[K] = set()
        self._running: set[K] = set()
        self._resting: dict[K, asyncio.TimerHandle] = {}
        self._wanted: set[K] = set()  # running or resting, and to be handed out again
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        """Keys that are ready or will be once they have run or rested."""
        return len(self._queued) + len(self._wanted)

    def add(self, key: K) -> None:
        if key in self._running or key in self._resting:
            self._wanted.add(key)
        elif key not in self._queued:
            self._push(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Add the key in `seconds`, unless that is due earlier already."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def retry(self, key: K) -> float:
        """Add the key after its next backoff; returns the seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.after(failures)
        self.add_after(key, delay)
        return delay

    def failures(self, key: K) -> int:
        """How often in a row the key was retried."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The key went well: its next failure is its first."""
        self._failures.pop(key, None)

    @property
    def failing(self) -> int:
        """How many keys are being retried."""
        return len(self._failures)

    async def get(self) -> K:
        """The next ready key, now running: call `done` with it."""
        key = await self._ready.get()
        self._queued.discard(key)
        self._running.add(key)
        return key

    def done(self, key: K) -> None:
        self._running.discard(key)
        rest = self._pace(key)
        if rest > 0:
            loop = asyncio.get_running_loop()
            self._resting[key] = loop.call_later(rest, self._rested, key)
        elif key in self._wanted:
            self._wanted.discard(key)
            self._push(key)

    def clear(self) -> None:
        """Forget everything, timers too."""
        for timer in (*self._timers.values(), *self._resting.values()):
            timer.cancel()
        self._timers.clear()
        self._resting.clear()
        self._wanted.clear()
        self._running.clear()
        self._queued.clear()
        self._failures.clear()
        self._ready = asyncio.Queue()

    def _push(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._queued.add(key)
        self._ready.put_nowait(key)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _rested(self, key: K) -> None:
        self._resting.pop(key, None)
        if key in self._wanted:
            self._wanted.discard(key)
            self._push(key)
