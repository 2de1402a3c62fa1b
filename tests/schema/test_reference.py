"""`explain`: the schemas as documentation."""

from __future__ import annotations

import pytest

from api.schema import UnknownField, explain
from api.types.kinds import KINDS, SECRET, SERVICE


def test_a_field_says_what_it_is() -> None:
    field = explain(SERVICE, ["spec", "update", "order"])
    assert field.enum == ("stop-first", "start-first")
    assert field.default == "stop-first"
    assert field.type == "text"
    assert "start-first" in field.description
    assert not field.required


def test_lists_are_looked_through() -> None:
    field = explain(SERVICE, ["spec", "template", "ports", "target"])
    assert field.required
    assert field.type == "whole number"
    assert field.path == ("spec", "template", "ports", "target")
    assert explain(SERVICE, ["spec", "template", "ports"]).type == "list of mappings"


def test_the_kind_itself_has_its_fields_below_it() -> None:
    whole = explain(SERVICE, [])
    names = [child.name for child in whole.children]
    assert names == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert "image" in [f.name for f in whole.children[3].children[2].children]
    assert whole.children[4].read_only


def test_maps_and_choices_of_types_in_words() -> None:
    env = explain(SERVICE, ["spec", "template", "env"])
    assert env.type == "map from text to text or number"
    assert not env.has_default
    assert explain(SECRET, ["data"]).type == "map from text to text"
    limits = explain(SERVICE, ["spec", "template", "resources", "limits"])
    assert [child.type for child in limits.children] == [
        "text or number",
        "text or whole number",
        "whole number",
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (["spec", "replica"], "spec has no field replica; did you mean replicas?"),
        (["spek"], "Service has no field spek; did you mean spec?"),
        (["spec", "replicas", "x"], "has no fields"),
        (["spec", "update", "zzz"], "it has: parallelism, delay"),
    ],
)
def test_an_unknown_field_is_told_what_there_is(path: list[str], words: str) -> None:
    with pytest.raises(UnknownField, match=r".") as raised:
        explain(SERVICE, path)
    assert words in str(raised.value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_can_be_explained(kind: object) -> None:
    assert explain(kind, []).description  # type: ignore[arg-type]


def test_maps_of_mappings_are_looked_through() -> None:
    assert explain(SECRET, ["generate", "x509", "lifetime"]).type == "text"
    names = [child.name for child in explain(SECRET, ["generate"]).children]
    assert {"length", "x509", "ssh", "age"} <= set(names)
