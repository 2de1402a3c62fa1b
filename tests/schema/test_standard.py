"""Our schemas are JSON Schema 2020-12, and our compiler says what a standard validator says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from referencing import Registry, Resource

from api.schema import Code, default, for_kind, validate
from api.schema.compiler import Compiler
from api.schema.files import DIRECTORY, resolved
from api.types import codec
from api.types.kinds import BY_NAME, KINDS, Kind
from tests.schema.objects import JUNK, valid

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
FILES = sorted(DIRECTORY.glob("*.json"))
slow_data = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@cache
def registry() -> Registry[Any]:
    contents = [json.loads(file.read_text()) for file in FILES]
    return Registry().with_resources([(c["$id"], Resource.from_contents(c)) for c in contents])


@cache
def judge(kind: str) -> jsonschema.Draft202012Validator:
    raw = json.loads((DIRECTORY / f"{kind.lower()}.json").read_text())
    return jsonschema.Draft202012Validator(raw, registry=registry())


@cache
def objects(kind: str) -> st.SearchStrategy[Any]:
    return valid(resolved(kind))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_files_are_valid_schemas(file: Any) -> None:
    contents = json.loads(file.read_text())
    jsonschema.Draft202012Validator.check_schema(contents)
    assert contents["$id"] == f"https://skep.dev/schemas/v1/{file.name}"
    assert contents["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@each_kind
def test_a_kinds_schema_is_complete_in_itself(kind: Kind) -> None:
    whole = for_kind(kind)
    assert "$ref" not in json.dumps(whole)
    jsonschema.Draft202012Validator.check_schema(whole)


@each_kind
def test_defaults_and_examples_are_what_their_schema_allows(kind: Kind) -> None:
    def walk(node: dict[str, Any], path: str) -> None:
        for each in [*node.get("examples", []), *([node["default"]] if "default" in node else [])]:
            jsonschema.Draft202012Validator(node).validate(each)
        for name, child in node.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        if "items" in node:
            walk(node["items"], path)

    walk(resolved(kind.name), kind.name)


@each_kind
@slow_data
@given(st.data())
def test_what_the_schema_allows_is_accepted_and_decodes(kind: Kind, data: st.DataObject) -> None:
    obj = data.draw(objects(kind.name))
    filled = default(obj)
    assert default(filled) == filled
    problems = Compiler(resolved(kind.name)).check(obj) or []
    judge(kind.name).validate(obj)
    assert [p for p in problems if not _stricter(p)] == []
    if not validate(obj):
        assert validate(filled) == []
        codec.decode(kind, json.dumps(obj).encode(), 1)
        codec.decode(kind, json.dumps(filled).encode(), 1)


@each_kind
@slow_data
@given(st.data())
def test_a_standard_validator_gives_the_same_verdict(kind: Kind, data: st.DataObject) -> None:
    obj = data.draw(objects(kind.name))
    for _ in range(data.draw(st.integers(1, 3))):
        obj = _damaged(obj, data)
    problems = Compiler(resolved(kind.name)).check(obj) or []
    standard = judge(kind.name).is_valid(obj)
    if standard:
        assert [p for p in problems if not _stricter(p)] == []
    else:
        assert problems
    if not validate(obj):
        codec.decode(BY_NAME[obj["kind"]], json.dumps(obj).encode(), 1)


def _stricter(problem: Any) -> bool:
    """What we refuse and the standard doesn't: our own keywords and formats."""
    return problem.code is Code.FORBIDDEN or any(
        words in problem.message
        for words in ("ten years", "8 EiB", "1000000 CPUs", "expected a time", "\\n")
    )


def _damaged(value: Any, data: st.DataObject) -> Any:
    """A copy with one mistake somewhere in it."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 3)):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: _damaged(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        index = data.draw(st.integers(0, len(value) - 1))
        return [*value[:index], _damaged(value[index], data), *value[index + 1 :]]
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        gone = data.draw(st.sampled_from(sorted(value)))
        return {key: each for key, each in value.items() if key != gone}
    if isinstance(value, dict) and data.draw(st.booleans()):
        return {**value, data.draw(st.text(max_size=8)): data.draw(JUNK)}
    return data.draw(JUNK)
