"""Documents to checked objects: Lists, JSON, duplicates, problems with their places."""

from __future__ import annotations

import json

import pytest

from api.manifest import Loaded, load, source
from tests.schema.objects import minimal, service


def read(text: str, name: str = "f.yaml", namespace: str = "default") -> Loaded:
    return load([source(name, text.encode())], namespace=namespace)


def said(text: str, name: str = "f.yaml") -> list[str]:
    return [str(problem) for problem in read(text, name).problems]


HEAD = "apiVersion: skep.dev/v1\nkind: Service\nmetadata:\n  name: web\n"


def test_problems_of_all_documents_in_the_order_of_the_file() -> None:
    assert said(f"""{HEAD}spec:
  replica: 3
  template:
    image: redis
    ports:
      - target: "80"
---
apiVersion: skep.dev/v1
kind: Node
metadata: {{name: UPPER}}
---
a: b: c
---
{HEAD}spec: {{}}
""") == [
        "f.yaml:6:3: services/web: spec.replica: unknown field; did you mean replicas?",
        'f.yaml:10:9: services/web: spec.template.ports[0].target: expected a whole number, '
        'got text "80"; remove the quotes',
        "f.yaml:14:12: nodes/UPPER: metadata.name: expected a DNS name: lowercase letters, "
        "digits and '-', parts of at most 63 characters separated by '.', got \"UPPER\"; "
        'for example "upper"',
        "f.yaml:16:5: a ':' stands where no field can begin; check the indentation; "
        "put a value that holds ': ' in quotes",
        "f.yaml:21:3: services/web: metadata.name: the same object is at f.yaml:1 too; "
        "remove or rename one of them",
        "f.yaml:22:1: services/web: spec.template: is required but not given",
    ]  # fmt: skip


def test_the_same_object_twice() -> None:
    one, other = minimal("Secret"), minimal("Config")
    sources = [
        source("a.json", json.dumps(one).encode()),
        source("b.json", json.dumps(one).encode()),
    ]
    (problem,) = load(sources).problems
    assert str(problem).startswith("b.json:1:")
    assert "the same object is at a.json:1 too" in str(problem)
    assert not load([sources[0], source("b.json", json.dumps(other).encode())]).problems


def test_the_namespace_that_is_meant_where_none_is_given() -> None:
    elsewhere = {**minimal("Secret"), "metadata": {"name": "web", "namespace": "shop"}}
    text = "\n---\n".join(map(json.dumps, (minimal("Secret"), elsewhere)))
    assert read(text).problems == []
    assert len(read(text, namespace="shop").problems) == 1


def test_nodes_have_no_namespace_to_differ_in() -> None:
    text = "\n---\n".join(map(json.dumps, (minimal("Node"), minimal("Node"))))
    assert len(read(text).problems) == 1


def test_kinds_of_the_system_are_not_for_manifests() -> None:
    (problem,) = read(json.dumps(minimal("Task"))).problems
    assert "tasks are written by the system, not by manifests" in str(problem)


def test_a_list_is_taken_apart() -> None:
    loaded = read("""apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
  - apiVersion: skep.dev/v1
    kind: Namespace
    metadata: {name: shop}
  - kind: ServiceList
    items:
      - apiVersion: skep.dev/v1
        kind: Service
        metadata: {name: web}
        spec:
          template: {image: redis, x: 1}
""")
    assert [obj["kind"] for obj in loaded.objects] == ["Namespace", "Service"]
    assert [document.line for document in loaded.documents] == [5, 10]
    (problem,) = loaded.problems
    assert (problem.line, problem.column) == (14, 36)
    assert problem.field == "spec.template.x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: List\nitems: 3", "f.yaml:2:1: items: expected a list of objects, got a number"),
        ("kind: List", "items: expected a list of objects, got nothing"),
        ("kind: List\nitems: [a]", "f.yaml:2:9: items[0]: expected an object, got text"),
        ("kind: List\nitem: []\nitems: []", "item: unknown field; did you mean items?"),
    ],
)
def test_a_list_that_is_wrong(text: str, words: str) -> None:
    (only,) = said(text)
    assert words in only


def test_json_in_files_and_streams() -> None:
    one, other = json.dumps(service(), indent=2), json.dumps(minimal("Secret"))
    for name in ("f.json", "stdin"):
        loaded = read(f"{one}\n{other}", name)
        assert loaded.problems == []
        assert loaded.objects == [service(), minimal("Secret")]


def test_json_has_places_too() -> None:
    text = json.dumps(service(replica=3), indent=2)
    (problem,) = read(text, "f.json").problems
    line = next(n for n, each in enumerate(text.splitlines(), 1) if "replica" in each)
    assert (problem.line, problem.column) == (line, 5)
    second = json.dumps(minimal("Node")) + " " + json.dumps({**minimal("Secret"), "x": 1})
    (problem,) = read(second, "f.json").problems
    assert (problem.line, problem.column) == (1, second.rindex('"x"') + 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": }', "f.json:1:7: not JSON: expecting value"),
        ('{"a": 1,\n "b": [1 2]}', "f.json:2:10: not JSON: expecting ',' delimiter"),
        ("a: 1", "f.json:1:1: not JSON"),
        ('{"a": 1,\n "a": 2}', 'f.json:2:2: the field "a" is given twice; first on line 1'),
        ('{"a": NaN}', "can't be stored"),
        ('{"a": 1e999}', "the number is too large"),
        ('{"a": 99999999999999999999}', "more than 64 bits"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('{"a":' * 200 + "1" + "}" * 200, "nested deeper than 100 levels"),
        ('{"a":' * 100_000, "nested deeper than 100 levels"),
        ("[1]", "expected an object"),
        ("null 3", "expected an object"),
    ],
)
def test_json_that_is_wrong(text: str, words: str) -> None:
    assert words in said(text, "f.json")[0]


def test_characters_beyond_16_bits() -> None:
    obj = {**minimal("Secret"), "stringData": {"a": "🐝"}}
    assert read(json.dumps(obj), "f.json").objects == [obj]
    assert read(json.dumps(obj), "f.yaml").objects == [obj]
    wrong = json.dumps({**obj, "x": 1}, indent=1)
    assert "\\ud83d" in wrong
    (problem,) = read(wrong, "f.json").problems
    assert problem.column == 2


def test_flow_style_yaml_that_looks_like_json() -> None:
    assert read("{kind: List, items: []}").problems == []
