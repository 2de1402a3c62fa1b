"""Generic resources: never more is given than there is, and what has a name to one task alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.generic import Amount, count, parse
from api.types.node import Node
from api.types.template import Device, Reservations, Resources, TaskTemplate
from controllers.placement.cluster import Cluster, Demand, demand_of
from controllers.placement.filters import Sieve
from controllers.placement.spread import place, place_on
from tests.placement.test_spread import NOW, cluster_of, group, node

GPUS = Demand(generic=(("gpu", 1),))


def having(name: str, **generic: Amount) -> Node:
    made = node(name)
    made.status.resources.generic = generic
    return made


def put(cluster: Cluster, uid: str, demand: Demand = GPUS) -> Any:
    """One task placed as the scheduler does it; what it was given, None where it found no node."""
    placed = place(group(demand=demand), 1, Sieve(cluster), NOW)
    if not placed.nodes:
        return None
    chosen = cluster.choose(placed.nodes[0], demand)
    cluster.hold(uid, placed.nodes[0], "d/web", demand, chosen)
    return chosen


def why(cluster: Cluster, demand: Demand = GPUS) -> str:
    return place(group(demand=demand), 1, Sieve(cluster), NOW).why


def test_named_ones_are_given_in_the_order_of_the_node_until_there_are_none() -> None:
    cluster = cluster_of(having("a", gpu=["G2", "G1"]))
    assert put(cluster, "1") == {"gpu": ["G2"]}
    assert put(cluster, "2") == {"gpu": ["G1"]}
    assert put(cluster, "3") is None
    assert why(cluster) == "no suitable node (insufficient gpu on 1 node)"
    cluster.release("1")
    assert put(cluster, "3") == {"gpu": ["G2"]}


def test_a_number_is_counted() -> None:
    cluster = cluster_of(having("a", licence=3), having("b"))
    two = Demand(generic=(("licence", 2),))
    assert put(cluster, "1", two) == {"licence": 2}
    assert why(cluster, two) == "no suitable node (insufficient licence on 2 nodes)"
    assert place_on(group(demand=two), cluster.get("a")) == "insufficient licence on node a"


def test_all_kinds_have_to_fit() -> None:
    cluster = cluster_of(having("a", gpu=["G1"]), having("b", licence=1))
    both = Demand(generic=(("gpu", 1), ("licence", 1)))
    assert why(cluster, both) == (
        "no suitable node (insufficient gpu on 1 node; insufficient licence on 1 node)"
    )
    cluster.put_node(having("b", licence=1, gpu=2))
    assert put(cluster, "1", both) == {"gpu": 1, "licence": 1}


def test_devices_are_only_made_of_what_has_names() -> None:
    cluster = cluster_of(having("a", gpu=2))
    demand = Demand(generic=(("gpu", 1),), devices=frozenset({"gpu"}))
    assert why(cluster, demand) == "no suitable node (no names for gpu on 1 node)"
    cluster.put_node(having("a", gpu=["G1"]))
    assert put(cluster, "1", demand) == {"gpu": ["G1"]}


def test_a_node_that_shrinks_keeps_its_tasks_and_gets_no_new_ones() -> None:
    cluster = cluster_of(having("a", gpu=["G1", "G2"]))
    put(cluster, "1")
    put(cluster, "2")
    cluster.put_node(having("a", gpu=["G1"]))
    info = cluster.get("a")
    assert info is not None
    assert info.stocks["gpu"].short("gpu") == "gpu G2, which the node no longer has"
    assert put(cluster, "3") is None
    cluster.release("2")
    assert put(cluster, "3") is None
    cluster.release("1")
    assert put(cluster, "3") == {"gpu": ["G1"]}
    cluster.put_node(having("a"))
    assert put(cluster, "4") is None


def test_what_is_counted_less_is_said_too() -> None:
    cluster = cluster_of(having("a", licence=3))
    put(cluster, "1", Demand(generic=(("licence", 3),)))
    cluster.put_node(having("a", licence=1))
    info = cluster.get("a")
    assert info is not None
    assert info.stocks["licence"].short("licence") == "2 licence more than the node has"


def test_what_gets_names_later_is_not_given_again_to_those_who_had_no_name() -> None:
    cluster = cluster_of(having("a", gpu=2))
    put(cluster, "1")
    cluster.put_node(having("a", gpu=["G1", "G2"]))
    assert put(cluster, "2") == {"gpu": ["G1"]}
    assert put(cluster, "3") is None


def test_the_template_says_what_is_demanded() -> None:
    reserved = Reservations(generic={"licence": 1, "gpu": 2})
    template = TaskTemplate(
        image="x",
        resources=Resources(reservations=reserved),
        devices=[Device(source="/dev/fuse"), Device(resource="gpu")],
    )
    assert demand_of(template) == Demand(
        generic=(("gpu", 2), ("licence", 1)), devices=frozenset({"gpu"})
    )


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["gpu=2"], {"gpu": 2}),
        (["gpu=G1,G2", "licence=10"], {"gpu": ["G1", "G2"], "licence": 10}),
        (["gpu=G1", "gpu=G2"], {"gpu": ["G1", "G2"]}),
        (["modem=/dev/ttyUSB0"], {"modem": ["/dev/ttyUSB0"]}),
        (["gpu=0,1"], {"gpu": ["0", "1"]}),
    ],
)
def test_what_a_node_has_is_said_on_a_line(texts: list[str], found: dict[str, Amount]) -> None:
    assert parse(texts) == found


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["gpu"], "'gpu' is not a resource; write it like gpu=2"),
        (["=2"], "is not a resource"),
        (["gpu="], "'gpu=': after the '=' comes a number, or names"),
        (["gpu=G1,,G2"], "after the '=' comes a number, or names"),
        (["gpu=-1,a b"], "after the '=' comes a number, or names"),
        (["gpu=2", "gpu=G1"], "gpu is given twice, once as a number"),
        (["gpu=2", "gpu=2"], "gpu is given twice, once as a number"),
        (["gpu=G1,G1"], "gpu has G1 twice"),
        (["gpu=99999999999"], "is too much"),
    ],
)
def test_a_line_that_is_wrong_is_explained(texts: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse(texts)
    assert words in str(error.value)


AMOUNTS = st.one_of(
    st.integers(0, 4), st.lists(st.sampled_from(["A", "B", "C", "D"]), unique=True, max_size=4)
)
NODES = st.sampled_from(["n0", "n1", "n2"])
OPERATIONS = st.one_of(
    st.tuples(st.just("place"), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.just("end"), st.integers(0, 20), st.none()),
    st.tuples(st.just("change"), NODES, AMOUNTS),
    st.tuples(st.just("leave"), NODES, st.none()),
    st.tuples(st.just("failover"), st.none(), st.none()),
)


class Model:
    """A cluster, and beside it what the store would say: nodes, and what live tasks were given."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.nodes: dict[str, Amount] = {}
        self.tasks: dict[str, tuple[str, Amount]] = {}
        self.born = 0

    def place(self, wanted: int, tasks: int) -> None:
        demand = Demand(generic=(("gpu", wanted),))
        placed = place(group(demand=demand), tasks, Sieve(self.cluster), NOW)
        assert (len(placed.nodes) < tasks) == bool(placed.why)
        for name in placed.nodes:
            self.born += 1
            chosen = self.cluster.choose(name, demand)
            self.cluster.hold(f"u{self.born}", name, "d/web", demand, chosen)
            amount = chosen["gpu"]
            assert count(amount) == wanted
            offered = self.nodes[name]
            if isinstance(amount, int):
                assert isinstance(offered, int)
                assert amount + self.held(name) <= offered
            else:
                assert not isinstance(offered, int)
                assert set(amount) <= set(offered)
                assert count(offered) >= wanted + self.held(name, offered)
            self.tasks[f"u{self.born}"] = (name, amount)

    def held(self, name: str, of: list[str] | None = None) -> int:
        """What tasks there have by number, and by name: any, or those of a list."""
        found = 0
        for where, amount in self.tasks.values():
            if where == name and (isinstance(amount, int) or of is None):
                found += count(amount)
            elif where == name and not isinstance(amount, int):
                found += len(set(amount) & set(of or ()))
        return found

    def end(self, which: int) -> None:
        if self.tasks:
            uid = sorted(self.tasks)[which % len(self.tasks)]
            del self.tasks[uid]
            assert self.cluster.release(uid)

    def change(self, name: str, amount: Amount) -> None:
        self.nodes[name] = amount
        self.cluster.put_node(having(name, gpu=amount) if amount else having(name))

    def leave(self, name: str) -> None:
        if self.nodes.pop(name, None) is not None:
            self.cluster.drop_node(name)

    def failover(self) -> None:
        """Another manager learns all from the store, tasks of nodes that are gone first."""
        self.cluster = Cluster()
        for uid, (name, amount) in self.tasks.items():
            self.cluster.hold(uid, name, "d/web", Demand(), {"gpu": amount})
        for name, amount in self.nodes.items():
            self.change(name, amount)


@settings(max_examples=300, deadline=None)
@given(st.lists(OPERATIONS, max_size=25))
def test_no_name_is_given_twice_and_no_more_than_there_is(
    operations: list[tuple[str, Any, Any]],
) -> None:
    model = Model()
    for verb, one, other in operations:
        arguments = [each for each in (one, other) if each is not None]
        getattr(model, verb)(*arguments)
        names = Counter(
            (node, name)
            for node, amount in model.tasks.values()
            if not isinstance(amount, int)
            for name in amount
        )
        assert set(names.values()) <= {1}
