"""Everything wrong with an object by its schema: jsonschema, taught what our schemas say beyond it.

Its messages are not used (`words` has ours), so the keywords that would print a value of any size
and depth in them are replaced by ones that don't. Beyond the standard, schemas may say (other
tools skip what begins with `x-`):

    patternErrorMessage   what the pattern means; editors show it too
    x-also-known-as       names that other systems have for this field
    x-reserved            choices that are named but not there yet, with what to say
    x-only-with           the field goes only with these values of a sibling
    x-quantity            bytes, cpus or duration: the value must be one, of sane size
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Protocol

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from api.schema.files import Schema
from api.schema.values import is_number, is_quantity, is_time, is_whole

Errors = Iterator[ValidationError]

_standard = Draft202012Validator.VALIDATORS


class Validator(Protocol):
    """What a keyword may ask of jsonschema."""

    def is_type(self, instance: object, type: str) -> bool: ...
    def evolve(self, *, schema: Any) -> Validator: ...
    def iter_errors(self, instance: object) -> Errors: ...


def finder(schema: Schema) -> Callable[[object], Errors]:
    """A function that yields what is wrong with a value, as it is found."""
    made: Validator = _Validator(schema, format_checker=_Validator.FORMAT_CHECKER)
    return made.iter_errors


def _type(validator: Validator, types: Any, value: object, schema: Schema) -> Errors:
    names = [types] if isinstance(types, str) else types
    if not any(validator.is_type(value, name) for name in names):
        yield ValidationError("of another type")


def _const(validator: Validator, only: str, value: object, schema: Schema) -> Errors:
    return _enum(validator, [only], value, schema)


def _enum(validator: Validator, choices: list[str], value: object, schema: Schema) -> Errors:
    if not isinstance(value, str) or value not in choices:
        yield ValidationError("none of the choices")


def _pattern(validator: Validator, pattern: str, value: object, schema: Schema) -> Errors:
    """As the standard's, where `$` is the very end; too long a text is not searched at all."""
    if not isinstance(value, str) or len(value) > schema.get("maxLength", len(value)):
        return
    if not compiled(pattern).search(value):
        yield ValidationError("another form")


def _quantity(validator: Validator, sort: str, value: object, schema: Schema) -> Errors:
    if isinstance(value, str) and not is_quantity(sort, value):
        yield ValidationError("no such quantity")


def _max_items(validator: Validator, most: int, value: object, schema: Schema) -> Errors:
    if isinstance(value, list) and len(value) > most:
        yield ValidationError("too many items")


def _items(validator: Validator, items: Schema, value: object, schema: Schema) -> Errors:
    """As the standard's, but not for lists that are too long anyway."""
    if isinstance(value, list) and len(value) <= schema.get("maxItems", len(value)):
        yield from _each(validator, items, enumerate(value))


def _required(validator: Validator, names: list[str], value: object, schema: Schema) -> Errors:
    """As the standard's, with the missing field's path."""
    if isinstance(value, dict):
        for name in names:
            if name not in value:
                yield ValidationError("missing", path=[name])


def _property_names(validator: Validator, names: Schema, value: object, schema: Schema) -> Errors:
    """As the standard's, with the path of what has the name."""
    if isinstance(value, dict):
        yield from _each(validator, names, ((key, key) for key in value if isinstance(key, str)))


def _others(validator: Validator, others: Any, value: object, schema: Schema) -> Errors:
    """additionalProperties as the standard's, with an error for each, and keys must be text."""
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    for key in value:
        if not isinstance(key, str):
            yield ValidationError("no text", validator="names", instance=key)
        elif others is False and key not in known:
            yield ValidationError("unknown", path=[key])
    if isinstance(others, dict):
        pairs = ((key, value[key]) for key in value if key not in known and isinstance(key, str))
        yield from _each(validator, others, pairs)


def _properties(validator: Validator, fields: dict[str, Schema], value: Any, schema: Schema) -> Any:
    """As the standard's, and `x-only-with`, which looks at two fields."""
    yield from _standard["properties"](validator, fields, value, schema)
    if not isinstance(value, dict):
        return
    for name, child in fields.items():
        if name not in value or "x-only-with" not in child:
            continue
        for sibling, allowed in child["x-only-with"].items():
            now = value.get(sibling, fields[sibling].get("default"))
            # What is no choice at all has its own error.
            if now not in allowed and now in fields[sibling]["enum"]:
                yield ValidationError(
                    "goes with another",
                    validator="x-only-with",
                    validator_value={sibling: allowed},
                    instance=now,
                    path=[name],
                    schema_path=[name],
                )


def _each(
    validator: Validator, schema: Schema, pairs: Iterable[tuple[str | int, object]]
) -> Errors:
    """The errors of many values by one schema. Made once, not anew for each: lists are long."""
    one = validator.evolve(schema=schema)
    for key, value in pairs:
        for error in one.iter_errors(value):
            error.path.appendleft(key)
            yield error


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    # Python's `$` also matches before a last line feed; JSON Schema's does not.
    return re.compile(re.sub(r"(?<!\\)\$", r"\\Z", pattern))


def _formats() -> FormatChecker:
    checker = FormatChecker(formats=())
    checker.checks("date-time")(is_time)
    return checker


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "type": _type,
        "const": _const,
        "enum": _enum,
        "pattern": _pattern,
        "maxItems": _max_items,
        "items": _items,
        "required": _required,
        "properties": _properties,
        "additionalProperties": _others,
        "propertyNames": _property_names,
        "x-quantity": _quantity,
    },
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: is_whole(value),
            "number": lambda _, value: is_number(value),
        }
    ),
    format_checker=_formats(),
)

# All that a schema can ask; `x-only-with` is part of `properties`.
KEYWORDS = frozenset(_Validator.VALIDATORS)
