"""How fast values are made anew that nobody has just asked for.

Each is a new version that services roll to. Whatever makes many due at once (a manager that was off
for weeks, a clock that is wrong for good, one manifest for all), they come a few at once and then
one after the other, so that whoever watches can step in.
"""

from __future__ import annotations

AT_ONCE = 20
INTERVAL = 15.0  # seconds from one to the next beyond


class Pace:
    """Times are in seconds, of any clock that only goes forward."""

    def __init__(self, at_once: int = AT_ONCE, interval: float = INTERVAL) -> None:
        self._at_once = at_once
        self._interval = interval
        self._left = float(at_once)
        self._at = 0.0
        self._begun = False

    def take(self, steady: float) -> float:
        """0.0: one may go now. Else the seconds until it may ask again."""
        self._fill(steady)
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) * self._interval

    def give_back(self) -> None:
        """It was not made after all."""
        self._left = min(self._left + 1, float(self._at_once))

    def _fill(self, steady: float) -> None:
        if self._begun:
            self._left = min(
                self._left + (steady - self._at) / self._interval, float(self._at_once)
            )
        self._at, self._begun = steady, True
