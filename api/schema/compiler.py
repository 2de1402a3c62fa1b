"""JSON Schema compiled to functions that say everything wrong with a value.

Each schema node becomes one closure `check(value) -> problems or None`, built once for a kind.
A valid value costs a few dictionary look-ups and regular expressions (some 20 µs for a small
service, a tenth of what a general validator takes), and an invalid one yields all its problems,
each with its path, in words for people. The closures know only the keywords that our schemas
use; a keyword they don't know fails at start, so that none is silently ignored, and the tests
compare their verdict with jsonschema's.

Beyond the standard, schemas may say (other tools skip what begins with `x-`):

    patternErrorMessage   what the pattern means; editors show it too
    x-also-known-as       names that other systems have for this field
    x-reserved            choices that are named but not there yet, with what to say
    x-only-with           the field goes only with these values of a sibling
    x-quantity            bytes, cpus or duration: the value must be one, of sane size

Stricter than the standard: `$` in a pattern means the very end; 3.0 is no whole number; `format`
is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from api.schema.files import Schema
from api.schema.problem import (
    Code,
    Problem,
    choice,
    field_path,
    nearest,
    quoted,
    shown,
    sort_of,
)
from api.types.quantity import parse_bytes, parse_cpus, parse_duration

Check = Callable[[Any], "list[Problem] | None"]

# A list of a million wrong items is one mistake, not a million.
MAX_PROBLEMS = 100

_KEYWORDS = frozenset(
    (
        *("$schema", "$id", "title", "description", "examples", "default"),
        *("readOnly", "writeOnly", "type", "const", "enum", "format"),
        *("pattern", "patternErrorMessage", "minLength", "maxLength", "minimum", "maximum"),
        *("properties", "required", "additionalProperties", "propertyNames", "items", "maxItems"),
        *("x-also-known-as", "x-reserved", "x-only-with", "x-quantity"),
    )
)
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z")
# Text that YAML takes for text without quotes, whatever its version.
_BARE = re.compile(
    r"(?!(?i:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z/][A-Za-z0-9./_=-]*\Z",
)
_WHOLE = re.compile(r"[+-]?[0-9]+\Z")
_PARSERS: dict[str, tuple[Callable[[Any], float], float, str]] = {
    "bytes": (parse_bytes, 2.0**63 - 1, "a size below 8 EiB"),
    "cpus": (parse_cpus, 1e6, "at most 1000000 CPUs"),
    "duration": (parse_duration, 87600 * 3600.0, "at most ten years (87600h)"),
}


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


class Compiler:
    """Compiles one kind's schema."""

    def __init__(self, kind: Schema) -> None:
        self._places = Places(kind)
        self.check = self._compile(kind, (), hidden=False)

    def _compile(self, node: Schema, path: tuple[str, ...], *, hidden: bool) -> Check:
        unknown = node.keys() - _KEYWORDS
        if unknown:
            raise ValueError(f"schema of {field_path(path)} uses {choice(sorted(unknown))}")
        hidden = hidden or node.get("writeOnly", False)
        checks: list[tuple[tuple[type, ...], Check]] = []
        types = _types(node)
        if "object" in types:
            checks.append(((dict,), self._object(node, path, hidden=hidden)))
        if "array" in types:
            checks.append(((list,), self._array(node, path, hidden=hidden)))
        if "string" in types:
            checks.append(((str,), _string(node, hidden=hidden)))
        if "number" in types or "integer" in types:
            kinds = _PYTHON_TYPES["number" if "number" in types else "integer"]
            checks.append((kinds, _number(node, hidden=hidden)))
        if "boolean" in types:
            checks.append(((bool,), _accept))
        if "null" in types:
            checks.append(((type(None),), _accept))
        return _by_type({kind: check for kinds, check in checks for kind in kinds}, node, hidden)

    def _array(self, node: Schema, path: tuple[str, ...], *, hidden: bool) -> Check:
        item_check = self._compile(node["items"], path, hidden=hidden) if "items" in node else None
        most = node.get("maxItems")

        def check(value: list[Any]) -> list[Problem] | None:
            if most is not None and len(value) > most:
                message = f"expected at most {most} items, got {len(value)}"
                return [Problem((), message, code=Code.TOO_MANY)]
            found: list[Problem] | None = None
            if item_check is not None:
                for index, item in enumerate(value):
                    bad = item_check(item)
                    if bad:
                        found = found or []
                        found += [problem.under(index) for problem in bad]
                        if len(found) >= MAX_PROBLEMS:
                            break
            return found

        return check

    def _object(self, node: Schema, path: tuple[str, ...], *, hidden: bool) -> Check:
        fields = {
            name: self._compile(child, (*path, name), hidden=hidden)
            for name, child in node.get("properties", {}).items()
        }
        required: list[str] = node.get("required", [])
        extra = node.get("additionalProperties", True)
        names = _string(node["propertyNames"], hidden=False) if "propertyNames" in node else None
        values = self._compile(extra, path, hidden=hidden) if isinstance(extra, dict) else None
        together = _only_with(node.get("properties", {}))
        meant = _meant(node)
        unknown = self._unknown(node, path, meant)

        def other(key: object, value: object) -> list[Problem] | None:
            """A key that is no field."""
            if type(key) is not str:
                message = f"expected text as the name of a field, got {shown(key)}"
                return [Problem((), message, code=Code.TYPE)]
            if extra is False:
                return [unknown(key).under(key)]
            bad = names(key) if names is not None else None
            if not bad and values is not None:
                bad = values(value)
            return [problem.under(key) for problem in bad] if bad else None

        def check(value: dict[Any, Any]) -> list[Problem] | None:
            found: list[Problem] | None = None
            for key, child in value.items():
                field = fields.get(key)
                if field is None:
                    bad = other(key, child)
                    if bad:
                        found = (found or []) + bad
                elif (bad := field(child)) is not None:
                    found = (found or []) + [problem.under(key) for problem in bad]
                if found is not None and len(found) >= MAX_PROBLEMS:
                    break
            for key in required:
                if key not in value and key not in map(meant, islice(value, MAX_PROBLEMS)):
                    message = "is required but not given"
                    found = found or []
                    found.append(Problem((key,), message, _example(node, key), Code.REQUIRED))
            for rule in together:
                if (problem := rule(value)) is not None:
                    found = found or []
                    found.append(problem)
            return found

        return check

    def _unknown(
        self, node: Schema, path: tuple[str, ...], meant: Callable[[object], str | None]
    ) -> Callable[[str], Problem]:
        """The problem of a field that isn't known here, with where it may have been meant."""
        properties: Mapping[str, Schema] = node.get("properties", {})

        def hint(key: str) -> str:
            name = meant(key)
            if name is not None:
                alias = key.lower() in _aliases(properties[name])
                return f"it is called {name} here" if alias else f"did you mean {name}?"
            belongs = self._places.elsewhere(key, path)
            if belongs or not properties:
                return belongs
            return f"known here: {', '.join(properties)}"

        return lambda key: Problem((), "unknown field", hint(key), Code.UNKNOWN)


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
    given = node.get("type")
    if isinstance(given, str):
        return (given,)
    if given is not None:
        return tuple(given)
    if "enum" in node or "const" in node or "pattern" in node:
        return ("string",)
    raise ValueError(f"a schema without a type: {node}")


