"""JSON to plain values, with the limits that YAML has.

JSON is read by a JSON parser, since YAML's can't read all of it (escapes of characters beyond
U+FFFF). Positions of fields come from reading the same text as YAML, where that can be done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from api.manifest.problem import Fault
from api.manifest.values import MAX_DEPTH, NotInJSON, decimal, whole
from api.manifest.wording import too_deep
from api.manifest.yamltext import Parsed
from api.schema import quoted

_SPACE = re.compile(r"[ \t\r\n]*")
_PAIR = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


class _Repeated(ValueError):
    """A field is given twice in one object."""


class NotJSON(ValueError):
    """The text is not JSON that we take; carries what to say of it.

    `placed`: the fault is at its place, not only at the beginning of the value it is in.
    """

    def __init__(self, fault: Fault, *, placed: bool) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.placed = placed


def documents(text: str) -> Iterator[Parsed | Fault]:
    """The JSON values of a text, one after the other. Raises NotJSON at the first that isn't."""
    decoder = json.JSONDecoder(
        object_pairs_hook=_object,
        parse_int=whole,
        parse_float=decimal,
        parse_constant=_constant,
    )
    at, counted, line = _after_space(text, 0), 0, 0
    while at < len(text):
        line += text.count("\n", counted, at)
        counted = at
        column = at - text.rfind("\n", 0, at)
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            message = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
            raise NotJSON(Fault(error.lineno, error.colno, message), placed=True) from None
        except (_Repeated, NotInJSON) as error:
            # These parsers don't say where; reading the text as YAML does.
            raise NotJSON(Fault(line + 1, column, str(error)), placed=False) from None
        except RecursionError:
            raise NotJSON(_too_deep(line + 1, column), placed=True) from None
        if _depth(value) > MAX_DEPTH:
            yield _too_deep(line + 1, column)
        elif value is not None:
            yield Parsed(value, at, end, line, line + 1, column)
        at = _after_space(text, end)


def as_yaml(text: str) -> str:
    """The same JSON with pairs of escapes joined, which YAML writes as one."""
    return _PAIR.sub(
        lambda pair: chr(
            0x10000 + ((int(pair[1], 16) - 0xD800) << 10) + (int(pair[2], 16) - 0xDC00)
        ),
        text,
    )


def _too_deep(line: int, column: int) -> Fault:
    return too_deep(line, column)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Repeated(f"the field {quoted(key)} is given twice")
            seen.add(key)
    return result


def _constant(name: str) -> float:
    raise NotInJSON("infinity and not-a-number can't be stored")


def _depth(value: Any) -> int:
    deepest, todo = 0, [(value, 1)]
    while todo:
        node, level = todo.pop()
        deepest = max(deepest, level)
        if isinstance(node, dict):
            todo.extend((child, level + 1) for child in node.values())
        elif isinstance(node, list):
            todo.extend((child, level + 1) for child in node)
    return deepest
