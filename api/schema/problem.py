"""What is wrong with an object, and the words for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

Path = tuple[str | int, ...]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_SHOWN = 60  # characters of a wrong value that a message shows


class Code(StrEnum):
    """Kinds of problems, in Kubernetes' words: they become the causes' reasons in a Status."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    TYPE = "FieldValueTypeInvalid"
    NOT_SUPPORTED = "FieldValueNotSupported"
    DUPLICATE = "FieldValueDuplicate"
    FORBIDDEN = "FieldValueForbidden"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    UNKNOWN = "FieldUnknown"
    SYNTAX = "SyntaxError"


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong: where, what, and what to do about it.

    `message` and `hint` are sentences without capital and full stop. They never hold a value
    that the schema marks writeOnly.
    """

    path: Path
    message: str
    hint: str = ""
    code: Code = Code.INVALID

    @property
    def field(self) -> str:
        """The path as people write it: `spec.template.ports[0].target`."""
        return field_path(self.path)

    @property
    def text(self) -> str:
        """Message and hint, without the place."""
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def under(self, key: str | int) -> Problem:
        """The same problem, seen from the parent that has it at `key`."""
        return Problem((key, *self.path), self.message, self.hint, self.code)

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.path else self.text


def field_path(path: Sequence[str | int]) -> str:
    """`("spec", "ports", 0)` → `spec.ports[0]`; keys that are no plain words are quoted."""
    parts: list[str] = []
    for key in path:
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif len(key) <= _SHOWN and _PLAIN_KEY.match(key):
            parts.append(f".{key}" if parts else key)
        else:
            parts.append(f"[{quoted(key)}]")
    return "".join(parts)


def quoted(text: str) -> str:
    """Text in double quotes, shortened."""
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1] + "…"
    return json.dumps(text, ensure_ascii=not text.isprintable())


def shown(value: object) -> str:
    """A wrong value, in words: `text "three"`, `the number 3`, `a list`."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case str():
            return f"text {quoted(value)}"
        case int() | float():
            return f"the number {_number(value)}"
        case _:
            return sort_of(value)


def sort_of(value: object) -> str:
    """What sort of value it is, without showing it."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true or false"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return f"a {type(value).__name__}"


def _number(value: float) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:
        return "with more than 30 digits"
    return repr(value)


def choice(words: Iterable[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` was probably meant to be."""
    among = list(choices)
    plain = _folded(word)
    for each in among:
        if _folded(each) == plain:
            return each
    import difflib  # takes as long to load as all else here

    folded = {_folded(each): each for each in reversed(among)}
    close = difflib.get_close_matches(plain[:100], folded, n=1, cutoff=0.7)
    return folded[close[0]] if close else None


def _folded(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "").replace(" ", "")
