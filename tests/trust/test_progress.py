"""When a root is replaced: who is asked to renew, whom all wait for, and when it is done."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from api.trust.progress import progress
from api.trust.records import ManagerRecord
from api.types.meta import Condition, Metadata
from api.types.node import Node, NodeCertificate, NodeStatus

OLD, NEW = "aaaaaaaa", "bbbbbbbb"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def node(name: str, authority: str = OLD, *, ready: bool = True) -> Node:
    condition = Condition(type="Ready", status="True" if ready else "Unknown")
    return Node(
        metadata=Metadata(name=name),
        status=NodeStatus(certificate=NodeCertificate(authority=authority), conditions=[condition]),
    )


def manager(signs: str) -> ManagerRecord:
    return ManagerRecord(url="https://m:7443", since=NOW, signs=signs, trusts=[OLD, NEW])


def test_nodes_are_asked_a_few_at_a_time() -> None:
    nodes = [node(f"n{number}") for number in range(10)]
    made = progress(NEW, nodes, {}, batch=3)
    assert made.ask == {"n0", "n1", "n2"}
    for moved in nodes[:3]:
        moved.status.certificate.authority = NEW
    assert progress(NEW, nodes, {}, batch=3).ask == {"n3", "n4", "n5"}


def test_a_node_that_is_away_takes_no_place_and_is_waited_for_by_name() -> None:
    made = progress(NEW, [node("away", ready=False), node("here")], {}, batch=1)
    assert made.ask == {"here"}
    assert any("away" in line and "remove it" in line for line in made.waiting)
    assert not made.done


def test_every_manager_is_waited_for() -> None:
    made = progress(NEW, [node("a", NEW)], {"m1": manager(NEW), "m2": manager(OLD)})
    assert made.waiting == ["manager m2: to take a certificate of the new root"]


def test_it_is_done_when_all_have_moved() -> None:
    made = progress(NEW, [node("a", NEW), node("b", NEW, ready=False)], {"m": manager(NEW)})
    assert made.done
    assert made.moved == 2


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60),
    st.integers(min_value=1, max_value=7),
)
def test_whoever_is_ready_moves_in_the_end_and_done_means_all(
    states: list[tuple[bool, bool]], batch: int
) -> None:
    """Played out: those who are asked move. It ends, and is done exactly if nobody is away."""
    nodes = [
        node(f"n{number:02}", NEW if moved else OLD, ready=ready)
        for number, (moved, ready) in enumerate(states)
    ]
    for _ in range(len(nodes) + 1):
        made = progress(NEW, nodes, {}, batch=batch)
        assert len(made.ask) <= batch
        if not made.ask:
            break
        for one in nodes:
            if one.metadata.name in made.ask:
                assert one.status.certificate.authority == OLD
                one.status.certificate.authority = NEW
    left = [moved for moved, ready in states if not moved and not ready]
    assert made.done == (not left)
    assert made.moved == len(nodes) - len(left)
