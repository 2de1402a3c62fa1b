"""What many keys may cost together: a part of a core."""

from __future__ import annotations

import asyncio


class Share:
    """Who has worked rests until all the work that was told lately has had its rest, his own
    included. So the whole keeps to `part` of a core, however many work, and one alone hardly
    notices."""

    def __init__(self, part: float) -> None:
        self._part = part
        self._paid = 0.0  # loop's time until which the work that was told has its rest

    def rest(self, seconds: float) -> float:
        """Seconds to rest after so many of work."""
        now = asyncio.get_running_loop().time()
        self._paid = max(self._paid, now) + seconds / self._part
        return self._paid - now
