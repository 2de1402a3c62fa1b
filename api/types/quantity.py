"""Quantities and durations as people write them: `512Mi`, `0.5Gi`, `250m`, `10s`, `1m30s`."""

from __future__ import annotations

import re
from functools import lru_cache

_BYTES = {
    "": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

# The schemas use these same patterns, so what passes there parses here.
BYTES_PATTERN = r"^[0-9]+(\.[0-9]+)?(k|K|M|G|T|Ki|Mi|Gi|Ti)?$"
CPUS_PATTERN = r"^[0-9]+(\.[0-9]+)?m?$"
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


@lru_cache(maxsize=4096)
def parse_bytes(text: str | int) -> int:
    """`512Mi` → bytes. Raises ValueError."""
    if isinstance(text, int):
        return text
    if not text:
        return 0
    if not re.match(BYTES_PATTERN, text):
        raise ValueError(f"{text!r} is not a size; write it like 512Mi, 0.5Gi or 1000000")
    number = text.rstrip("kKMGTi")
    return int(float(number) * _BYTES[text[len(number) :]])


@lru_cache(maxsize=4096)
def parse_cpus(text: str | float | int) -> float:
    """`250m` → 0.25 cores. Raises ValueError."""
    if isinstance(text, int | float):
        return float(text)
    if not text:
        return 0.0
    if not re.match(CPUS_PATTERN, text):
        raise ValueError(f"{text!r} is not a number of CPUs; write it like 0.5, 2 or 250m")
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


@lru_cache(maxsize=4096)
def parse_duration(text: str) -> float:
    """`1m30s` → seconds. Raises ValueError."""
    if not re.match(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration; write it like 10s, 1m30s or 500ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
