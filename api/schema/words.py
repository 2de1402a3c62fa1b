"""Words for what jsonschema finds wrong: each ValidationError becomes a Problem.

The words are ours because they are half of what validation is for: they name the field as it is
written in a manifest, say what was probably meant, and never show what the schema marks writeOnly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from jsonschema import ValidationError

from api.schema.errors import compiled, finder
from api.schema.files import Schema
from api.schema.problem import (
    Code,
    Path,
    Problem,
    choice,
    field_path,
    nearest,
    quoted,
    shown,
    sort_of,
)
from api.schema.values import MAX_BITS

# A list of a million wrong items is one mistake, not a million.
MAX_PROBLEMS = 100

_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_QUANTITIES = {
    "bytes": "a size below 8 EiB",
    "cpus": "at most 1000000 CPUs",
    "duration": "at most ten years (87600h)",
}
# Text that YAML takes for text without quotes, whatever its version.
_BARE = re.compile(
    r"(?!(?i:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z/][A-Za-z0-9./_=-]*\Z",
)
_WHOLE = re.compile(r"[+-]?[0-9]+\Z")


class Wording:
    """Says everything wrong with objects of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._errors = finder(schema)
        self._places = Places(schema)

    def problems(self, obj: object) -> list[Problem]:
        """All problems, or the first hundred, in the order in which the object is written."""
        found: dict[tuple[Path, bool], Problem] = {}
        for error in islice(self._errors(obj), MAX_PROBLEMS):
            problem = self._problem(error)
            if problem is not None:
                # What is of the wrong type has the wrong form too: the first says enough. But a
                # field that doesn't belong may be wrong besides.
                found.setdefault((problem.path, problem.code is Code.FORBIDDEN), problem)
        return _as_written(obj, found.values())

    def _problem(self, error: ValidationError) -> Problem | None:
        path = tuple(error.absolute_path)
        names, hidden = self._where(error)
        value, node = _value_of(error), _schema_of(error)
        match error.validator:
            case "required":
                if str(path[-1]) in map(_meant(node), islice(value, MAX_PROBLEMS)):
                    return None
                hint = _example(node, str(path[-1]))
                return Problem(path, "is required but not given", hint, Code.REQUIRED)
            case "additionalProperties":
                hint = self._unknown_hint(str(path[-1]), node, names)
                return Problem(path, "unknown field", hint, Code.UNKNOWN)
            case "names":
                message = f"expected text as the name of a field, got {shown(value)}"
                return Problem(path, message, code=Code.TYPE)
            case "x-only-with":
                ((sibling, allowed),) = _limit_of(error).items()
                message = f"goes only with {sibling} {choice(allowed)}, and {sibling} is {value}"
                return Problem(path, message, "remove one of them", Code.FORBIDDEN)
            case _:
                return _worded(path, error, hidden=hidden)

    def _where(self, error: ValidationError) -> tuple[tuple[str, ...], bool]:
        """The names of the fields down to the error, and whether its value must not be shown."""
        node: Any = self._schema
        names: list[str] = []
        hidden = False
        steps = iter(error.absolute_schema_path)
        for step in steps:
            node = node[step]
            if step == "properties" and (name := next(steps, None)) is not None:
                names.append(str(name))
                node = node[name]
            if isinstance(node, dict):
                hidden = hidden or node.get("writeOnly", False)
        return tuple(names), hidden

    def _unknown_hint(self, key: str, node: Schema, names: tuple[str, ...]) -> str:
        properties: Mapping[str, Schema] = node.get("properties", {})
        name = _meant(node)(key)
        if name is not None:
            alias = key.lower() in _aliases(properties[name])
            return f"it is called {name} here" if alias else f"did you mean {name}?"
        belongs = self._places.elsewhere(key, names)
        if belongs or not properties:
            return belongs
        return f"known here: {', '.join(properties)}"


