"""Objects to test with: small ones by hand, and any number of valid ones from the schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from api.schema.files import Schema
from api.types.meta import API_VERSION


def minimal(kind: str) -> dict[str, Any]:
    """The least that is a valid object of a kind."""
    rest: dict[str, dict[str, Any]] = {
        "Service": {"spec": {"template": {"image": "redis:7"}}},
        "Secret": {"stringData": {"password": "x"}},
        "Config": {"data": {"file": ""}},
        "Task": {"spec": {"service": "web", "revision": "web-1"}},
        "Revision": {"spec": {"service": "web", "number": 1, "template": {"image": "redis:7"}}},
    }
    envelope = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "web"}}
    return envelope | rest.get(kind, {})


def service(**spec: Any) -> dict[str, Any]:
    """A service with these fields in its spec."""
    return minimal("Service") | {"spec": {"template": {"image": "redis:7"}, **spec}}


def templated(**template: Any) -> dict[str, Any]:
    """A service with these fields in its task template."""
    return service(template={"image": "redis:7", **template})


# What a person might have left in a manifest by mistake. No floats: 3.0 is a whole number to
# JSON Schema and not to us.
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def valid(node: Schema) -> st.SearchStrategy[Any]:
    """Values that a resolved schema allows, as far as it says so keyword by keyword."""
    if "enum" in node or "const" in node:
        return st.sampled_from(node.get("enum", [node.get("const")]))
    types = [node["type"]] if isinstance(node["type"], str) else node["type"]
    return st.one_of([_OF_TYPE[each](node) for each in types])


def _object(node: Schema) -> st.SearchStrategy[Any]:
    required = set(node.get("required", []))
    fields = {name: valid(child) for name, child in node.get("properties", {}).items()}
    if fields:
        made = st.fixed_dictionaries(
            {name: each for name, each in fields.items() if name in required},
            optional={name: each for name, each in fields.items() if name not in required},
        )
        least, most = node.get("minProperties", 0), node.get("maxProperties", len(fields))
        if least == 0 and most == len(fields):
            return made
        return made.filter(lambda made: least <= len(made) <= most)
    extra = node.get("additionalProperties")
    if extra is False:
        return st.just({})
    values = valid(extra) if isinstance(extra, dict) else st.text(max_size=5)
    names = _string(node["propertyNames"]) if "propertyNames" in node else st.text(max_size=5)
    return st.dictionaries(names, values, max_size=2)


def _string(node: Schema) -> st.SearchStrategy[str]:
    if node.get("format") == "date-time":
        return st.datetimes().map(lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20))
    least, most = node.get("minLength", 0), node.get("maxLength", 10**6)
    if "pattern" not in node:
        return st.text(min_size=least, max_size=min(most, 10))
    alphabet = st.characters(codec="utf-8")
    texts = st.from_regex(node["pattern"], alphabet=alphabet)
    return texts.filter(lambda text: least <= len(text) <= most and not text.endswith("\n"))


def _integer(node: Schema) -> st.SearchStrategy[int]:
    return st.integers(node.get("minimum", 0), node.get("maximum", 10**6))


def _number(node: Schema) -> st.SearchStrategy[Any]:
    return st.floats(node.get("minimum", 0), node.get("maximum", 10**6)) | st.sampled_from([0, 1])


_OF_TYPE: dict[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
    "object": _object,
    "array": lambda node: st.lists(valid(node["items"]), max_size=2),
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda node: st.booleans(),
    "null": lambda node: st.none(),
}
