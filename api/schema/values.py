"""What our schemas ask of single values beyond the standard's words.

Stricter than JSON Schema: 3.0 is no whole number, infinity and NaN are none at all, `format` is
checked, and `x-quantity` wants a size, a number of CPUs or a duration that is sane.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from api.types.quantity import parse_bytes, parse_cpus, parse_duration

# Python neither compares larger ones with floats nor shows them; they mean nothing here.
MAX_BITS = 1000

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)
_PARSERS: dict[str, tuple[Callable[[Any], float], float]] = {
    "bytes": (parse_bytes, 2.0**63 - 1),
    "cpus": (parse_cpus, 1e6),
    "duration": (parse_duration, 87600 * 3600.0),
}


def is_whole(value: object) -> bool:
    return type(value) is int and value.bit_length() <= MAX_BITS


def is_number(value: object) -> bool:
    return is_whole(value) or (type(value) is float and math.isfinite(value))


def is_time(value: object) -> bool:
    """Whether it is a time as RFC 3339 writes it; what is no text passes, as formats have it."""
    if not isinstance(value, str):
        return True
    try:
        return bool(_TIME.match(value)) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def is_quantity(sort: str, value: str) -> bool:
    parse, most = _PARSERS[sort]
    try:
        return parse(value) <= most
    except (ValueError, OverflowError):
        return False
