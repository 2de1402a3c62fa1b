"""The schemas and the structs say the same, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from api import schema
from api.schema.files import Schema, raw, resolved
from api.types import codec, quantity
from api.types.kinds import BY_NAME, KINDS, Kind
from tests.schema.objects import minimal, service, templated

# Written by users and never part of a stored object, or not of interest to any controller.
ONLY_IN_SCHEMA = {
    "Secret.data",
    "Secret.sealed",
    "Secret.stringData",
    "Secret.type",
}
# A struct that is made in code needs no name; an object that is sent does.
REQUIRED_ONLY_IN_SCHEMA = {"metadata.name"}
JSON_TYPES: list[tuple[type, str]] = [
    (msgspec.inspect.StructType, "object"),
    (msgspec.inspect.DictType, "object"),
    (msgspec.inspect.ListType, "array"),
    (msgspec.inspect.StrType, "string"),
    (msgspec.inspect.DateTimeType, "string"),
    (msgspec.inspect.EnumType, "string"),
    (msgspec.inspect.IntType, "integer"),
    (msgspec.inspect.FloatType, "number"),
    (msgspec.inspect.BoolType, "boolean"),
    (msgspec.inspect.NoneType, "null"),
    (msgspec.inspect.RawType, "array"),  # managedFields, which is kept as its bytes
]


class Pair(msgspec.Struct):
    """A struct's field beside its schema."""

    path: str
    field: msgspec.inspect.Field
    node: Schema | None
    required: bool
    read_only: bool


def _struct(found: msgspec.inspect.Type) -> msgspec.inspect.StructType | None:
    """The struct in a field's type, in a list or an option of it too."""
    if isinstance(found, msgspec.inspect.StructType):
        return found
    if isinstance(found, msgspec.inspect.ListType):
        return _struct(found.item_type)
    if isinstance(found, msgspec.inspect.UnionType):
        return next((inner for each in found.types if (inner := _struct(each))), None)
    return None


def _pairs(
    struct: msgspec.inspect.StructType, node: Schema, path: str, read_only: bool = False
) -> Iterator[Pair]:
    while "items" in node:
        node = node["items"]
    properties = node.get("properties", {})
    for field in struct.fields:
        child = properties.get(field.encode_name)
        system = read_only or bool(child and child.get("readOnly"))
        required = field.encode_name in node.get("required", [])
        yield Pair(f"{path}.{field.encode_name}", field, child, required, system)
        inner = _struct(field.type)
        if inner is not None and child is not None:
            yield from _pairs(inner, child, f"{path}.{field.encode_name}", system)


def _walk(kind: Kind) -> list[Pair]:
    info = msgspec.inspect.type_info(kind.type)
    assert isinstance(info, msgspec.inspect.StructType)
    return list(_pairs(info, resolved(kind.name), kind.name))


each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@each_kind
def test_every_field_of_the_struct_is_in_the_schema(kind: Kind) -> None:
    assert [pair.path for pair in _walk(kind) if pair.node is None] == []


@each_kind
def test_every_field_of_the_schema_is_in_the_struct(kind: Kind) -> None:
    known = {pair.path for pair in _walk(kind)} | ONLY_IN_SCHEMA
    unknown: list[str] = []

    def walk(node: Schema, path: str) -> None:
        while "items" in node:
            node = node["items"]
        for name, child in node.get("properties", {}).items():
            if path == kind.name and name in ("apiVersion", "kind"):
                continue
            if f"{path}.{name}" not in known:
                unknown.append(f"{path}.{name}")
            walk(child, f"{path}.{name}")

    walk(resolved(kind.name), kind.name)
    assert unknown == []


@each_kind
def test_types_are_the_same(kind: Kind) -> None:
    for pair in _walk(kind):
        node = pair.node
        assert node is not None
        types = node.get("type", "string")
        found = pair.field.type
        inner = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
        names = {next(name for kind, name in JSON_TYPES if isinstance(t, kind)) for t in inner}
        given = {types} if isinstance(types, str) else set(types)
        if "number" in given:
            names.discard("integer")  # a number may be whole
        if pair.field.default is None:
            names.discard("null")  # None where it is not given
            given.discard("null")
        assert given == names, pair.path