def _accept(value: object) -> None:
    return None


def _by_type(checks: dict[type, Check], node: Schema, hidden: bool) -> Check:
    """The check for the value's type, or the problem that it has another."""
    if len(checks) == 1:
        ((only, inner),) = checks.items()

        def check_one(value: Any) -> list[Problem] | None:
            return inner(value) if type(value) is only else [_wrong_type(value, node, hidden)]

        return check_one

    def check(value: Any) -> list[Problem] | None:
        inner = checks.get(type(value))
        return inner(value) if inner is not None else [_wrong_type(value, node, hidden)]

    return check


def _wrong_type(value: object, node: Schema, hidden: bool) -> Problem:
    types = _types(node)
    expected = choice(_WORDS[each] for each in types)
    if choices := node.get("enum"):
        expected = f"one of {', '.join(choices)}"
    got = sort_of(value) if hidden else shown(value)
    message = f"expected {expected}, got {got}"
    return Problem((), message, _type_hint(value, types, node, hidden), Code.TYPE)


def _type_hint(value: object, types: tuple[str, ...], node: Schema, hidden: bool) -> str:
    if value is None:
        return "give a value, or leave the field out" if "enum" in node else _for_nothing(types)
    if "string" in types and isinstance(value, bool | int | float):
        if hidden:
            return "put the value in quotes"
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


