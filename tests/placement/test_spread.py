"""Placing groups: even, within what there is, and with reasons where it ends."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.meta import Condition, Metadata
from api.types.node import Node, NodeResources, NodeSpec, NodeStatus
from api.types.service import Placement
from api.types.template import Port, Reservations, Resources, TaskTemplate
from controllers.placement.cluster import Cluster, Demand, demand_of
from controllers.placement.filters import Group, Sieve
from controllers.placement.spread import place, place_on
from controllers.placement.suitable import Requirements

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def node(
    name: str, *, cpus: float = 8, memory: int = 1000, ready: str = "True",
    availability: str = "active", **labels: str,
) -> Node:  # fmt: skip
    return Node(
        metadata=Metadata(name=name, labels=labels),
        spec=NodeSpec(availability=availability),
        status=NodeStatus(
            os="linux",
            architecture="amd64",
            resources=NodeResources(cpus=cpus, memory=memory),
            conditions=[Condition(type="Ready", status=ready)],
        ),
    )


def cluster_of(*nodes: Node) -> Cluster:
    cluster = Cluster()
    for one in nodes:
        cluster.put_node(one)
    return cluster


def group(
    service: str = "d/web", *, demand: Demand | None = None, constraints: tuple[str, ...] = (),
    **more: Any,
) -> Group:  # fmt: skip
    return Group(
        service=service,
        revision=f"{service}-1",
        demand=demand or Demand(),
        requirements=Requirements(Placement(constraints=list(constraints))),
        **more,
    )


class Ledger:
    """Places and holds, as the scheduler does."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.sieve = Sieve(cluster)
        self.count = 0

    def __call__(self, wanted: Group, count: int) -> tuple[dict[str, int], str]:
        placed = place(wanted, count, self.sieve, NOW)
        for name in placed.nodes:
            self.count += 1
            self.cluster.hold(f"u{self.count}", name, wanted.service, wanted.demand)
        return dict(Counter(placed.nodes)), placed.why


def test_an_empty_cluster_says_so() -> None:
    assert place(group(), 1, Sieve(Cluster()), NOW).why == (
        "no suitable node (the cluster has no nodes: join one)"
    )


def test_every_refusal_is_counted() -> None:
    cluster = cluster_of(
        node("down", ready="Unknown"),
        node("paused", availability="pause"),
        node("drained", availability="drain"),
        node("small", memory=10, disk="ssd"),
        node("slow"),
    )
    wanted = group(demand=Demand(memory=100), constraints=("node.labels.disk == ssd",))
    assert place(wanted, 1, Sieve(cluster), NOW).why == (
        "no suitable node (not available for new tasks on 2 nodes; "
        "constraint node.labels.disk == ssd not met on 1 node; insufficient memory on 1 node; "
        "not ready on 1 node)"
    )


def test_what_fits_is_placed_and_the_rest_is_explained() -> None:
    put = Ledger(cluster_of(node("a", memory=1000), node("b", memory=1000, cpus=1)))
    nodes, why = put(group(demand=Demand(cpus=500, memory=300)), 9)
    assert nodes == {"a": 3, "b": 2}
    assert why == ("no suitable node (insufficient CPUs on 1 node; insufficient memory on 1 node)")


def test_a_service_is_spread_before_load_is_looked_at() -> None:
    put = Ledger(cluster_of(node("a"), node("b"), node("c")))
    put(group("d/other", constraints=("node.hostname == a",)), 6)
    assert put(group(), 3)[0] == {"a": 1, "b": 1, "c": 1}


def test_between_equals_the_one_with_fewer_tasks_is_next() -> None:
    put = Ledger(cluster_of(node("a"), node("b")))
    put(group("d/one"), 1)
    assert put(group("d/two"), 1)[0] == {"b": 1}


def test_who_reserves_goes_where_most_is_free() -> None:
    put = Ledger(cluster_of(node("a", memory=1000), node("b", memory=4000)))
    put(group("d/one", demand=Demand(memory=500)), 2)
    assert put(group("d/two", demand=Demand(memory=500)), 1)[0] == {"b": 1}


def test_a_node_where_the_revision_keeps_failing_is_the_last_choice() -> None:
    cluster = cluster_of(node("a"), node("b"))
    for _ in range(4):
        cluster.failed("a", "d/web-1", NOW)
    assert place(group(), 1, Sieve(cluster), NOW).nodes == ["a"]
    cluster.failed("a", "d/web-1", NOW)
    assert place(group(), 3, Sieve(cluster), NOW).nodes == ["b", "b", "b"]
    assert place(group("d/other"), 1, Sieve(cluster), NOW).nodes == ["a"]
    later = NOW + timedelta(minutes=6)
    assert place(group(), 1, Sieve(cluster), later).nodes == ["a"]


def test_ports_on_the_host_allow_one_a_node() -> None:
    put = Ledger(cluster_of(node("a"), node("b")))
    web = group(demand=Demand(ports=((80, "tcp"),)))
    nodes, why = put(web, 3)
    assert nodes == {"a": 1, "b": 1}
    assert why == "no suitable node (host port 80/tcp in use on 2 nodes)"
    assert put(group("d/dns", demand=Demand(ports=((80, "udp"),))), 2)[1] == ""


def test_the_limit_counts_tasks_that_are_there() -> None:
    put = Ledger(cluster_of(node("a"), node("b")))
    limited = group(max_per_node=2)
    assert put(limited, 3)[1] == ""
    nodes, why = put(limited, 3)
    assert sum(nodes.values()) == 1
    assert why == "no suitable node (limit of 2 per node reached on 2 nodes)"


