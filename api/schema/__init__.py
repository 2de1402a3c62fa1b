"""Validation, defaults and documentation of objects, all from the files in schemas/v1.

The model: the JSON Schema files are the only source, read once (`files`). Two libraries check
objects by them: jsonschema-rs says yes to valid ones in microseconds (`quick`), and for the rest
jsonschema finds everything wrong (`errors`), which is put in words (`words`). Rules between
fields that JSON Schema can't say are code (`rules`) and speak with the same voice. Everything
takes and gives plain JSON values, so that what a user wrote is kept as it was written; the typed
structs of `api.types` are only ever decoded from objects that passed here.

    validate(obj)    everything that is wrong with it, in words, with paths; never raises
    default(obj)     a copy with the schema's defaults filled in
    payload(obj)     the bytes in a valid Secret or Config
    explain(kind, …) what a field is
    for_kind(kind)   the JSON Schema itself
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from api.schema.defaults import Fill, compile_defaults
from api.schema.files import Schema, for_kind, resolved
from api.schema.problem import Code, Path, Problem, field_path, nearest, quoted, shown, sort_of
from api.schema.quick import accepts
from api.schema.reference import Field, UnknownField, explain
from api.schema.rules import RULES, decode_base64
from api.schema.secrets import has_system_values
from api.types.kinds import BY_NAME, KINDS, kind_for
from api.types.meta import API_GROUP, API_VERSION

Find = Callable[[object], list[Problem]]

__all__ = [
    "Code",
    "Field",
    "Path",
    "Problem",
    "UnknownField",
    "decode_base64",
    "default",
    "explain",
    "field_path",
    "for_kind",
    "has_system_values",
    "nearest",
    "payload",
    "quoted",
    "settle",
    "sort_of",
    "validate",
    "without",
]


def validate(obj: object) -> list[Problem]:
    """All problems of an object as JSON has it: dicts, lists, text, numbers, true, false, None.

    None of them means that it decodes into its kind's struct. Works on any value, of any depth.
    """
    if not isinstance(obj, dict):
        hint = "an object begins with apiVersion, kind and metadata"
        return [Problem((), "expected a mapping", hint, Code.TYPE)]
    kind = obj.get("kind")
    if not isinstance(kind, str) or kind not in BY_NAME:
        return _envelope(obj)
    found = _version(obj)
    problems = [] if accepts(kind, obj) else _problems(kind)(obj)
    # The schema says the same of apiVersion in fewer words.
    found += [each for each in problems if each.path != ("apiVersion",)] if found else problems
    if kind in RULES:
        found += RULES[kind](obj)
    return found


def default(obj: dict[str, Any]) -> dict[str, Any]:
    """A copy with the schema's defaults filled in, also in blocks that are partly given.

    Works on invalid objects too, and gives those of unknown kinds back unchanged. What the
    schema doesn't describe, status included, is shared with the original.
    """
    kind = obj.get("kind")
    fill = _fill(kind) if isinstance(kind, str) and kind in BY_NAME else None
    filled: dict[str, Any] = fill(obj) if fill is not None else dict(obj)
    return filled


def settle(merged: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`merged` without what no longer goes with the rest of it and `given` does not ask for.

    For merges: a service that was replicated has `replicas` in the store; a manifest that makes it
    global doesn't, and should not have to say that they go.
    """
    problems = [each for each in validate(merged) if each.code is Code.FORBIDDEN]
    for problem in problems:
        asked = _at(given, problem.path[:-1])
        if isinstance(asked, dict) and problem.path[-1] in asked:
            continue
        merged = without(merged, problem.path)
    return merged


def payload(obj: dict[str, Any]) -> dict[str, bytes]:
    """The bytes of a valid Secret's or Config's keys. Raises ValueError where it is not valid."""
    secret = obj.get("kind") == "Secret"
    encoded, plain = ("data", "stringData") if secret else ("binaryData", "data")
    result = {key: decode_base64(text) for key, text in (obj.get(encoded) or {}).items()}
    result |= {key: text.encode() for key, text in (obj.get(plain) or {}).items()}
    return result


@cache
def _problems(kind: str) -> Find:
    return _finder(resolved(kind))


def _finder(node: Schema) -> Find:
    # jsonschema takes a tenth of a second to import: only who has made a mistake waits for it.
    from api.schema.words import Wording

    return Wording(node).problems


@cache
def _fill(kind: str) -> Fill:
    return compile_defaults(resolved(kind)) or dict


@cache
def _declared() -> tuple[str, ...]:
    return tuple(kind.name for kind in KINDS if kind.declared)


@cache
def _meant_kinds() -> dict[str, str]:
    """Other systems' names of kinds, in lower case → ours."""
    return {
        alias.lower(): kind.name
        for kind in KINDS
        for alias in resolved(kind.name).get("x-also-known-as", ())
    }


@cache
def _envelope_problems() -> Find:
    metadata = dict(resolved("Service")["properties"]["metadata"])
    metadata["properties"] = {**metadata["properties"], "name": {"type": "string", "minLength": 1}}
    return _finder(
        {"type": "object", "required": ["metadata"], "properties": {"metadata": metadata}}
    )


def _envelope(obj: dict[Any, Any]) -> list[Problem]:
    """What can be said of an object whose kind is not known."""
    return [*_version(obj), _kind_problem(obj), *_envelope_problems()(obj)]


def _version(obj: dict[Any, Any]) -> list[Problem]:
    path = ("apiVersion",)
    if "apiVersion" not in obj:
        return [Problem(path, "is required but not given", _write(API_VERSION), Code.REQUIRED)]
    given = obj["apiVersion"]
    if given == API_VERSION:
        return []
    if not isinstance(given, str):
        return [Problem(path, f"expected text, got {shown(given)}", _write(API_VERSION), Code.TYPE)]
    group = given.partition("/")[0]
    what = f"unknown version {quoted(given)}" if group == API_GROUP else f"unknown {quoted(given)}"
    return [Problem(path, f"{what}, there is {API_VERSION}", code=Code.NOT_SUPPORTED)]


def _write(version: str) -> str:
    return f"write apiVersion: {version}"


def _kind_problem(obj: dict[Any, Any]) -> Problem:
    path, listed = ("kind",), ", ".join(_declared())
    if "kind" not in obj:
        return Problem(path, "is required but not given", f"one of {listed}", Code.REQUIRED)
    given = obj["kind"]
    if not isinstance(given, str):
        return Problem(path, f"expected one of {listed}, got {shown(given)}", code=Code.TYPE)
    known = kind_for(given)
    meant = known.name if known else nearest(given, _declared())
    meant = _meant_kinds().get(given.lower(), meant)
    hint = f"did you mean {meant}?" if meant else ""
    message = f"unknown kind {quoted(given)}, expected one of {listed}"
    return Problem(path, message, hint, Code.NOT_SUPPORTED)


def _at(value: object, path: Path) -> object:
    for key in path:
        if isinstance(value, list) and isinstance(key, int):
            value = value[key] if key < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def without(value: Any, path: Path) -> Any:
    """A copy without what is at `path`."""
    key, *rest = path
    if isinstance(value, list) and isinstance(key, int):
        return [
            without(item, tuple(rest)) if index == key else item for index, item in enumerate(value)
        ]
    if not rest:
        return {name: item for name, item in value.items() if name != key}
    return {
        name: without(item, tuple(rest)) if name == key else item for name, item in value.items()
    }
