"""When to fetch next: no I/O, and chance given from outside.

Fetches of one interval are spread by a tenth, so that a thousand secrets are not asked for at once.
A provider that fails is asked again after ten seconds, then twice as long each time, and never less
often than once an hour or the secret's interval, whichever is longer.
"""

from __future__ import annotations

_SPREAD = 0.1
_FIRST = 10.0  # seconds
_MOST = 3600.0
_AFTER_START = 30.0


def after_success(refresh: float, chance: float) -> float:
    """Seconds to the next fetch. `chance` is from 0 to 1."""
    return refresh * (1 - _SPREAD + 2 * _SPREAD * chance)


def after_failure(refresh: float, failures: int, chance: float) -> float:
    """Seconds to the next try, after so many failures in a row."""
    longest = max(refresh, _MOST)
    wait = min(_FIRST * 2.0 ** min(failures - 1, 20), longest)
    return wait * (1 - _SPREAD + 2 * _SPREAD * chance)


def after_start(refresh: float, age: float | None, chance: float) -> float:
    """Seconds until a manager that has just started fetches. `age` is that of what is there."""
    if age is None:
        return 0.0
    spread = min(_AFTER_START, refresh) * chance
    return spread if age < 0 or age >= refresh else refresh - age
