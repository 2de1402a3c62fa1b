"""Names and uids. Cheap: one is made for each of a million tasks."""

from __future__ import annotations

import hashlib
import random

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"  # base32's
_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]  # of ten bits each
_SHIFTS = range(70, -1, -10)

_source = random.Random()  # noqa: S311 - seeded by the system; uids need to differ, not to be secret


def new_uid() -> str:
    """A random UUID's text."""
    digits = f"{_source.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def digest(text: str, length: int) -> str:
    """`length` (at most 16) characters of [a-z2-7] that follow from the text."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=10).digest())
    pairs = _SHIFTS[: (length + 1) // 2]
    return "".join([_PAIRS[number >> shift & 1023] for shift in pairs])[:length]


def bounded(stem: str, suffix: str, limit: int = 63) -> str:
    """`stem-suffix`, the stem cut so that the whole is a DNS label."""
    return f"{stem[: limit - len(suffix) - 1].rstrip('-.')}-{suffix}"
