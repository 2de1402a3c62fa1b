"""Label and field selectors: text in, a test for objects out.

Labels take Kubernetes' whole language: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`,
`!a`, joined by commas. Fields take `path=value`, `path==value`, `path!=value` on any dotted path
of the kind, resolved once on its struct; a path that the kind doesn't have is an error, not an
empty answer, so that nobody waits for what can't come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import lru_cache
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from api.types.kinds import Kind
from api.types.meta import Object

Test = Callable[[Object], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s+\(([^()]*)\)$")
_EQUAL = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")
_FIELD = re.compile(r"^\s*([A-Za-z][\w./-]*)\s*(==|=|!=)\s*(.*?)\s*$")


class SelectorError(ValueError):
    """A selector that can't be read; says which part, and how one looks."""


class Requirement(NamedTuple):
    """What one label must be. `values` None: it must be there at all."""

    key: str
    values: frozenset[str] | None
    negated: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        if self.values is None:
            return (self.key in labels) != self.negated
        return (labels.get(self.key) in self.values) != self.negated


class FieldRequirement(NamedTuple):
    path: str
    value: str
    negated: bool


class Selection(NamedTuple):
    """A label and a field selector together."""

    labels: tuple[Requirement, ...]
    fields: tuple[FieldRequirement, ...]
    readers: tuple[Callable[[Object], str], ...]  # of each field
    # Of what is not the object's own: of a task seen as a pod.
    labels_of: Callable[[Object], Mapping[str, str]] | None = None

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def holds(self, obj: Object) -> bool:
        if self.labels:
            own = self.labels_of
            labels = obj.metadata.labels if own is None else own(obj)
            if not all(requirement.holds(labels) for requirement in self.labels):
                return False
        for wanted, read in zip(self.fields, self.readers, strict=True):
            if (read(obj) == wanted.value) == wanted.negated:
                return False
        return True

    def exact(self, path: str) -> str | None:
        """The one value that the field at `path` must have, where the selection says one."""
        return next((f.value for f in self.fields if f.path == path and not f.negated), None)


def selection(kind: Kind, labels: str = "", fields: str = "") -> Selection:
    """Raises SelectorError."""
    by_field = parse_fields(fields)
    readers = tuple(reader(kind.type, requirement.path) for requirement in by_field)
    return Selection(parse_labels(labels), by_field, readers)


@lru_cache(maxsize=1024)
def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Raises SelectorError."""
    return tuple(_label(part.strip()) for part in _split(text))


@lru_cache(maxsize=1024)
def parse_fields(text: str) -> tuple[FieldRequirement, ...]:
    """Raises SelectorError."""
    requirements = []
    for part in text.split(",") if text.strip() else []:
        match = _FIELD.match(part)
        if match is None:
            raise SelectorError(
                f"field selector {part.strip()!r} can't be read; write it like"
                " metadata.name=web or status.state!=Running"
            )
        path, operator, value = match.groups()
        requirements.append(FieldRequirement(path, value, operator == "!="))
    return tuple(requirements)


def _split(text: str) -> Sequence[str]:
    """At commas outside parentheses."""
    if not text.strip():
        return []
    return re.split(r",(?![^(]*\))", text)


def _label(part: str) -> Requirement:
    if match := _EQUAL.match(part):
        key, operator, value = match.groups()
        return Requirement(key, frozenset({value}), operator == "!=")
    if match := _SET.match(part):
        key, operator, values = match.groups()
        chosen = frozenset(value.strip() for value in values.split(","))
        return Requirement(key, chosen, operator == "notin")
    if match := _EXISTS.match(part):
        return Requirement(match.group(2), None, match.group(1) == "!")
    raise SelectorError(
        f"label selector {part!r} can't be read; write it like app=web, app!=web, app in (a,b),"
        " app notin (a,b), app or !app"
    )


@lru_cache(maxsize=4096)
def reader(struct: type[Object], path: str) -> Callable[[Object], str]:
    """Reads the field at a dotted JSON path of a struct as text. Raises SelectorError."""
    attributes = _attributes(struct, path)

    def read(obj: Object) -> str:
        at: Any = obj
        for attribute, is_key in attributes:
            at = at.get(attribute) if is_key else getattr(at, attribute)
            if at is None:
                return ""
        return _text(at)

    return read


def _attributes(struct: type[Any], path: str) -> list[tuple[str, bool]]:
    """Steps of a path: an attribute of a struct, or (True) a key of a mapping."""
    steps: list[tuple[str, bool]] = []
    at: Any = struct
    rest = path
    while rest:
        if get_origin(at) is dict:
            return [*steps, (rest, True)]  # a label's key may hold dots
        head, _, rest = rest.partition(".")
        fields = _fields(at)
        if fields is None or head not in fields:
            known = f"; here are: {', '.join(sorted(fields))}" if fields else ""
            raise SelectorError(f"{struct.kind} has no field {path} to select by{known}")
        attribute, at = fields[head]
        steps.append((attribute, False))
    if _fields(at) is not None or get_origin(at) in (dict, list):
        raise SelectorError(f"{path} of {struct.kind} is no single value; select by a part of it")
    return steps


@lru_cache(maxsize=256)
def _fields(struct: Any) -> dict[str, tuple[str, Any]] | None:
    """JSON name → attribute and type; None for what is no struct."""
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        return None
    hints = get_type_hints(struct)
    return {
        field.encode_name: (field.name, _plain(hints[field.name]))
        for field in msgspec.structs.fields(struct)
    }


def _plain(hint: Any) -> Any:
    """X of `X | None`."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    kept = [arg for arg in get_args(hint) if arg is not type(None)]
    return kept[0] if len(kept) == 1 else hint


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)
