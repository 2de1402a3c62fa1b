"""Constraints: Swarm's words, and the sets and existence that it never had."""

from __future__ import annotations

import pytest

from api.types.meta import Metadata
from api.types.node import Engine, Node, NodeSpec, NodeStatus
from api.types.service import Placement, Platform
from controllers.placement.constraints import parse
from controllers.placement.suitable import Requirements

NODE = Node(
    metadata=Metadata(name="n1", uid="id-1", labels={"zone": "East", "empty": ""}),
    spec=NodeSpec(role="manager"),
    status=NodeStatus(
        hostname="host1",
        address="10.1.2.3",
        os="linux",
        architecture="x86_64",
        engine=Engine(labels={"storage": "overlay"}),
    ),
)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("node.id == id-1", True),
        ("node.id==id-1", True),
        ("node.id != id-1", False),
        ("node.hostname == HOST1", True),
        ("node.role == worker", False),
        ("node.role != worker", True),
        ("node.platform.os == linux", True),
        ("node.platform.arch == amd64", True),
        ("node.platform.arch == x86_64", True),
        ("node.platform.arch in (arm64, amd64)", True),
        ("node.ip == 10.1.2.3", True),
        ("node.ip == 10.1.0.0/16", True),
        ("node.ip == 10.2.0.0/16", False),
        ("node.ip != 10.2.0.0/16", True),
        ("node.ip notin (10.1.0.0/16, 192.168.0.0/16)", False),
        ("node.labels.zone == east", True),
        ("node.labels.zone in (west, east)", True),
        ("node.labels.zone notin (west, north)", True),
        ("node.labels.zone notin (west, east)", False),
        ("node.labels.zone", True),
        ("node.labels.empty", True),
        ("!node.labels.zone", False),
        ("node.labels.missing", False),
        ("! node.labels.missing", True),
        ("node.labels.missing == a", False),
        ("node.labels.missing != a", True),
        ("node.labels.missing in (a)", False),
        ("node.labels.missing notin (a)", True),
        ("engine.labels.storage == overlay", True),
        ("engine.labels.zone == east", False),
    ],
)
def test_constraints(text: str, met: bool) -> None:
    assert parse(text).met_by(NODE) is met


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a constraint"),
        ("node.labels.zone = a", "is not a constraint"),
        ("node.labels.zone ==", "no value after =="),
        ("node.labels.zone in ()", "no values in the parentheses"),
        ("node.label.zone == a", "there is no key node.label.zone"),
        ("node.labels. == a", "there is no key node.labels."),
        ("zone", "there is no key zone"),
        ("node.ip == 10.0.0.0/99", "10.0.0.0/99"),
    ],
)
def test_what_is_no_constraint_is_explained(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace(".", r"\.")):
        parse(text)


@pytest.mark.parametrize(
    ("os", "arch", "runs"),
    [("linux", "amd64", True), ("linux", "", True), ("", "arm64", False), ("windows", "", False)],
)
def test_platforms(os: str, arch: str, runs: bool) -> None:
    placement = Placement(platforms=[Platform(os=os, architecture=arch)])
    assert Requirements(placement).runs_on(NODE) is runs
    both = Placement(platforms=[Platform(os="plan9"), Platform(os=os, architecture=arch)])
    assert Requirements(both).met_by(NODE) is runs
