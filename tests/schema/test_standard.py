"""Our schemas are JSON Schema 2020-12, and the quick yes and the full answer are one verdict."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from referencing import Registry, Resource

from api.schema import Code, Problem, default, for_kind, validate
from api.schema.errors import KEYWORDS
from api.schema.files import DIRECTORY, Schema, resolved
from api.schema.quick import accepts
from api.schema.words import Wording
from api.types import codec
from api.types.kinds import BY_NAME, KINDS, Kind
from tests.schema.objects import JUNK, minimal, service, templated, valid

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
FILES = sorted(DIRECTORY.glob("*.json"))
slow_data = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


# Values that the two libraries, or Python and JSON, may take for different things.
ODD: list[Any] = [
    *(3.0, -0.0, 1.5, 1e300, float("inf"), float("-inf"), float("nan")),
    *(True, None, 2**31, 2**63, 2**64, 10**40, -(10**40), 1 << 20000),
    *("a\n", "a\r", "\x1c", "a\x1fb", "a\x7f", "a\x85b", "a\xa0b", "\ufeffa"),
    *("a\u2028", "a\u3000b"),
    *("\x00", "\ud800", "/a\u2028/../b", "/a\r/../b", "٣", "٣s", "10s\n", "é"),
    *("𝔘" * 63, "x" * 5000),
    *("2026-01-31T12:00:00Z", "2026-02-31T12:00:00Z", "2026-01-31", "٢026-01-31T12:00:00Z"),
    *("99999h", "9" * 24, "1" * 100_000, {1: 2}, {"\ud800": 1}, {None: 1}, [[[[1]]]], [], {}),
]  # fmt: skip
ANNOTATIONS = {
    *("$schema", "$id", "title", "description", "examples", "default", "readOnly", "writeOnly"),
    *("patternErrorMessage", "x-also-known-as", "x-reserved", "x-only-with", "x-default-by"),
    *("x-list-keys", "x-list-set"),  # how server-side apply merges lists
}


def agreed(kind: str, obj: Any) -> list[Problem]:
    """The problems by the schema, after making sure that the quick way gives the same verdict."""
    problems = wording(kind).problems(obj)
    quick = accepts(kind, obj)
    assert not (quick and problems)
    # What no JSON can hold takes the slow way, whatever the verdict.
    assert quick or problems or not _encodable(obj)
    return problems


def _encodable(obj: Any) -> bool:
    try:
        json.dumps(obj, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def wording(kind: str) -> Wording:
    return Wording(resolved(kind))


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
    judge(kind.name).validate(obj)
    assert [p for p in agreed(kind.name, obj) if not _stricter(p)] == []
    if not validate(obj):
        assert validate(filled) == []
        codec.decode(kind, json.dumps(obj).encode(), 1)
        codec.decode(kind, json.dumps(filled).encode(), 1)


@each_kind
@slow_data
@given(st.data())
def test_the_quick_yes_and_the_full_answer_agree(kind: Kind, data: st.DataObject) -> None:
    obj = data.draw(objects(kind.name))
    for _ in range(data.draw(st.integers(1, 3))):
        obj = _damaged(obj, data)
    if not agreed(kind.name, obj):
        judge(kind.name).validate(obj)
    if not validate(obj):
        codec.decode(BY_NAME[obj["kind"]], json.dumps(obj).encode(), 1)


@pytest.mark.parametrize("value", ODD, ids=[str(each) for each in range(len(ODD))])
def test_they_agree_on_what_libraries_see_differently(value: Any) -> None:
    for name in ("replicas", "mode", "update", "placement"):
        agreed("Service", service(**{name: value}))
    for name in ("image", "workdir", "user", "command", "env", "stopSignal", "stopGracePeriod"):
        agreed("Service", templated(**{name: value}))
    agreed("Service", templated(env={"A": value}))
    agreed("Service", templated(command=[value]))
    agreed("Service", templated(resources={"limits": {"cpus": value, "memory": value}}))
    agreed("Service", service(update={"maxFailureRatio": value}))
    agreed("Service", service(placement={"constraints": [value]}))
    agreed("Node", minimal("Node") | {"metadata": {"name": "a", "creationTimestamp": value}})
    if isinstance(value, str):
        agreed("Service", templated(env={value: "1"}, labels={value: "1"}))
        agreed("Config", minimal("Config") | {"data": {value: ""}})


@pytest.mark.parametrize("mode", [{}, {"mode": "global"}, {"mode": "replicated"}, {"mode": "x"}])
def test_they_agree_on_fields_that_go_together(mode: dict[str, Any]) -> None:
    agreed("Service", service(replicas=3, **mode))


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_small_valid_objects_take_the_quick_way(kind: str) -> None:
    assert accepts(kind, minimal(kind))
    assert accepts(kind, default(minimal(kind)))


@each_kind
def test_no_keyword_of_a_schema_goes_unheeded(kind: Kind) -> None:
    def walk(node: Schema) -> None:
        assert node.keys() <= KEYWORDS | ANNOTATIONS
        for child in node.get("properties", {}).values():
            walk(child)
        for key in ("items", "additionalProperties", "propertyNames"):
            if isinstance(node.get(key), dict):
                walk(node[key])

    walk(resolved(kind.name))


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
