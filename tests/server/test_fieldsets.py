"""Sets of fields: taken of objects, written down, subtracted, merged; and who manages them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.server import fieldsets, managed
from api.server.documents import Document
from api.server.fieldsets import NOTHING, FieldSet, difference, fields, leaves, merged, without
from api.server.managed import APPLY, UPDATE, Author, Conflicts

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NODE: Document = {
    "properties": {
        "many": {"additionalProperties": {"type": "string"}},
        "keyed": {
            "x-list-keys": ["name", "port"],
            "items": {"properties": {"name": {}, "port": {"default": 0}, "inner": {}}},
        },
        "set": {"x-list-set": True},
        "whole": {"type": "array"},
    }
}
KEYS = ("f:name", "f:port")
TEXT = st.sampled_from(["a", "b", "c"])
NUMBER = st.integers(0, 2)
ITEMS = st.fixed_dictionaries(
    {"name": TEXT},
    optional={"port": NUMBER, "inner": st.dictionaries(TEXT, NUMBER, max_size=2), "value": TEXT},
)


def unlike(item: dict[str, Any]) -> tuple[Any, Any]:
    return item["name"], item.get("port", 0)


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "one": NUMBER,
        "many": st.dictionaries(TEXT, TEXT, max_size=3),
        "keyed": st.lists(ITEMS, max_size=3, unique_by=unlike),
        "set": st.lists(TEXT, max_size=3, unique=True),
        "whole": st.lists(NUMBER, max_size=2),
        "deep": st.dictionaries(TEXT, st.dictionaries(TEXT, NUMBER, max_size=2), max_size=2),
    },
)


@given(VALUES)
def test_a_set_is_read_as_it_was_written(value: Document) -> None:
    taken = fields(value, NODE)
    assert fieldsets.decode(fieldsets.encode(taken)) == taken


@given(VALUES, VALUES)
def test_what_differs_is_in_one_or_the_other(old: Document, new: Document) -> None:
    assert not difference(old, old, NODE)
    found = difference(old, new, NODE)
    assert found.changed <= fields(new, NODE)
    assert found.removed == fields(old, NODE) - fields(new, NODE)
    before, after = leaves(old, NODE), leaves(new, NODE)
    same = after.keys() - found.changed
    assert all(before[path] == after[path] for path in same)


@given(VALUES, VALUES)
def test_merging_takes_all_of_the_one_and_keeps_the_rest(live: Document, wanted: Document) -> None:
    result = merged(live, wanted, NODE)
    assert merged(result, wanted, NODE) == result
    asked, after = leaves(wanted, NODE), leaves(result, NODE)
    for path, leaf in asked.items():
        assert after.get(path, leaf) == leaf or leaf in ({}, [])
    untouched = fields(live, NODE) - fieldsets.overlap(fields(live, NODE), frozenset(asked))
    assert untouched <= after.keys()


@given(VALUES, st.data())
def test_taking_fields_away(value: Document, data: st.DataObject) -> None:
    every = fields(value, NODE)
    gone: FieldSet = (
        frozenset(data.draw(st.sets(st.sampled_from(sorted(every))))) if every else NOTHING
    )
    kept = every - gone
    result = without(value, NODE, gone, kept)
    left = fields(result, NODE)
    assert kept <= left
    around = frozenset(path[:length] for path in kept for length in range(len(path)))
    keys = frozenset(
        path for path in left if path[-2:-1] and path[-2][:2] == "k:" and path[-1] in KEYS
    )
    assert left - kept <= around | keys
    assert without(value, NODE, NOTHING, every) == value
    assert without(value, NODE, every, NOTHING) == {}


def test_items_that_cannot_be_told_apart_are_one_leaf() -> None:
    twice = {"keyed": [{"name": "a"}, {"name": "a", "value": "x"}]}
    assert fields(twice, NODE) == {("f:keyed",)}
    assert fields({"keyed": [{"value": "x"}]}, NODE) == {("f:keyed",)}


def test_words_of_a_path() -> None:
    path = ("f:spec", 'k:{"name":"a","port":0}', "f:example.com/x", 'v:"y"')
    assert fieldsets.words(path) == '.spec[name="a",port=0]["example.com/x"][="y"]'


@pytest.mark.parametrize("tree", [1, {"f:a": 1}, {"a": {}}, {"k:x": {}}, {"k:[1]": {}}, {"v:": {}}])
def test_what_is_no_set(tree: Any) -> None:
    with pytest.raises(ValueError):
        fieldsets.decode(tree)


# Managers


MOUNTS = st.lists(
    st.fixed_dictionaries(
        {"target": st.sampled_from(["/a", "/b", "/c"])},
        optional={"source": TEXT, "readOnly": st.booleans()},
    ),
    max_size=3,
    unique_by=lambda mount: mount["target"],
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "image": TEXT,
        "env": st.dictionaries(TEXT, TEXT, min_size=1, max_size=2),
        "args": st.lists(TEXT, max_size=2),
        "mounts": MOUNTS.filter(bool),
    },
)
SPECS = st.fixed_dictionaries({}, optional={"replicas": NUMBER, "template": TEMPLATES.filter(bool)})
LABELS = st.dictionaries(TEXT, TEXT, min_size=1, max_size=2)


@st.composite
def services(draw: st.DrawFn) -> Document:
    labels = draw(st.none() | LABELS)
    metadata = {"name": "web", **({"labels": labels} if labels else {})}
    spec = draw(SPECS)
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Service",
        "metadata": metadata,
        **({"spec": spec} if spec else {}),
    }


EMPTY: Document = {"apiVersion": "skep.dev/v1", "kind": "Service", "metadata": {"name": "web"}}


def by(manager: str, minutes: int = 0) -> Author:
    return Author(manager, NOW + timedelta(minutes=minutes))


def apply(
    live: Document, wanted: Document, manager: str, *, force: bool = False, minutes: int = 0
) -> Document:
    """As the server does it, the book in the object."""
    result, entries = managed.applied(live, wanted, by(manager, minutes), force=force)
    result["metadata"] = {**result["metadata"], "managedFields": managed.write(entries)}
    return result


def plain(document: Document) -> dict[fieldsets.Path, Any]:
    """What it says, whatever the order of its items."""
    return _leaves(document)


def owned(document: Document, manager: str, operation: str = APPLY) -> FieldSet:
    for entry in managed.read(document):
        if (entry.manager, entry.operation) == (manager, operation):
            return entry.fields
    return NOTHING


@given(services())
def test_applying_again_changes_nothing(wanted: Document) -> None:
    once = apply(EMPTY, wanted, "a")
    assert apply(once, wanted, "a", minutes=5) == once


@given(services(), services())
def test_what_is_no_longer_applied_goes(first: Document, second: Document) -> None:
    then = apply(apply(EMPTY, first, "a"), second, "a")
    assert plain(then) == plain(apply(EMPTY, second, "a"))


@given(services(), services())
def test_what_two_apply_alike_is_shared_and_else_a_conflict(one: Document, two: Document) -> None:
    mine = apply(EMPTY, one, "a")
    alike = {k: v for k, v in _leaves(two).items() if k in _leaves(one)}
    fits = all(_leaves(one)[path] == leaf for path, leaf in alike.items())
    if not fits:
        with pytest.raises(Conflicts) as refused:
            apply(mine, two, "b")
        assert {found.manager for found in refused.value.found} == {"a"}
        return
    both = apply(mine, two, "b")
    assert owned(both, "a") == owned(mine, "a")
    # Whoever lets go of a field that another has too leaves it where it is.
    assert plain(apply(both, EMPTY, "b")) == plain(mine)


@given(services(), services())
def test_force_takes_over(one: Document, two: Document) -> None:
    forced = apply(apply(EMPTY, one, "a"), two, "b", force=True)
    after = _leaves(forced)
    for path, leaf in _leaves(two).items():
        assert after[path] == leaf
        if path in owned(forced, "a"):
            assert _leaves(one)[path] == leaf


@given(services(), services())
def test_an_update_owns_what_it_changed(old: Document, new: Document) -> None:
    live = apply(EMPTY, old, "a")
    entries = managed.after_update(live, new, managed.read(live), by("u"))
    made = difference(_managed(old), _managed(new), managed._schema(new))
    sets = {(entry.manager, entry.operation): entry.fields for entry in entries}
    assert sets.get(("u", UPDATE), NOTHING) == made.changed
    assert not sets.get(("a", APPLY), NOTHING) & (made.changed | made.removed)


@given(services())
def test_what_was_there_before_belongs_to_nobody_in_particular(live: Document) -> None:
    wanted = {**EMPTY, "spec": {"replicas": 7}}
    if live.get("spec", {}).get("replicas") is None:
        apply(live, wanted, "a")
    else:
        with pytest.raises(Conflicts) as refused:
            apply(live, wanted, "a")
        (conflict,) = refused.value.found
        assert (conflict.manager, fieldsets.words(conflict.path)) == (
            "before-first-apply",
            ".spec.replicas",
        )


def test_defaults_go_with_what_they_completed() -> None:
    """A health check is no longer applied: its interval, which nobody asked for, goes too."""
    wanted = {**EMPTY, "spec": {"template": {"image": "a", "healthcheck": {"command": ["x"]}}}}
    live = apply(EMPTY, wanted, "a")
    live["spec"]["template"]["healthcheck"]["interval"] = "30s"
    after = apply(live, {**EMPTY, "spec": {"template": {"image": "a"}}}, "a")
    assert after["spec"] == {"template": {"image": "a"}}


def test_finalizers_of_skep_are_in_nobodys_book() -> None:
    live = {**EMPTY, "metadata": {"name": "web", "finalizers": ["skep.dev/tasks"]}}
    wanted = {**EMPTY, "metadata": {"name": "web", "finalizers": ["example.com/x"]}}
    both = apply(live, wanted, "a")
    assert both["metadata"]["finalizers"] == ["skep.dev/tasks", "example.com/x"]
    assert apply(both, EMPTY, "a")["metadata"]["finalizers"] == ["skep.dev/tasks"]


def _managed(document: Document) -> Document:
    return managed._managed(document)


def _leaves(document: Document) -> dict[fieldsets.Path, Any]:
    return leaves(_managed(document), managed._schema(document))
