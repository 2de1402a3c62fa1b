"""What one client may ask for at once, so that the others feel nothing of one that misbehaves.

Counted by who the certificate says it is. Requests over the limit are refused at once with 429 and
a time to come back, which our client and kubectl keep. What is held open (watches, logs, commands,
assignment streams) costs memory and not time, so it has a limit of its own.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import msgspec

from api.server.status import RETRY_AFTER, Failure


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one client."""

    requests: int = 128  # answered at the same time
    held: int = 4096  # watches and streams open at the same time


class Busy:
    """Who has how much under way."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._requests: Counter[str] = Counter()
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def one_more(self, who: str, *, held: bool) -> Iterator[None]:
        """Within: it is under way. Raises Failure 429."""
        counts = self._held if held else self._requests
        most = self._limits.held if held else self._limits.requests
        if counts[who] >= most:
            what = "watches and streams open" if held else "requests under way"
            raise Failure(
                429,
                "TooManyRequests",
                f"{who or 'this client'} has {most} {what}, which is the most for one client;"
                " wait for some to end",
                retry_after=RETRY_AFTER,
            )
        counts[who] += 1
        try:
            yield
        finally:
            counts[who] -= 1
            if not counts[who]:
                del counts[who]
