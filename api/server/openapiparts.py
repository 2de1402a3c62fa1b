"""The parts that OpenAPI documents are made of: schemas in its words, parameters and bodies.

The schemas are JSON Schema 2020-12; OpenAPI 3.0 is an older relative of it. What it can't say
(names of properties, words for patterns) is left out here, and checked by the server all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]

_KEPT = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "readOnly",
        "required",
        "title",
        "uniqueItems",
        "writeOnly",
    }
)


def name(kind: str) -> str:
    return f"dev.skep.v1.{kind}"


def converted(node: Any) -> Any:
    """A schema of ours in OpenAPI's words."""
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": node["$ref"]}
    result: Document = {key: value for key, value in node.items() if key in _KEPT}
    if "const" in node:
        result["enum"] = [node["const"]]
        result["type"] = "string"
    elif "enum" in node and "type" not in node:
        result["type"] = "string"
    result |= _type(node) | _either(node)
    if node.get("examples"):
        result["example"] = node["examples"][0]
    for key, words in _LIST_WORDS.items():
        if key in node:
            result |= words(node[key])
    if "properties" in node:
        result["properties"] = {key: converted(each) for key, each in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in node:
            result[key] = converted(node[key])
    return result


def _keyed(keys: list[str]) -> Document:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}


def _set(_: bool) -> Document:
    return {"x-kubernetes-list-type": "set"}


_LIST_WORDS: dict[str, Callable[[Any], Document]] = {
    "x-list-keys": _keyed,
    "x-list-set": _set,
}


def _type(node: Document) -> Document:
    given = node.get("type")
    if isinstance(given, str):
        return {"type": given}
    if not isinstance(given, list):
        return {}
    types = [each for each in given if each != "null"]
    nullable: Document = {"nullable": True} if "null" in given else {}
    if len(types) == 1:
        return {"type": types[0], **nullable}
    words = {"x-kubernetes-int-or-string": True} if set(types) == {"integer", "string"} else {}
    return {"anyOf": [{"type": each} for each in types], **words, **nullable}


def _either(node: Document) -> Document:
    """Of what may be null: a type of its own in JSON Schema, a word in OpenAPI 3.0."""
    given = node.get("anyOf") or []
    some = [converted(each) for each in given if each != {"type": "null"}]
    nullable: Document = {"nullable": True} if len(some) < len(given) else {}
    return {"anyOf": some, **nullable} if some else {}


def ref(kind: str) -> Document:
    return {"$ref": f"#/components/schemas/{name(kind)}"}


def one_of(*words: str) -> Document:
    return {"type": "string", "enum": list(words)}


def query(name: str, schema: Document, description: str) -> Document:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def in_path(name: str) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def described(description: str, schema: Document) -> Document:
    return {"description": description, "content": content(schema)}


def content(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}
