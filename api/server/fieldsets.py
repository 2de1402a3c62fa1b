"""Sets of fields of an object, and what can be done with them: pure, and nothing of HTTP.

The model: an object is taken apart into leaves, each under its path. A leaf is a single value, a
list that is taken as a whole, or a map with nothing in it. Lists whose schema names keys
(`x-list-keys`) are taken apart too, each item under its keys, and lists that are sets
(`x-list-set`) under each value; an item is then itself a member, besides what is in it. So a set of
fields is a plain frozenset of paths, and joining, intersecting and subtracting are Python's own.

A path's elements are those of Kubernetes' FieldsV1: `f:replicas`, `k:{"target":"/data"}`, `v:"x"`.

A list whose items can't be told apart by their keys is taken as a whole.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

Path = tuple[str, ...]
FieldSet = frozenset[Path]
Node = dict[str, Any]  # a schema

NOTHING: Final[FieldSet] = frozenset()
MOST_DEPTH = 100


class _Item:
    """Stands for an item of a list, beside what is in it."""

    def __repr__(self) -> str:
        return "<item>"


ITEM: Final = _Item()


class Difference(NamedTuple):
    """What leads from one object to another."""

    changed: FieldSet  # there now, and other than it was or new
    removed: FieldSet

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def leaves(value: Any, node: Node) -> dict[Path, Any]:
    """An object's leaves, each under its path. `node` is the schema."""
    return dict(_leaves(value, node, ()))


def fields(value: Any, node: Node) -> FieldSet:
    return frozenset(path for path, _ in _leaves(value, node, ()))


def difference(old: Any, new: Any, node: Node) -> Difference:
    before, after = leaves(old, node), leaves(new, node)
    changed = {path for path, leaf in after.items() if path not in before or before[path] != leaf}
    return Difference(frozenset(changed), frozenset(before.keys() - after.keys()))


def merged(live: Any, wanted: Any, node: Node) -> Any:
    """`live` with every field that `wanted` has, and all else as it was."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        result = dict(live)
        for key, value in wanted.items():
            here = live.get(key)
            result[key] = merged(here, value, _child(node, key)) if key in live else value
        return copy.deepcopy(result)
    old, new = _items(live, node), _items(wanted, node)
    if old is None or new is None:
        return copy.deepcopy(wanted)
    inner = node.get("items", {})
    both = {
        element: merged(old[element], item, inner) if element in old else item
        for element, item in new.items()
    }
    # In the order that is wanted, or where others have items too, in the order that there is.
    return copy.deepcopy([*(both if old.keys() <= new.keys() else old | both).values()])


def without(value: Any, node: Node, gone: FieldSet, kept: FieldSet) -> Any:
    """`value` without the fields of `gone`; and without the items and maps they leave behind.

    A map or an item stays as long as it holds a field of `kept`. What else is in it are defaults,
    which nobody asked for.
    """
    if not gone:
        return copy.deepcopy(value)
    result = _without(value, node, (), gone, _beginnings(kept))
    return {} if result is _GONE else copy.deepcopy(result)


def overlap(some: FieldSet, others: FieldSet) -> FieldSet:
    """Those of `some` that are in `others`, or around or below a leaf that is.

    Around and below, because a value may be a leaf for one who wrote it and a map for another. An
    item of a list is no leaf: who has the item does not have what others put into it.
    """
    around = _beginnings(others)
    return frozenset(
        path
        for path in some
        if path in others
        or (not _is_item(path) and path in around)
        or any(
            path[:length] in others and not _is_item(path[:length])
            for length in range(1, len(path))
        )
    )


def _is_item(path: Path) -> bool:
    return path[-1][:2] == "k:"


def encode(members: Iterable[Path]) -> dict[str, Any]:
    """As FieldsV1 writes it: a tree, in which `.` says that what has parts is itself a member."""
    whole = frozenset(members)
    tree: dict[str, Any] = {}
    for path in sorted(whole):
        at = tree
        for length, element in enumerate(path, start=1):
            if length > 1 and path[: length - 1] in whole and "." not in at:
                at["."] = {}
            at = at.setdefault(element, {})
    return tree


def decode(tree: Any) -> FieldSet:
    """Raises ValueError for what is no FieldsV1."""
    return frozenset(_decode(tree, ()))


def words(path: Path) -> str:
    """A path for people: `.spec.template.mounts[target="/data"].source`."""
    said = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            plain = rest.replace("-", "").replace("_", "").isalnum()
            said += f".{rest}" if plain else f"[{json.dumps(rest)}]"
        elif kind == "k":
            named = ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(rest).items())
            said += f"[{named}]"
        else:
            said += f"[={rest}]"
    return said


# Parts


def _leaves(value: Any, node: Node, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        if not value and path:
            yield path, {}
        for key, inner in value.items():
            yield from _leaves(inner, _child(node, key), (*path, f"f:{key}"))
        return
    items = _items(value, node)
    if not items:
        yield path, value
        return
    for element, item in items.items():
        yield (*path, element), ITEM
        if isinstance(item, dict):
            yield from _leaves(item, node.get("items", {}), (*path, element))


def _items(value: Any, node: Node) -> dict[str, Any] | None:
    """A list's items under their elements; None where it is to be taken as a whole."""
    if not isinstance(value, list) or not ("x-list-keys" in node or node.get("x-list-set")):
        return None
    found: dict[str, Any] = {}
    for item in value:
        element = _element(item, node)
        if element is None or element in found:
            return None
        found[element] = item
    return found


