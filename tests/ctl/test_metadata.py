"""`ctl label`, `ctl annotate` and `ctl node`."""

from __future__ import annotations

import json
import re

import pytest

from tests.cluster.harness import Cluster, until
from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


@pytest.fixture
def two(ctl: Ctl) -> Ctl:
    ctl("apply", "-f", "-", stdin=text(config("a"), config("b")))
    return ctl


def metadata(ctl: Ctl, field: str) -> dict[str, str]:
    found = json.loads(ctl("get", "config", "a", "-o", "json").out)["metadata"].get(field, {})
    found.pop("skep.dev/last-applied", None)
    return dict(found)


@pytest.mark.parametrize(("verb", "field"), [("label", "labels"), ("annotate", "annotations")])
def test_keys_are_set_changed_and_removed(two: Ctl, verb: str, field: str) -> None:
    done = two.program(verb, "config/a", "team=shop", "example.com/tier=web")
    assert done.out == f"config/a {verb}{'led' if verb == 'label' else 'd'}\n"
    assert metadata(two, field) == {"team": "shop", "example.com/tier": "web"}
    assert two(verb, "config", "a", "team=shop").out == "config/a unchanged\n"
    refused = two(verb, "config", "a", "team=other", code=1)
    assert "has team=shop already" in refused.err
    assert "--overwrite" in refused.err
    two(verb, "config", "a", "team=other", "example.com/tier-", "--overwrite")
    assert metadata(two, field) == {"team": "other"}
    assert two(verb, "config", "a", "none-").out == "config/a unchanged\n"


def test_several_objects(two: Ctl) -> None:
    assert two("label", "configs", "--all", "x=y").lines == [
        "config/a labelled", "config/b labelled",
    ]  # fmt: skip
    assert two("label", "configs", "-l", "x=y", "x-").lines == [
        "config/a labelled", "config/b labelled",
    ]  # fmt: skip
    assert two("label", "config/a", "config/b", "x=z").lines == [
        "config/a labelled", "config/b labelled",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["config/a"], 2, "no label is given"),
        (["configs", "x=y"], 2, "name the objects"),
        (["config/none", "x=y"], 3, "does not exist"),
        (["config/a", "-bad=y"], 2, "such option"),
        (["config/a", "b ad=y"], 2, "is not the key of a label"),
        (["config/a", "x=not a value"], 4, "metadata.labels"),
        (["config/a", "x=1", "x=2"], 2, "given twice"),
    ],
)
def test_what_is_no_label(two: Ctl, words: list[str], code: int, said: str) -> None:
    assert said in two("label", *words, code=code).err


def test_the_examples_in_the_help_keep_their_lines(ctl: Ctl) -> None:
    lines = [line.strip() for line in ctl("label", "--help").lines]
    assert "ctl label node worker-1 zone=a" in lines
    assert "ctl label service/web team=shop --overwrite" in lines


def test_a_node_is_taken_out_of_service_and_back(ctl: Ctl, cluster: Cluster) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web")))
    try:
        assert ctl.program("node", "pause", "worker-1").out == "node/worker-1 paused\n"
        assert ctl("node", "pause", "worker-1").out == "node/worker-1 unchanged\n"
        ctl("apply", "-f", "-", stdin=text(service("late")))
        until(lambda: "no suitable node" in ctl("get", "tasks").out, "nothing is placed")
        assert ctl("get", "tasks", "--field-selector", "status.state=Running", "-o", "name").out
        # There is no other node, and a task leaves only when another runs in its place.
        done = ctl("node", "drain", "worker-1", "--wait", "--timeout", "500ms", code=124)
        assert done.out == "node/worker-1 drained\n"
        assert "tasks still run (" in done.err
        assert "drain" in ctl("get", "node", "worker-1").out
        ctl("delete", "services", "--all")
    finally:
        assert ctl("node", "activate", "worker-1").out == "node/worker-1 activated\n"
    assert "does not exist" in ctl("node", "drain", "none", code=3).err


def test_the_cluster_on_one_screen(ctl: Ctl) -> None:
    done = ctl.program("status")
    assert done.lines[0].startswith("cluster    https://127.0.0.1:")
    assert done.lines[1] == "nodes      1/1 ready"
    wish = service("web", secrets=[{"name": "password"}])
    ctl("apply", "-f", "-", stdin=text(wish))
    words = (
        rf"  service {ctl.namespace}/web: 0/1 running; web-1-\w+: waiting for secret"
        rf" {ctl.namespace}/password, which does not exist"
    )
    until(
        lambda: any(re.fullmatch(words, line) for line in ctl("status").lines),
        "what keeps the service from running is said",
    )
