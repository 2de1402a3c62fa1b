"""The schema files, read once, with every reference replaced by what it names.

A file may say more beside a `$ref`: `{"$ref": "meta.json#/$defs/metadata", "properties": {…}}`
narrows the definition. Merging the two is right as long as what stands beside the reference is
stricter than what it names; the tests hold our schemas to that, with jsonschema as the judge.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from api.types.kinds import KINDS, Kind

Schema = dict[str, Any]

# Beside the package in a clone and in an installed wheel alike.
DIRECTORY = Path(__file__).resolve().parents[2] / "schemas" / "v1"

# Sooner than a program that hangs: schemas that refer to each other in circles are refused.
_MAX_DEPTH = 40


@cache
def raw(file: str) -> Schema:
    """A schema file as it is."""
    loaded: Schema = json.loads((DIRECTORY / file).read_text(encoding="utf-8"))
    return loaded


@cache
def resolved(kind: str) -> Schema:
    """The schema of a kind with nothing left to look up. Shared: don't change it."""
    file = f"{kind.lower()}.json"
    whole: Schema = _resolve(raw(file), file, 0)
    return {key: value for key, value in whole.items() if key != "$defs"}


def all_resolved() -> dict[str, Schema]:
    return {kind.name: resolved(kind.name) for kind in KINDS}


def for_kind(kind: Kind) -> Schema:
    """The JSON Schema of a kind, complete in itself. Shared: don't change it."""
    return resolved(kind.name)


def _resolve(node: Any, file: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(f"schemas/v1/{file} refers to itself")
    if isinstance(node, list):
        return [_resolve(item, file, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    own = {key: _resolve(value, file, depth + 1) for key, value in node.items() if key != "$ref"}
    if "$ref" not in node:
        return own
    other, _, pointer = node["$ref"].partition("#")
    target_file = other or file
    target: Any = raw(target_file)
    for part in pointer.strip("/").split("/") if pointer else ():
        target = target[part]
    named = _resolve(target, target_file, depth + 1)
    for key in ("$schema", "$id", "$defs"):
        named.pop(key, None)
    return _merged(named, own)


def _merged(base: Schema, narrower: Schema) -> Schema:
    result = dict(base)
    for key, value in narrower.items():
        old = result.get(key)
        # A default is a value, not a schema: it replaces.
        both = isinstance(old, dict) and isinstance(value, dict) and key != "default"
        result[key] = _merged(old, value) if both and old is not None else value
    return result