def test_preferences_nest() -> None:
    put = Ledger(
        cluster_of(
            node("a1", zone="a", rack="1"),
            node("a2", zone="a", rack="2"),
            node("a3", zone="a", rack="2"),
            node("b1", zone="b", rack="1"),
            node("none"),
        )
    )
    nested = group(preferences=("node.labels.zone", "node.labels.rack"))
    assert put(nested, 12)[0] == {"a1": 2, "a2": 1, "a3": 1, "b1": 4, "none": 4}


def test_a_full_branch_leaves_the_rest_to_the_others() -> None:
    put = Ledger(cluster_of(node("a", memory=100, zone="a"), node("b", memory=1000, zone="b")))
    wanted = group(demand=Demand(memory=100), preferences=("node.labels.zone",))
    nodes, why = put(wanted, 6)
    assert (nodes, why) == ({"a": 1, "b": 5}, "")


def test_what_ends_gives_back_its_share_once() -> None:
    cluster = cluster_of(node("a", memory=100))
    wanted = group(demand=Demand(memory=100))
    cluster.hold("u", "a", "d/web", wanted.demand)
    cluster.hold("u", "a", "d/web", wanted.demand)
    assert place(wanted, 1, Sieve(cluster), NOW).nodes == []
    assert cluster.release("u")
    assert not cluster.release("u")
    assert place(wanted, 1, Sieve(cluster), NOW).nodes == ["a"]


def test_a_node_that_leaves_and_returns_still_has_its_tasks() -> None:
    cluster = cluster_of(node("a", memory=100))
    cluster.hold("u", "a", "d/web", Demand(memory=60))
    cluster.drop_node("a")
    assert cluster.get("a") is None
    assert list(cluster) == []
    cluster.put_node(node("a", memory=100))
    assert place(group(demand=Demand(memory=60)), 1, Sieve(cluster), NOW).nodes == []


def test_only_changes_that_matter_are_an_offer() -> None:
    cluster = Cluster()
    assert cluster.put_node(node("a"))
    assert not cluster.put_node(node("a"))
    assert cluster.put_node(node("a", zone="x"))
    assert cluster.put_node(node("a", zone="x", memory=2000))
    assert cluster.put_node(node("a", zone="x", memory=2000, availability="pause"))


def test_a_node_that_changes_is_looked_at_anew() -> None:
    cluster = cluster_of(node("a"))
    put = Ledger(cluster)
    wanted = group(constraints=("node.labels.zone == x",))
    assert put(wanted, 1)[0] == {}
    cluster.put_node(node("a", zone="x"))
    assert put(wanted, 1)[0] == {"a": 1}
    cluster.put_node(node("b", zone="x"))
    assert put(wanted, 1)[0] == {"b": 1}
    cluster.drop_node("b")
    assert put(wanted, 1)[0] == {"a": 1}
    cluster.put_node(node("a", zone="x", ready="False"))
    assert put(wanted, 1)[1] == "no suitable node (not ready on 1 node)"


def test_bound_tasks_ask_their_node_only() -> None:
    cluster = cluster_of(node("a", memory=100), node("b", ready="False"))
    wanted = group(demand=Demand(memory=60))
    assert place_on(wanted, cluster.get("a")) is None
    assert place_on(wanted, cluster.get("b")) == "node b is not ready"
    assert place_on(wanted, cluster.get("c")) == "its node is gone"
    cluster.hold("u", "a", "d/x", wanted.demand)
    assert place_on(wanted, cluster.get("a")) == "insufficient memory on node a"


def test_only_reservations_and_published_ports_are_demanded() -> None:
    template = TaskTemplate(
        image="x",
        resources=Resources(reservations=Reservations(cpus="250m", memory="1Ki")),
        ports=[Port(target=80), Port(target=53, published=5353, protocol="udp")],
    )
    assert demand_of(template) == Demand(cpus=250, memory=1024, ports=((5353, "udp"),))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2000)), min_size=1, max_size=8),
    st.lists(
        st.tuples(st.integers(1, 30), st.integers(0, 700), st.integers(0, 900), st.integers(0, 3)),
        max_size=5,
    ),
)
def test_nothing_is_ever_overcommitted(
    machines: list[tuple[int, int]], groups: list[tuple[int, int, int, int]]
) -> None:
    cluster = cluster_of(
        *(node(f"n{i}", cpus=cpus, memory=memory) for i, (cpus, memory) in enumerate(machines))
    )
    put = Ledger(cluster)
    for number, (count, cpus, memory, limit) in enumerate(groups):
        wanted = group(f"d/s{number}", demand=Demand(cpus, memory), max_per_node=limit)
        nodes, why = put(wanted, count)
        assert (sum(nodes.values()) < count) == bool(why)
        assert not limit or max(nodes.values(), default=0) <= limit
    for info in cluster:
        assert info.cpus_held <= info.cpus
        assert info.memory_held <= info.memory


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(0, 200))
def test_equal_nodes_get_equal_shares(machines: int, count: int) -> None:
    put = Ledger(cluster_of(*(node(f"n{i}") for i in range(machines))))
    nodes, _ = put(group(), count)
    shares = [nodes.get(f"n{i}", 0) for i in range(machines)]
    assert sum(shares) == count
    assert max(shares) - min(shares) <= 1