class Places:
    """Where in a kind each field name is known, to say where a misplaced field belongs."""

    def __init__(self, kind: Schema) -> None:
        self._paths: dict[str, list[tuple[str, ...]]] = {}
        self._aliases: dict[str, list[tuple[str, ...]]] = {}
        self._collect(kind, ())

    def _collect(self, node: Schema, path: tuple[str, ...]) -> None:
        for name, child in node.get("properties", {}).items():
            if child.get("readOnly"):
                continue
            self._paths.setdefault(name, []).append((*path, name))
            for alias in child.get("x-also-known-as", ()):
                self._aliases.setdefault(alias.lower(), []).append((*path, name))
            self._collect(child, (*path, name))
        if "items" in node:
            self._collect(node["items"], path)

    def elsewhere(self, name: str, here: tuple[str, ...]) -> str:
        """Where `name`, which is unknown at `here`, belongs, in words; or nothing."""
        for known in (self._paths.get(name, []), self._aliases.get(name.lower(), [])):
            if known:
                ranked = sorted(known, key=lambda path: -_shared(path, here))
                best = _shared(ranked[0], here)
                same = [path for path in ranked if _shared(path, here) == best][:2]
                if all(path[-1] == name for path in same):
                    parents = [field_path(path[:-1]) or "the top level" for path in same]
                    return f"it belongs to {' or '.join(parents)}"
                return f"see {' or '.join(map(field_path, same))}"
        return ""


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for mine, yours in zip(one, other, strict=False):
        if mine != yours:
            break
        count += 1
    return count


def _meant(node: Schema) -> Callable[[object], str | None]:
    """The field of a block that an unknown name was probably meant to be."""
    properties: Mapping[str, Schema] = node.get("properties", {})
    others = {alias: name for name, child in properties.items() for alias in _aliases(child)}

    def meant(key: object) -> str | None:
        if not isinstance(key, str) or key in properties:
            return None
        return others.get(key.lower()) or nearest(key, properties)

    return meant


def _aliases(node: Schema) -> list[str]:
    return [alias.lower() for alias in node.get("x-also-known-as", ())]


def _types(node: Schema) -> tuple[str, ...]:
    # Constants and choices are text.
    given = node.get("type", "string")
    return (given,) if isinstance(given, str) else tuple(given)


def _as_written(obj: object, problems: Iterable[Problem]) -> list[Problem]:
    """Problems in the object's own order; what is missing comes at its block's end."""
    orders: dict[int, dict[object, int]] = {}

    def place(problem: Problem) -> list[int]:
        at: Any = obj
        result: list[int] = []
        for key in problem.path:
            if isinstance(at, list) and isinstance(key, int):
                result.append(key)
                at = at[key]
            else:
                if id(at) not in orders:
                    orders[id(at)] = {name: index for index, name in enumerate(at)}
                result.append(orders[id(at)].get(key, len(at)))
                at = at.get(key)
        return result

    return sorted(problems, key=place)


def _schema_of(error: ValidationError) -> Schema:
    return error.schema if isinstance(error.schema, dict) else {}


def _value_of(error: ValidationError) -> Any:
    return error.instance


def _limit_of(error: ValidationError) -> Any:
    """What the schema gives to the keyword that found the error."""
    return error.validator_value


