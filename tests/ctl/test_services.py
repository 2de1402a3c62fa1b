"""`ctl scale` and `ctl restart`."""

from __future__ import annotations

import pytest

from tests.ctl.objects import service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


@pytest.fixture
def web(ctl: Ctl) -> Ctl:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web"), service("db")))
    return ctl


def path(ctl: Ctl, where: str, name: str = "web") -> str:
    return ctl("get", "service", name, "-o", f"jsonpath={where}").out


def test_scaling(web: Ctl) -> None:
    assert web.program("scale", "web=3").out == "service/web scaled (1 → 3 replicas)\n"
    assert web("scale", "service/web=3").out == "service/web unchanged (3 replicas)\n"
    assert web("scale", "service", "web", "--replicas", "2", "--wait").lines == [
        "service/web scaled (3 → 2 replicas)"
    ]
    assert path(web, "{.status.running}") == "2"
    assert len(web("scale", "web=0", "db=2", "--wait").lines) == 2
    assert path(web, "{.spec.replicas}") == "0"


def test_scaling_only_from_what_was_meant(web: Ctl) -> None:
    done = web("scale", "web=3", "--current-replicas", "2", code=1)
    assert done.err == f"error: service {web.namespace}/web has 1 replicas, not 2\n"
    assert web("scale", "web=0", "--current-replicas", "1").out
    assert web("scale", "web=2", "--current-replicas", "0").out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["web"], 2, "NAME=REPLICAS"),
        (["web=many"], 2, "NAME=REPLICAS"),
        (["web=-1"], 2, "NAME=REPLICAS"),
        (["node/web=3"], 2, "only services have replicas"),
        (["none=3"], 3, "does not exist"),
        (["service", "web", "--replicas", "-1"], 2, "-1"),
    ],
)
def test_what_cannot_be_scaled(ctl: Ctl, words: list[str], code: int, said: str) -> None:
    assert said in ctl("scale", *words, code=code).err


def test_a_global_service_has_no_number(ctl: Ctl) -> None:
    wish = service("everywhere")
    wish["spec"]["mode"] = "global"
    del wish["spec"]["replicas"]
    ctl("apply", "-f", "-", stdin=text(wish))
    assert "a task on every suitable node" in ctl("scale", "everywhere=2", code=1).err


def test_a_restart_replaces_all_tasks(web: Ctl) -> None:
    before = web("get", "tasks", "--field-selector", "spec.service=web", "-o", "name").out
    assert web.program("restart", "service/web", "--wait").out == "service/web restarted\n"
    after = web(
        "get", "tasks", "--field-selector", "spec.service=web,status.state=Running", "-o", "name"
    ).out
    assert after.startswith("task/web-1")
    assert after != before
    assert path(web, "{.status.running} {.status.updated}") == "1 1"


def test_several_restarts(web: Ctl) -> None:
    assert web("restart", "web", "db").lines == ["service/web restarted", "service/db restarted"]
    assert web("restart", "service", "web").out == "service/web restarted\n"
    assert "only services can" in web("restart", "node/worker-1", code=2).err
    assert "does not exist" in web("restart", "none", code=3).err
