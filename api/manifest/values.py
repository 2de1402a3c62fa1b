"""What a plain YAML scalar means: YAML 1.2's core schema, with two exceptions in users' favour.

`yes`, `no`, `on`, `off` and dates are text, as in YAML 1.2; only `true`, `false`, `null`, `~` and
numbers are anything else. The exceptions:

- Whole numbers with leading zeros (`0444`, `007`) stay text, as written. YAML 1.1 reads them as
  octal, 1.2 as decimal; whoever writes one means the digits. `0o444` and `0x1F` are numbers.
- Numbers that JSON can't carry (`.inf`, `.nan`, 1e999, whole numbers beyond 64 bits) are refused.
"""

from __future__ import annotations

import re

# Of lists and mappings, in YAML and in JSON.
MAX_DEPTH = 100
# Only text that begins with one of these can be anything but text.
STARTS = frozenset("0123456789+-.~nNtTfF")

_CONSTANTS: dict[str, bool | None] = {
    "null": None, "Null": None, "NULL": None, "~": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_BASED = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")

Scalar = str | int | float | bool | None


class NotInJSON(ValueError):
    """A number that JSON can't carry."""


def plain(text: str) -> Scalar:
    """The value of a scalar that is not quoted. Raises NotInJSON."""
    if not text:
        return None
    if text[0] not in STARTS:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.match(text):
        return whole(text)
    if _BASED.match(text):
        return _bounded(int(text[2:], 8 if text[1] == "o" else 16))
    if _FLOAT.match(text):
        return decimal(text)
    if _NOT_FINITE.match(text):
        raise NotInJSON("infinity and not-a-number can't be stored")
    return text


def in_env(text: str) -> Scalar:
    """The same in a block of environment variables, which are text in the end.

    A number that would read back differently (1.10, 1e3, 0x1F) stays as it was written.
    """
    try:
        value = plain(text)
    except NotInJSON:
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if is_number and repr(value) != text else value


def whole(text: str) -> int:
    """A decimal whole number of at most 64 bits. Raises NotInJSON."""
    # Python refuses to read thousands of digits; nobody needs more than 20.
    if len(text) > 25:
        raise NotInJSON("a whole number of more than 64 bits is too large")
    return _bounded(int(text))


def decimal(text: str) -> float:
    """A finite number. Raises NotInJSON."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise NotInJSON("the number is too large")
    return value


def _bounded(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise NotInJSON("a whole number of more than 64 bits is too large")
    return value
