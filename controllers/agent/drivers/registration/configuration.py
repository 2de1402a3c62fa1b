"""The engine's configuration file (daemon.json), with the runtime and without. No I/O.

What is not ours stays, in its order. An engine that reads the file again and finds no `runtimes` in
it keeps those it had; only an empty `runtimes` tells it that there are none.
"""

from __future__ import annotations

import json
import re
from typing import Any

from controllers.agent.drivers.registration.errors import Malformed

NAME = "skep"

_RUNTIMES = "runtimes"
_INDENTED = re.compile(r"^\s*\{[ \t]*\r?\n([ \t]+)\S")


def with_runtime(text: str, program: str) -> str:
    """The text with the runtime in it; unchanged where it has it. Raises Malformed."""
    found = _read(text)
    runtimes = found.setdefault(_RUNTIMES, {})
    wanted = {"path": program}
    if runtimes.get(NAME) == wanted:
        return text
    runtimes[NAME] = wanted
    return _write(found, text)


def names_runtime(text: str) -> bool:
    """Raises Malformed."""
    return NAME in _read(text).get(_RUNTIMES, {})


def without_runtime(text: str, *, telling: bool) -> str:
    """The text without the runtime. `telling` a running engine takes an empty `runtimes` where no
    other is left. Raises Malformed."""
    found = _read(text)
    runtimes = found.setdefault(_RUNTIMES, {})
    runtimes.pop(NAME, None)
    if not runtimes and not telling:
        del found[_RUNTIMES]
    return _write(found, text)


def is_empty(text: str) -> bool:
    """Raises Malformed."""
    return not _read(text)


def _read(text: str) -> dict[str, Any]:
    if not text.strip():  # which an engine takes
        return {}
    try:
        found = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error.msg}", error.lineno, error.colno) from None
    if not isinstance(found, dict):
        raise Malformed("not a JSON object")
    if not isinstance(found.get(_RUNTIMES, {}), dict):
        raise Malformed(f"{_RUNTIMES} is not a JSON object")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Malformed(f"{key} is there twice")
        found[key] = value
    return found


def _no_number(text: str) -> Any:
    raise Malformed(f"{text} is not a number of JSON")


def _write(found: dict[str, Any], like: str) -> str:
    indented = _INDENTED.match(like)
    indent = indented[1] if indented else "  "
    return json.dumps(found, indent=indent, ensure_ascii=False) + "\n"
