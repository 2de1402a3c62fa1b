"""Selectors: which objects a text chooses."""

from __future__ import annotations

import pytest

from api.server.selectors import SelectorError, selection
from api.types.kinds import EVENT, NODE, SERVICE, TASK
from api.types.meta import Metadata
from api.types.node import Engine, Node, NodeStatus
from api.types.task import TaskState
from tests.server.harness import task


def labelled(**labels: str) -> Node:
    return Node(metadata=Metadata(name="a", labels=labels))


@pytest.mark.parametrize(
    ("selector", "labels", "chosen"),
    [
        ("", {}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "web"}, True),
        ("app=web", {"app": "db"}, False),
        ("app=web", {}, False),
        ("app=", {"app": ""}, True),
        ("app!=web", {"app": "db"}, True),
        ("app!=web", {}, True),
        ("app!=web", {"app": "web"}, False),
        ("app in (web,db)", {"app": "db"}, True),
        ("app in ( web , db )", {"app": "db"}, True),
        ("app in (web,db)", {"app": "x"}, False),
        ("app in (web,db)", {}, False),
        ("app notin (web,db)", {"app": "x"}, True),
        ("app notin (web,db)", {}, True),
        ("app notin (web,db)", {"app": "db"}, False),
        ("app", {"app": ""}, True),
        ("app", {}, False),
        ("!app", {}, True),
        ("!app", {"app": "web"}, False),
        ("app=web,tier in (a,b),!old", {"app": "web", "tier": "a"}, True),
        ("app=web,tier in (a,b),!old", {"app": "web", "tier": "a", "old": "1"}, False),
        ("example.com/a.b-c=1_2.3", {"example.com/a.b-c": "1_2.3"}, True),
    ],
)
def test_labels(selector: str, labels: dict[str, str], chosen: bool) -> None:
    assert selection(NODE, labels=selector).holds(labelled(**labels)) is chosen


@pytest.mark.parametrize(
    "selector", ["=web", "app in web", "app in (web", "a b", "app>1", ",", "!"]
)
def test_labels_that_cannot_be_read(selector: str) -> None:
    with pytest.raises(SelectorError, match="write it like"):
        selection(NODE, labels=selector)


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("metadata.name=web-1", True),
        ("metadata.name==web-1", True),
        ("metadata.name!=web-1", False),
        ("metadata.namespace=default", True),
        ("spec.service=web", True),
        ("spec.node=a,status.state=Running", True),
        ("status.state!=Running", False),
        ("spec.desiredState=Running", True),
        ("spec.slot=0", True),
        ("status.container.id=", True),
        ("status.container.oomKilled=true", False),
        ("metadata.labels.example.com/a=x", False),
    ],
)
def test_fields(selector: str, chosen: bool) -> None:
    obj = task("web-1", node="a", state=TaskState.RUNNING)
    assert selection(TASK, fields=selector).holds(obj) is chosen


def test_fields_in_words() -> None:
    node = Node(metadata=Metadata(name="a"), status=NodeStatus(engine=Engine(ready=True)))
    assert selection(NODE, fields="status.engine.ready=true").holds(node)


@pytest.mark.parametrize(
    "selector", ["spec.nodes=a", "metadata.name.x=a", "status", "=x", "spec=a b="]
)
def test_fields_that_are_not_there(selector: str) -> None:
    with pytest.raises(SelectorError):
        selection(TASK, fields=selector)


def test_an_unknown_field_is_answered_with_those_there_are() -> None:
    with pytest.raises(SelectorError, match=r"here are: .*involvedObject"):
        selection(EVENT, fields="object.uid=1")


def test_the_exact_value_of_a_field_is_known() -> None:
    chosen = selection(SERVICE, fields="metadata.name=web,metadata.namespace!=x")
    assert chosen.exact("metadata.name") == "web"
    assert chosen.exact("metadata.namespace") is None
