"""Cron schedules: which times an expression names in a time zone.

Expressions have five fields (minute, hour, day of month, month, day of week) and mean what Debian's
cron means by them, with names (`MON`, `JAN`), `L` (the month's last day) and `MON#2` (its second
Monday), and one of the words @hourly, @daily, @weekly, @monthly, @yearly. `cronsim` reads them; it
also knows what Debian does when clocks change. A job at fixed times runs once a day: what falls
into the hour that is skipped runs when that is over, what falls into the hour that is repeated
runs in its first pass. A job that begins with `*` in minutes or hours runs by time that passes.

Times that go in and come out are aware; those that come out are in UTC.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# How far to look back for the latest time, in steps: what runs every minute is found in the first,
# what runs on the 29th of February in the last.
_LOOK_BACK = tuple(timedelta(hours=hours) for hours in (1, 25, 32 * 24, 367 * 24, 9 * 366 * 24))


class Cron:
    """One expression in one time zone."""

    def __init__(self, expression: str, time_zone: str = "UTC") -> None:
        """Raises ValueError, in words for the user."""
        self.expression = expression
        self._fields = _WORDS.get(expression.strip().lower(), expression)
        self._zone = zone(time_zone)
        count = len(self._fields.split())
        if expression.strip().startswith("@") and self._fields == expression:
            raise ValueError(f"expected one of {', '.join(_WORDS)}")
        if count != 5:
            raise ValueError(
                f"expected 5 fields (minute, hour, day of month, month, day of week), found {count}"
            )
        try:
            CronSim(self._fields, datetime(2026, 1, 1))
        except CronSimError as error:
            raise ValueError(_worded(str(error))) from None

    def after(self, moment: datetime) -> datetime | None:
        """The first time after `moment`; None where there is none in fifty years."""
        for time in CronSim(self._fields, moment.astimezone(self._zone)):
            found = time.astimezone(UTC)
            # Where an hour is repeated or skipped, local times are not in the order of time.
            if found > moment:
                return found
        return None

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """The last time after `since` and not after `until`, None where there is none."""
        found = None
        for step in _LOOK_BACK:
            start = max(since, until - step)
            time = self.after(start)
            while time is not None and time <= until:
                found, time = time, self.after(time)
            if found is not None or start == since:
                break
        return found


@lru_cache(maxsize=1024)
def cron(expression: str, time_zone: str) -> Cron:
    """A Cron, read once. Raises ValueError."""
    return Cron(expression, time_zone)


def zone(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of that name. Raises ValueError, in words for the user."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}") from None


def _worded(problem: str) -> str:
    """cronsim's `Bad day-of-week` in ours."""
    field = problem.removeprefix("Bad ").replace("-", " ")
    return f"the field for {field} can't be read, or names no time there is"
