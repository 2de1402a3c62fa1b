"""The filters of a text. They take and give text: bytes that are no UTF-8 pass through unharmed."""

from __future__ import annotations

import base64
import json
import shlex
import urllib.parse
from collections.abc import Callable
from typing import Any

from jinja2.filters import do_default


class FilterError(Exception):
    """What a value was not fit for. The words never hold the value."""


def text_of(data: bytes) -> str:
    """Any bytes as text; `bytes_of` gives the same bytes again."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _b64encode(value: object) -> str:
    return base64.b64encode(bytes_of(str(value))).decode()


def _b64decode(value: object) -> str:
    try:
        return text_of(base64.b64decode("".join(str(value).split()), validate=True))
    except ValueError:
        raise FilterError("b64decode was given what is not base64") from None


def _tojson(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8").decode()
    except (TypeError, ValueError):
        raise FilterError("tojson was given what is no UTF-8 text; encode it first") from None


def _quote(value: object) -> str:
    return shlex.quote(str(value))


def _urlencode(value: object) -> str:
    return urllib.parse.quote(bytes_of(str(value)), safe="")


def _replace(value: object, old: str, new: str) -> str:
    return str(value).replace(str(old), str(new))


def _indent(value: object, width: int = 4) -> str:
    """All lines but the first, as under a YAML key."""
    if not isinstance(width, int) or not 0 <= width <= 100:
        raise FilterError("indent takes a width of 0 to 100")
    return str(value).replace("\n", "\n" + " " * width)


def _upper(value: object) -> str:
    return str(value).upper()


def _lower(value: object) -> str:
    return str(value).lower()


def _trim(value: object) -> str:
    return str(value).strip()


def _length(value: object) -> int:
    return len(bytes_of(str(value)))


FILTERS: dict[str, Callable[..., Any]] = {
    "b64decode": _b64decode,
    "b64encode": _b64encode,
    "default": do_default,
    "indent": _indent,
    "length": _length,
    "lower": _lower,
    "quote": _quote,
    "replace": _replace,
    "tojson": _tojson,
    "trim": _trim,
    "upper": _upper,
    "urlencode": _urlencode,
}