def _string(node: Schema, *, hidden: bool) -> Check:
    """Constants, choices, lengths and patterns of text."""
    if "const" in node or "enum" in node:
        return _choices(node)
    shortest, longest = node.get("minLength", 0), node.get("maxLength")
    pattern = re.compile(_ending(node["pattern"])).search if "pattern" in node else None
    expected = node.get("patternErrorMessage", "")
    more = [each for each in (_quantity(node), _format(node)) if each is not None]
    if pattern is None and not shortest and longest is None and not more:
        return _accept

    def check(value: str) -> list[Problem] | None:
        if len(value) < shortest:
            return [Problem((), "must not be empty", f"expected {expected}" if expected else "")]
        if longest is not None and len(value) > longest:
            message = f"expected at most {longest} characters, got {len(value)}"
            return [Problem((), message, code=Code.TOO_LONG)]
        if pattern is not None and not pattern(value):
            got = "something else" if hidden else quoted(value)
            return [Problem((), f"expected {expected}, got {got}", _case_hint(value, pattern))]
        for each in more:
            if (bad := each(value)) is not None:
                return bad
        return None

    return check


def _ending(pattern: str) -> str:
    """Python's `$` also matches before a last line feed; JSON Schema's does not."""
    return re.sub(r"(?<!\\)\$", r"\\Z", pattern)


def _case_hint(value: str, pattern: Callable[[str], object]) -> str:
    lower = value.strip().lower().replace("_", "-")
    if lower != value and pattern(lower):
        return f"for example {quoted(lower)}"
    if value[:1] == "-" and pattern(value[1:]):
        return "it must not be negative"
    return ""


def _choices(node: Schema) -> Check:
    choices: list[str] = node.get("enum", [node.get("const")])
    reserved: dict[str, str] = node.get("x-reserved", {})
    allowed = frozenset(choices)

    def check(value: str) -> list[Problem] | None:
        if value in allowed:
            return None
        if value in reserved:
            return [Problem((), f"{value}: {reserved[value]}", code=Code.NOT_SUPPORTED)]
        expected = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
        meant = nearest(value, choices)
        message = f"expected {expected}, got {quoted(value)}"
        hint = f"did you mean {meant}?" if meant and len(choices) > 1 else ""
        return [Problem((), message, hint, Code.NOT_SUPPORTED)]

    return check


def _number(node: Schema, *, hidden: bool) -> Check:
    least, most = node.get("minimum"), node.get("maximum")

    def check(value: float) -> list[Problem] | None:
        if value != value or value in (float("inf"), float("-inf")):
            return [Problem((), "expected a number, got one without a value (inf or nan)")]
        if least is not None and value < least:
            got = "less" if hidden else shown(value)
            return [Problem((), f"expected {least} or more, got {got}")]
        if most is not None and value > most:
            got = "more" if hidden else shown(value)
            return [Problem((), f"expected {most} or less, got {got}")]
        return None

    return check


def _quantity(node: Schema) -> Check | None:
    if "x-quantity" not in node:
        return None
    parse, most, words = _PARSERS[node["x-quantity"]]

    def check(value: str) -> list[Problem] | None:
        try:
            fits = parse(value) <= most
        except (ValueError, OverflowError):
            fits = False
        return None if fits else [Problem((), f"expected {words}, got {quoted(value)}")]

    return check


def _format(node: Schema) -> Check | None:
    if "format" not in node:
        return None
    if node["format"] != "date-time":
        raise ValueError(f"a format we can't check: {node['format']}")

    def check(value: str) -> list[Problem] | None:
        try:
            fits = bool(_TIME.match(value)) and datetime.fromisoformat(value) is not None
        except ValueError:
            fits = False
        message = f"expected a time such as 2026-01-31T12:00:00Z, got {quoted(value)}"
        return None if fits else [Problem((), message)]

    return check


def _only_with(properties: Mapping[str, Schema]) -> list[Callable[[dict[str, Any]], Any]]:
    """Rules for fields that go only with some values of a sibling."""

    def rule(name: str, sibling: str, allowed: list[str]) -> Callable[[dict[str, Any]], Any]:
        default = properties[sibling].get("default")
        known = frozenset(properties[sibling]["enum"])

        def check(value: dict[str, Any]) -> Problem | None:
            if name not in value:
                return None
            now = value.get(sibling, default)
            # What is no choice at all has its own problem.
            if now in allowed or not isinstance(now, str) or now not in known:
                return None
            message = f"goes only with {sibling} {choice(allowed)}, and {sibling} is {now}"
            return Problem((name,), message, "remove one of them", Code.FORBIDDEN)

        return check

    return [
        rule(name, sibling, allowed)
        for name, child in properties.items()
        for sibling, allowed in child.get("x-only-with", {}).items()
    ]
