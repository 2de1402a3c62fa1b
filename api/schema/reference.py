"""What a field is, for `ctl explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from api.schema.files import Schema, resolved
from api.schema.problem import field_path, nearest
from api.types.kinds import Kind


class UnknownField(LookupError):
    """A kind has no field of that name; the text says so and what was probably meant."""


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a kind, or the kind itself, with the fields below it."""

    name: str
    path: tuple[str, ...]
    type: str  # text, whole number, list of mappings, map from text to text or number …
    description: str
    required: bool = False
    read_only: bool = False  # the system's to write
    default: Any = msgspec.UNSET
    other_defaults: tuple[tuple[str, Any], ...] = ()  # where another field says so, in words
    enum: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()
    format: str = ""  # what text must look like, in words
    children: tuple[Field, ...] = ()

    @property
    def has_default(self) -> bool:
        return self.default is not msgspec.UNSET


Others = dict[str, Any]  # in words when: the default

_WORDS = {
    "object": "mapping",
    "array": "list",
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "nothing",
}
_PLURALS = {"mapping": "mappings", "text": "texts", "whole number": "whole numbers"}


def explain(kind: Kind, path: Sequence[str]) -> Field:
    """The field at `path` (lists and maps are looked through: spec.template.ports.target,
    generate.length).

    Its children are there to any depth. Raises UnknownField.
    """
    node, required, walked = resolved(kind.name), False, [kind.name]
    others: Others = {}
    for name in path:
        inner = _fields_of(node)
        if name not in inner:
            raise UnknownField(_unknown(kind, walked, name, list(inner)))
        required = name in _looked_through(node).get("required", [])
        node, others = inner[name], _others(node).get(name, {})
        walked.append(name)
    return _field(walked[-1], tuple(walked[1:]), node, others, required=required)


def _unknown(kind: Kind, walked: list[str], name: str, known: list[str]) -> str:
    place = field_path(walked[1:]) or kind.name
    if not known:
        return f"{place} of {kind.name} has no fields, so no {name}"
    meant = nearest(name, known)
    advice = f"did you mean {meant}?" if meant else f"it has: {', '.join(known)}"
    return f"{place} has no field {name}; {advice}"


def _looked_through(node: Schema) -> Schema:
    """What is in a list, or in a map of names to mappings."""
    while True:
        extra = node.get("additionalProperties")
        if "items" in node:
            node = node["items"]
        elif "properties" not in node and isinstance(extra, dict) and "properties" in extra:
            node = extra
        else:
            return node


def _fields_of(node: Schema) -> dict[str, Schema]:
    properties: dict[str, Schema] = _looked_through(node).get("properties", {})
    return properties


def _others(node: Schema) -> dict[str, dict[str, Any]]:
    """By the name of a field in it, and in words when: its default."""
    return {
        name: value
        for sibling, by in node.get("x-default-by", {}).items()
        for name, value in _turned(sibling, by).items()
    }


def _turned(sibling: str, by: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for which, defaults in by.items():
        for name, default in defaults.items():
            found.setdefault(name, {})[f"{sibling} {which}"] = default
    return found


def _field(
    name: str, path: tuple[str, ...], node: Schema, others: Others, *, required: bool
) -> Field:
    inner = _looked_through(node)
    most = inner.get("required", [])
    return Field(
        name=name,
        path=path,
        type=_type_words(node),
        description=node.get("description", ""),
        required=required,
        read_only=node.get("readOnly", False),
        default=node.get("default", msgspec.UNSET),
        other_defaults=tuple(others.items()),
        enum=tuple(inner.get("enum", ())),
        examples=tuple(node.get("examples", ())),
        format=inner.get("patternErrorMessage", ""),
        children=tuple(
            _field(
                child, (*path, child), inside, _others(node).get(child, {}), required=child in most
            )
            for child, inside in _fields_of(node).items()
        ),
    )


def _type_words(node: Schema) -> str:
    if "items" in node:
        inner = _type_words(node["items"])
        return f"list of {_PLURALS.get(inner, inner)}"
    given = node.get("type", "string")
    types = [given] if isinstance(given, str) else given
    extra = node.get("additionalProperties")
    if types == ["object"] and "properties" not in node and isinstance(extra, dict):
        return f"map from text to {_type_words(extra)}"
    return " or ".join(_WORDS[each] for each in types)