def _element(item: Any, node: Node) -> str | None:
    if node.get("x-list-set"):
        return f"v:{_json(item)}" if isinstance(item, str) else None
    if not isinstance(item, dict):
        return None
    properties = node.get("items", {}).get("properties", {})
    keys = {}
    for key in sorted(node["x-list-keys"]):
        value = item.get(key, properties.get(key, {}).get("default"))
        if not isinstance(value, str | int):
            return None
        keys[key] = value
    return f"k:{_json(keys)}"


def _child(node: Node, key: str) -> Node:
    found = node.get("properties", {}).get(key)
    if found is None:
        found = node.get("additionalProperties")
    return found if isinstance(found, dict) else {}


class _Gone:
    pass


_GONE = _Gone()


def _without(value: Any, node: Node, path: Path, gone: FieldSet, kept: frozenset[Path]) -> Any:
    """What is left of it; _GONE where nothing is that anybody wants."""
    if isinstance(value, dict) and value:
        left = {}
        for key, inner in value.items():
            after = _without(inner, _child(node, key), (*path, f"f:{key}"), gone, kept)
            if after is not _GONE:
                left[key] = after
        touched = left != value or path in gone
        return _GONE if touched and path not in kept else left
    items = _items(value, node)
    if not items:
        return _GONE if path in gone and path not in kept else value
    rest = []
    for element, item in items.items():
        at = (*path, element)
        if isinstance(item, dict):
            left = _without(item, node.get("items", {}), at, gone, kept)
            item = left if left is _GONE else _with_keys(left, item, node)
        elif at in gone and at not in kept:
            item = _GONE
        if item is not _GONE:
            rest.append(item)
    touched = rest != value or path in gone
    return _GONE if touched and not rest and path not in kept else rest


def _with_keys(left: dict[str, Any], item: dict[str, Any], node: Node) -> dict[str, Any]:
    """An item that stays keeps what tells it apart."""
    return {k: left.get(k, v) for k, v in item.items() if k in left or k in node["x-list-keys"]}


def _beginnings(members: FieldSet) -> frozenset[Path]:
    """The paths, and all that they lie under."""
    return frozenset(path[:length] for path in members for length in range(len(path) + 1))


def _decode(tree: Any, path: Path) -> Iterator[Path]:
    if not isinstance(tree, dict) or len(path) > MOST_DEPTH:
        raise ValueError("fieldsV1 must be maps in maps")
    for element, below in tree.items():
        if element == ".":
            if path:
                yield path
            continue
        if element[:2] not in ("f:", "k:", "v:"):
            raise ValueError(f"fieldsV1 has no element {element[:40]!r}")
        if element[:2] != "f:":
            parsed = json.loads(element[2:])
            if element[:2] == "k:" and not isinstance(parsed, dict):
                raise ValueError("a key in fieldsV1 must be a map")
        here = (*path, element)
        if not below:
            if not isinstance(below, dict):
                raise ValueError("fieldsV1 must be maps in maps")
            yield here
        else:
            yield from _decode(below, here)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