@each_kind
def test_required_is_the_same(kind: Kind) -> None:
    for pair in _walk(kind):
        short = pair.path.removeprefix(f"{kind.name}.")
        if short in REQUIRED_ONLY_IN_SCHEMA:
            assert pair.required
        elif not pair.read_only:
            assert pair.required == pair.field.required or short == "metadata", pair.path


def _said(value: object) -> object:
    """What a struct's default says that is not nothing."""
    if isinstance(value, dict):
        return [each for each in value.values() if _said(each)]
    return value


@each_kind
def test_defaults_are_the_same(kind: Kind) -> None:
    """What the schema has no default for is empty in the struct, or all of it has its own."""
    for pair in _walk(kind):
        field, node = pair.field, pair.node
        assert node is not None
        if field.required:
            assert "default" not in node, pair.path
            continue
        factory = field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        if isinstance(default, msgspec.Raw):
            default = msgspec.json.decode(default)
        own = msgspec.to_builtins(default)
        if "default" in node:
            assert node["default"] == own, pair.path
            assert type(node["default"]) is type(own) or node["default"] == 0, pair.path
        elif not pair.read_only:
            assert not _said(own), pair.path


@pytest.mark.parametrize(
    "obj",
    [minimal(kind.name) for kind in KINDS]
    + [
        service(update={"delay": "1s"}),
        service(update={"order": "start-first"}, rollback={"parallelism": 0}),
        service(restart={"condition": "none"}),
        service(mode="global"),
        service(mode="replicated-job"),
        service(mode="replicated-job", job={"completions": 3}, schedule={"cron": "@daily"}),
        service(mode="global-job", job={"ttlAfterFinish": "1d"}),
        service(placement={"constraints": ["node.role == worker"]}),
        templated(healthcheck={"interval": "1s"}),
        templated(resources={"limits": {"memory": "1Gi"}}),
        templated(resources={"reservations": {}}),
        templated(ports=[{"target": 80}, {"target": 81, "protocol": "udp"}]),
        templated(secrets=[{"name": "a", "uid": 3}], configs=[{"name": "b"}]),
        templated(mounts=[{"target": "/a"}, {"type": "tmpfs", "target": "/b"}]),
        minimal("Node") | {"spec": {"availability": "drain"}},
    ],
    ids=lambda obj: str(obj)[60:],
)
def test_an_object_means_the_same_with_and_without_the_schemas_defaults(
    obj: dict[str, Any],
) -> None:
    kind = BY_NAME[obj["kind"]]
    filled = schema.default(obj)
    assert schema.validate(obj) == []
    assert schema.validate(filled) == []
    as_given = codec.decode(kind, msgspec.json.encode(obj), 1)
    assert codec.decode(kind, msgspec.json.encode(filled), 1) == as_given


def test_quantities_are_written_as_the_parsers_take_them() -> None:
    defined = raw("meta.json")["$defs"]
    assert defined["bytes"]["pattern"] == quantity.BYTES_PATTERN
    assert defined["cpus"]["pattern"] == quantity.CPUS_PATTERN
    assert defined["duration"]["pattern"] == quantity.DURATION_PATTERN


def _undescribed(node: Schema, path: str) -> Iterator[str]:
    while "items" in node:
        node = node["items"]
    for name, child in node.get("properties", {}).items():
        text = child.get("description", "").lower()
        if len(text) < 5:
            yield f"{path}.{name}"
        if child.get("default") and "default" not in text and str(child["default"]) not in text:
            yield f"{path}.{name} (its default)"
        if not child.get("readOnly"):
            yield from _undescribed(child, f"{path}.{name}")


@each_kind
def test_every_field_is_described_and_its_default_explained(kind: Kind) -> None:
    assert list(_undescribed(resolved(kind.name), kind.name)) == []
