"""The schema's defaults, filled into an object: also into blocks that are partly given.

A field that is absent and has a `default` gets it; where the default is a block (`update: {}`),
the block's own defaults come with it; with `x-default-by`, what a sibling's value says comes before
them (`restart` of jobs has other defaults than of services). What the system writes (readOnly) gets
none, nor does a field that doesn't go with what a sibling says (`replicas` with mode global).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.schema.files import Schema

Fill = Callable[[Any], Any]


def compile_defaults(node: Schema) -> Fill | None:
    """A function from a value to its copy with defaults, or None where there is nothing to do.

    What the schema doesn't describe (unknown fields, status, labels' values) is passed on as it
    is; a value of the wrong type too.
    """
    if node.get("readOnly"):
        return None
    if "items" in node:
        return _list(compile_defaults(node["items"]))
    if "properties" in node:
        return _block(node["properties"])
    return dict if node.get("type") == "object" else None


def _list(fill: Fill | None) -> Fill:
    def filled(value: Any) -> Any:
        if type(value) is not list:
            return value
        return [fill(item) for item in value] if fill is not None else list(value)

    return filled


def _block(properties: dict[str, Schema]) -> Fill:
    fills: dict[str, Fill] = {}
    missing: list[tuple[str, Any, Fill | None, tuple[str, Any, tuple[str, ...]] | None]] = []
    by: list[tuple[str, str, Any, dict[Any, dict[str, Any]]]] = []
    for name, child in properties.items():
        fill = compile_defaults(child)
        if fill is not None:
            fills[name] = _typed(fill, child)
        if "default" in child and not child.get("readOnly"):
            missing.append((name, child["default"], fill, _condition(child, properties)))
        for sibling, defaults in child.get("x-default-by", {}).items():
            by.append((name, sibling, properties[sibling].get("default"), defaults))

    def filled(value: Any) -> Any:
        if type(value) is not dict:
            return value
        for name, sibling, otherwise, defaults in by:
            value = _with_more(value, name, defaults, value.get(sibling, otherwise))
        result = {
            name: fills[name](given) if name in fills else given for name, given in value.items()
        }
        for name, default, fill, only_with in missing:
            if name in result:
                continue
            if only_with is not None:
                sibling, otherwise, allowed = only_with
                if result.get(sibling, otherwise) not in allowed:
                    continue
            result[name] = fill(default) if fill is not None else default
        return result

    return filled


def _with_more(
    value: dict[str, Any], name: str, defaults: dict[Any, dict[str, Any]], which: Any
) -> dict[str, Any]:
    """With what the block called `name` has by default where its sibling is `which`."""
    more = defaults.get(which) if isinstance(which, str) else None
    given = value.get(name, {})
    if more is None or type(given) is not dict or given.keys() >= more.keys():
        return value
    return value | {name: given | {k: v for k, v in more.items() if k not in given}}


def _typed(fill: Fill, node: Schema) -> Fill:
    if fill is not dict:
        return fill
    return lambda value: dict(value) if type(value) is dict else value


def _condition(
    child: Schema, properties: dict[str, Schema]
) -> tuple[str, Any, tuple[str, ...]] | None:
    for sibling, allowed in child.get("x-only-with", {}).items():
        return sibling, properties[sibling].get("default"), tuple(allowed)
    return None
