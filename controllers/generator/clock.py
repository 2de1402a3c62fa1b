"""Whether this manager's clock can be trusted enough to make values anew by it.

A clock that has leapt makes everything look due at once, and every service would be restarted for
nothing; certificates made under it are no good when it is put right. So a leap is waited out: for a
quarter of an hour nothing is made anew by time alone. That is what a machine needs whose clock is
set by the network some time after it has started.

A leap is told by a mark in the store: the newest time at which a manager was sure. What has passed
since a manager first saw a mark is measured by a clock that nobody sets. A mark that another
manager keeps writing says where *its* clock is: while the two differ, only the first one goes on.
Where a cluster was off for longer than an hour, its clock is in doubt for the same quarter of an
hour, which does no harm.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

LEAP = timedelta(hours=1)
HOLD = 900.0  # seconds
EVERY = 300.0  # seconds between two marks: two fit into the time that a doubt lasts


class Mark(msgspec.Struct, frozen=True, rename="camel"):
    """In the store. `by` tells managers' processes from each other."""

    time: datetime
    by: str = ""


class Guard:
    """`steady` is a clock that nobody sets, in seconds; `now` the one in doubt. `me` tells
    managers' processes from each other."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._mark: Mark | None = None
        self._seen = 0.0  # when the mark was first seen, by the steady clock
        self._until: float | None = None  # the end of the present doubt
        self.said = ""  # why there is one, in words that stay while it lasts

    @property
    def knows(self) -> bool:
        """Whether there is a mark to go by."""
        return self._mark is not None

    def saw(self, mark: Mark | None, steady: float) -> None:
        """What the store has."""
        if mark is None or mark == self._mark:
            return
        if self._mark is not None and mark.by != self._me:
            self._settle()  # another manager's clock goes on where it is: doubt anew
        self._mark, self._seen = mark, steady

    def doubt(self, now: datetime, steady: float) -> str:
        """Why nothing is to be made by time now, in words; empty: nothing is in doubt."""
        if self._mark is None:
            return ""
        leap = self._leap(now, steady)
        if abs(leap) <= LEAP:
            self._settle()
            return ""
        if self._until is None:
            self._until = steady + HOLD
            way = "ahead of" if leap > timedelta() else "behind"
            self.said = (
                f"the manager's clock said {now:%Y-%m-%dT%H:%M:%SZ}, {_length(abs(leap))} {way} the"
                f" last sign of a manager ({self._mark.time:%Y-%m-%dT%H:%M:%SZ}); nothing is made"
                f" anew by time for {HOLD / 60:.0f} minutes, in case it is wrong"
            )
        return self.said if steady < self._until else ""

    def left(self, steady: float) -> float:
        """Seconds until the doubt ends, unless it comes anew."""
        return 0.0 if self._until is None else max(0.0, self._until - steady)

    def mark(self, now: datetime, steady: float) -> Mark | None:
        """What to write into the store now; None: nothing. Call `saw` with it when it is there."""
        if self._mark is None:
            return Mark(now, self._me)
        if self.doubt(now, steady):
            return None
        if self._until is None and steady - self._seen < EVERY:
            return None
        return Mark(now, self._me)

    def wrote(self, mark: Mark, steady: float) -> None:
        self._mark, self._seen = mark, steady
        self._settle()

    def _settle(self) -> None:
        self._until, self.said = None, ""

    def _leap(self, now: datetime, steady: float) -> timedelta:
        if self._mark is None:
            return timedelta()
        return now - (self._mark.time + timedelta(seconds=steady - self._seen))


def _length(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
