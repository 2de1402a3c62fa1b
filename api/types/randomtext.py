"""What random text can be asked for: its alphabets, and how hard it is to guess."""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from typing import Final

from api.types.generated import Generate

BITS: Final = 128  # of a value whose length is not given
WORDS: Final = "words"
WORD_COUNT: Final = 7776  # in EFF's long list, five dice a word

ALPHABETS: Final = {
    "alphanumeric": string.ascii_letters + string.digits,
    "lowercase": string.ascii_lowercase + string.digits,
    "digits": string.digits,
    "hex": "0123456789abcdef",
    "base64": string.ascii_letters + string.digits + "+/",
    "base64url": string.ascii_letters + string.digits + "-_",
    "ascii": "".join(map(chr, range(33, 127))),
}
CLASSES: Final[dict[str, Callable[[str], bool]]] = {
    "lower": str.islower,
    "upper": str.isupper,
    "digit": str.isdigit,
    "symbol": lambda char: not char.isalnum(),
}


def is_words(wanted: Generate) -> bool:
    return wanted.charset == WORDS and not wanted.alphabet


def alphabet(wanted: Generate) -> str:
    """The characters it is made of, each once; none for words."""
    return "".join(dict.fromkeys(wanted.alphabet or ALPHABETS.get(wanted.charset, "")))


def length(wanted: Generate) -> int:
    """How many characters or words, also where that is not said. 0: it can't be."""
    if wanted.length:
        return wanted.length
    each = _bits_each(wanted)
    return math.ceil(BITS / each) if each > 0 else 0


def bits(wanted: Generate) -> float:
    """How hard it is to guess, in bits; with classes a little less."""
    return 8.0 * wanted.bytes if wanted.bytes else length(wanted) * _bits_each(wanted)


def impossible(wanted: Generate) -> str:
    """Why no such text can be, in words; empty: it can."""
    if wanted.bytes or is_words(wanted):
        return ""
    chars = alphabet(wanted)
    if len(chars) < 2:
        return "an alphabet needs at least two different characters"
    for name in wanted.classes:
        if not any(map(CLASSES[name], chars)):
            return f"there is no {name} in its characters"
    if length(wanted) < len(set(wanted.classes)):
        return f"{length(wanted)} characters can't hold one of {len(set(wanted.classes))} classes"
    return ""


def _bits_each(wanted: Generate) -> float:
    if is_words(wanted):
        return math.log2(WORD_COUNT)
    chars = alphabet(wanted)
    return math.log2(len(chars)) if chars else 0.0
