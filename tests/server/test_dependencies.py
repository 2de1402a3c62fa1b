"""Cycles of services that wait for each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.server.dependencies import absent, cycle

GRAPHS = st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=4))


@pytest.mark.parametrize(
    ("needs", "way"),
    [
        ({"a": ["a"]}, "a → a"),
        ({"a": ["b"], "b": ["a"]}, "a → b → a"),
        ({"a": ["x", "b"], "b": ["c"], "c": ["a"]}, "a → b → c → a"),
    ],
)
def test_a_cycle_is_named(needs: dict[str, list[str]], way: str) -> None:
    (cause,) = cycle("shop", "a", needs["a"], lambda namespace, name: needs.get(name))
    assert cause.field == "spec.dependsOn"
    assert cause.message.startswith(f"{way}: they would wait")


@given(GRAPHS)
def test_exactly_those_who_come_back_to_themselves_are_refused(graph: dict[str, list[str]]) -> None:
    reached = set(graph.get("a", []))
    for _ in range(6):
        reached |= {other for name in reached for other in graph.get(name, [])}
    found = cycle("shop", "a", graph.get("a", []), lambda namespace, name: graph.get(name))
    assert bool(found) == ("a" in reached)


def test_who_is_not_there_is_only_said() -> None:
    there = {"db": list[str]()}
    said = absent("shop", ["db", "cache", "cache"], lambda namespace, name: there.get(name))
    assert said == ["service shop/cache does not exist yet; it is waited for"]
