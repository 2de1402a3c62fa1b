"""A quick yes to valid objects, which nearly all are, from jsonschema-rs.

Its yes is final, so nothing may pass here that `errors` would refuse: the schemas it gets are
told in its terms where ours are stricter than the standard, and the tests hold the two to one
verdict. Its no only means that `errors` looks closer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema_rs import Draft202012Validator

from api.schema.files import Schema, resolved
from api.schema.values import is_number, is_quantity, is_time, is_whole

# Put beside each numeric type: to the standard 3.0 is a whole number.
_NUMERIC = "x-numeric"


def accepts(kind: str, obj: object) -> bool:
    """Whether an object is certainly valid by its kind's schema."""
    try:
        return _validator(kind).is_valid(obj)
    except ValueError:
        # Not JSON at all: a key that is no text, half of a surrogate pair.
        return False


class _Numeric:
    def __init__(self, parent: Schema, whole: bool, path: list[str | int]) -> None:
        self._fits = is_whole if whole else is_number

    def validate(self, value: Any) -> None:
        if isinstance(value, int | float) and not self._fits(value):
            raise ValueError


class _Quantity:
    def __init__(self, parent: Schema, sort: str, path: list[str | int]) -> None:
        self._sort = sort

    def validate(self, value: Any) -> None:
        if isinstance(value, str) and not is_quantity(self._sort, value):
            raise ValueError


@cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(
        _strict(resolved(kind)),
        formats={"date-time": is_time},
        validate_formats=True,
        keywords={_NUMERIC: _Numeric, "x-quantity": _Quantity},
    )


def _strict(node: Schema) -> Schema:
    """The schema with what ours mean beyond the standard said in the standard's words."""
    strict = dict(node)
    if "properties" in node:
        fields: dict[str, Schema] = node["properties"]
        strict["properties"] = {name: _strict(child) for name, child in fields.items()}
        strict["dependentSchemas"] = {
            name: _only_with(sibling, allowed, fields[sibling].get("default"))
            for name, child in fields.items()
            for sibling, allowed in child.get("x-only-with", {}).items()
        }
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(node.get(key), dict):
            strict[key] = _strict(node[key])
    types = node.get("type", ())
    if "number" in types or "integer" in types:
        strict[_NUMERIC] = "number" not in types
    return strict


def _only_with(sibling: str, allowed: list[str], default: object) -> Schema:
    needed = [] if default in allowed else [sibling]
    return {"properties": {sibling: {"enum": allowed}}, "required": needed}