def _worded(path: Path, error: ValidationError, *, hidden: bool) -> Problem:
    """The problem of one value by one of the standard's keywords, or x-quantity."""
    value, node, limit = _value_of(error), _schema_of(error), _limit_of(error)
    expected = node.get("patternErrorMessage", "")
    match error.validator:
        case "const" | "enum" if isinstance(value, str):
            return _no_choice(path, value, node)
        case "type" | "const" | "enum":
            return _wrong_type(path, value, node, hidden)
        case "minLength":
            return Problem(path, "must not be empty", f"expected {expected}" if expected else "")
        case "maxLength":
            message = f"expected at most {limit} characters, got {len(value)}"
            return Problem(path, message, code=Code.TOO_LONG)
        case "maxItems":
            message = f"expected at most {limit} items, got {len(value)}"
            return Problem(path, message, code=Code.TOO_MANY)
        case "minItems":
            items = "item" if limit == 1 else "items"
            return Problem(path, f"expected at least {limit} {items}, got {len(value)}")
        case "maxProperties" | "minProperties" as which:
            bound = "at most" if which == "maxProperties" else "at least"
            fields = "field" if limit == 1 else "fields"
            return Problem(path, f"expected {bound} {limit} {fields}, got {len(value)}")
        case "pattern":
            got = "something else" if hidden else quoted(value)
            return Problem(path, f"expected {expected}, got {got}", _case_hint(value, limit))
        case "minimum":
            got = "less" if hidden else shown(value)
            return Problem(path, f"expected {limit} or more, got {got}")
        case "maximum":
            got = "more" if hidden else shown(value)
            return Problem(path, f"expected {limit} or less, got {got}")
        case "x-quantity":
            return Problem(path, f"expected {_QUANTITIES[limit]}, got {quoted(value)}")
        case "format":
            example = "2026-01-31T12:00:00Z"
            return Problem(path, f"expected a time such as {example}, got {quoted(value)}")
        case other:
            raise ValueError(f"a keyword without words: {other}")


def _no_choice(path: Path, value: str, node: Schema) -> Problem:
    choices: list[str] = node.get("enum", [node.get("const")])
    reserved: dict[str, str] = node.get("x-reserved", {})
    if value in reserved:
        return Problem(path, f"{value}: {reserved[value]}", code=Code.NOT_SUPPORTED)
    expected = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    meant = nearest(value, choices)
    message = f"expected {expected}, got {quoted(value)}"
    hint = f"did you mean {meant}?" if meant and len(choices) > 1 else ""
    return Problem(path, message, hint, Code.NOT_SUPPORTED)


def _wrong_type(path: Path, value: object, node: Schema, hidden: bool) -> Problem:
    types = _types(node)
    if "number" in types and isinstance(value, float):
        return Problem(path, "expected a number, got one without a value (inf or nan)")
    expected = choice(_WORDS[each] for each in types)
    if choices := node.get("enum"):
        expected = f"one of {', '.join(choices)}"
    got = sort_of(value) if hidden else shown(value)
    message = f"expected {expected}, got {got}"
    return Problem(path, message, _type_hint(value, types, node, hidden), Code.TYPE)


def _type_hint(value: object, types: tuple[str, ...], node: Schema, hidden: bool) -> str:
    if value is None:
        return "give a value, or leave the field out" if "enum" in node else _for_nothing(types)
    if "string" in types and isinstance(value, bool | int | float):
        if hidden:
            return "put the value in quotes"
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            return ""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f'put it in quotes: "{text[:40]}"'
    if "integer" in types and isinstance(value, str):
        return "remove the quotes" if _WHOLE.match(value.strip()) else ""
    if "boolean" in types and isinstance(value, str):
        word = value.lower()
        meant = {"yes": "true", "on": "true", "true": "true"}.get(word) or {
            "no": "false", "off": "false", "false": "false"
        }.get(word)  # fmt: skip
        return f"write {meant}, without quotes" if meant else ""
    if "array" in types and "examples" in node:
        return f"for example: {_flow(node['examples'][0])}"
    return ""


def _for_nothing(types: tuple[str, ...]) -> str:
    if "string" in types:
        return 'give a value, or leave the field out; quote it ("", "null") if that is meant'
    return "give a value, or leave the field out"


def _flow(value: object) -> str:
    """A value as YAML's flow style has it, for examples in hints."""
    match value:
        case list():
            return f"[{', '.join(map(_flow, value))}]"
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
        case str() if not _BARE.match(value):
            return quoted(value)
        case _:
            return str(value)


def _example(node: Schema, key: str) -> str:
    examples = node.get("properties", {}).get(key, {}).get("examples")
    return f"for example: {key}: {_flow(examples[0])}" if examples else ""


def _case_hint(value: str, expression: str) -> str:
    pattern = compiled(expression).search
    lower = value.strip().lower().replace("_", "-")
    if lower != value and pattern(lower):
        return f"for example {quoted(lower)}"
    if value[:1] == "-" and pattern(value[1:]):
        return "it must not be negative"
    return ""
