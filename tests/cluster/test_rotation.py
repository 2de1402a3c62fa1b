"""New versions of secrets on real containers: rolled, swapped in place, and taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.harness import Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd, pytest.mark.deadline(240)]


def put(cluster: Cluster, name: str, value: str) -> None:
    cluster.ctl("secret", "set", name, "value=-", "--create", stdin=value)


def user(
    name: str, *script: str, secrets: list[Document], replicas: int = 1, **spec: Any
) -> Document:
    found = service(name, *script, replicas=replicas, secrets=secrets)
    found["spec"] |= spec
    return found


def read(cluster: Cluster, service: str, path: str) -> list[str]:
    """What each of its containers reads there, now."""
    ids = sorted(cluster.running_of(service))
    return [cluster.docker("exec", id, "cat", path, check=False) for id in ids]


def held(cluster: Cluster, service: str) -> list[Document]:
    return [task["status"].get("secrets", {}) for task in cluster.tasks(service, "Running")]


def history(cluster: Cluster, name: str) -> str:
    return cluster.ctl("secret", "history", name).stdout


def test_a_new_version_rolls_and_the_old_one_can_end(cluster: Cluster) -> None:
    put(cluster, "rolled", "one")
    pace = {"parallelism": 2, "monitor": "0s"}
    cluster.apply(user("rolls", secrets=[{"name": "rolled"}], replicas=3, update=pace))
    cluster.until_running("rolls", 3)
    before = cluster.running_of("rolls")
    refused = cluster.ctl("delete", "secret", "rolled", check=False)
    assert refused.returncode
    assert "service rolls uses it" in refused.stderr
    put(cluster, "rolled", "two")
    until(lambda: read(cluster, "rolls", "/run/secrets/rolled") == ["two"] * 3, "all have it")
    cluster.until_running("rolls", 3)
    assert not before & cluster.running_of("rolls")
    assert held(cluster, "rolls") == [{"rolled": 2}] * 3
    until(lambda: "nobody" in history(cluster, "rolled").splitlines()[1], "all have moved")
    until(
        lambda: (
            not cluster.ctl("secret", "destroy", "rolled", "--version", "1", check=False).returncode
        ),
        "the old version can be destroyed",
    )
    assert "destroyed" in history(cluster, "rolled")
    unused = cluster.ctl("secret", "prune").stdout
    assert "rolled" not in unused


def test_a_bad_version_goes_back_by_itself_to_the_one_before(cluster: Cluster) -> None:
    put(cluster, "checked", "good")
    script = 'test "$(cat /run/secrets/checked)" = good || exit 3; sleep 100000'
    pace = {"parallelism": 1, "monitor": "2s", "failureAction": "rollback"}
    wish = user("checks", secrets=[{"name": "checked"}], replicas=2, update=pace)
    wish["spec"]["template"]["command"] = ["sh", "-c", f"trap 'exit 0' TERM; ({script}) & wait $!"]
    wish["spec"]["rollback"] = {"monitor": "1s"}
    cluster.apply(wish)
    cluster.until_running("checks", 2)

    def state() -> str:
        found = cluster.find("service", "checks") or {}
        return str((found["status"].get("update") or {}).get("state"))

    put(cluster, "checked", "bad")
    until(lambda: state() == "rollback_completed", "it has gone back")
    cluster.until_running("checks", 2)
    assert read(cluster, "checks", "/run/secrets/checked") == ["good"] * 2
    assert held(cluster, "checks") == [{"checked": 1}] * 2
    cluster.ctl("secret", "rollback", "checked")
    until(lambda: held(cluster, "checks") == [{"checked": 3}] * 2, "the good one is the newest")
    assert read(cluster, "checks", "/run/secrets/checked") == ["good"] * 2


def follower(name: str) -> Document:
    """Writes down what it reads when it is told to."""
    said = "cat /run/secrets/told >> /tmp/told"
    script = f"trap '{said}' HUP; while :; do sleep 1 & wait $!; done"
    secrets: list[Document] = [
        {"name": "told", "onChange": {"signal": "SIGHUP"}},
        {"name": "quiet", "target": "deep/quiet", "uid": 7, "mode": "0440", "onChange": "none"},
        {"name": "run", "onChange": {"command": ["cp", "/run/secrets/run", "/tmp/run"]}},
        {"name": "fixed"},
    ]
    found = user(name, secrets=secrets)
    found["spec"]["template"]["command"] = ["sh", "-c", f"trap 'exit 0' TERM; {script}"]
    return found


def test_files_are_swapped_in_place_and_who_wants_it_is_told(cluster: Cluster) -> None:
    for name in ("told", "quiet", "run", "fixed"):
        put(cluster, name, "one")
    cluster.apply(follower("follows"))
    cluster.until_running("follows", 1)
    before = cluster.pids()
    [id] = cluster.running_of("follows")
    for name in ("told", "quiet", "run"):
        put(cluster, name, "two")
    swapped = {"told": 2, "quiet": 2, "run": 2, "fixed": 1}
    until(lambda: held(cluster, "follows") == [swapped], "all are swapped")
    for path in ("told", "deep/quiet", "run"):
        assert read(cluster, "follows", f"/run/secrets/{path}") == ["two"], path
    until(
        lambda: read(cluster, "follows", "/tmp/told") == ["two"], "the signal came after the file"
    )
    assert read(cluster, "follows", "/tmp/run") == ["two"]
    assert read(cluster, "follows", "/run/secrets/fixed") == ["one"]
    owner = cluster.docker("exec", id, "stat", "-L", "-c", "%u:%g %a", "/run/secrets/deep/quiet")
    assert owner.strip() == "7:0 440"
    until(
        lambda: len([n for n in cluster.docker("exec", id, "ls", "-a", "/run/secrets").split()
                     if n.startswith("..") and n[2:].isdecimal()]) == 1,
        "nothing of the old version is left in sight",
    )  # fmt: skip
    assert cluster.pids() == before, "no container was restarted"
    table = history(cluster, "told")
    assert "follows-1" in table.splitlines()[2]


def test_an_agent_that_was_killed_finishes_what_came_meanwhile(cluster: Cluster) -> None:
    before = cluster.pids()
    cluster.kill("agent")
    for name in ("told", "quiet"):
        put(cluster, name, "three")
    assert read(cluster, "follows", "/run/secrets/told") == ["two"]
    cluster.start_agent()
    until(lambda: held(cluster, "follows")[0]["told"] == 3, "it is swapped")
    assert read(cluster, "follows", "/run/secrets/told") == ["three"]
    assert read(cluster, "follows", "/run/secrets/deep/quiet") == ["three"]
    until(lambda: read(cluster, "follows", "/tmp/told") == ["twothree"], "and told of, once")
    assert cluster.pids().items() <= before.items()


def test_a_command_that_fails_is_tried_again_and_said(cluster: Cluster) -> None:
    put(cluster, "gated", "one")
    script = "test -e /tmp/open && cp /run/secrets/gated /tmp/seen"
    mount = {"name": "gated", "onChange": {"command": ["sh", "-c", script]}}
    cluster.apply(user("gate", secrets=[mount]))
    cluster.until_running("gate", 1)
    [id] = cluster.running_of("gate")
    put(cluster, "gated", "two")

    def message() -> str:
        return str(cluster.tasks("gate")[0]["status"].get("message", ""))

    until(lambda: "is in place, but its command sh failed" in message(), "it is said")
    assert "two" not in json.dumps(cluster.tasks("gate"))
    assert held(cluster, "gate") == [{"gated": 1}], "what was to follow was not done"
    cluster.docker("exec", id, "touch", "/tmp/open")
    until(lambda: held(cluster, "gate") == [{"gated": 2}], "it was tried again")
    assert read(cluster, "gate", "/tmp/seen") == ["two"]


def test_an_agent_killed_while_the_command_runs_runs_it_again(cluster: Cluster) -> None:
    put(cluster, "slow", "one")
    script = "cat /run/secrets/slow >> /tmp/begun; sleep 2; cat /run/secrets/slow >> /tmp/ended"
    mount = {"name": "slow", "onChange": {"command": ["sh", "-c", script]}}
    cluster.apply(user("slow", secrets=[mount]))
    cluster.until_running("slow", 1)
    before = cluster.pids()
    put(cluster, "slow", "two")
    until(lambda: read(cluster, "slow", "/tmp/begun") == ["two"], "the command has begun")
    cluster.kill("agent")
    assert held(cluster, "slow") == [{"slow": 1}], "it was not done"
    cluster.start_agent()
    until(lambda: held(cluster, "slow") == [{"slow": 2}], "it is done")
    assert read(cluster, "slow", "/tmp/begun") == ["twotwo"]
    assert "two" in read(cluster, "slow", "/tmp/ended")[0]
    assert cluster.pids() == before


def test_a_manager_that_is_killed_in_the_middle_goes_on_rolling(cluster: Cluster) -> None:
    put(cluster, "long", "one")
    pace = {"parallelism": 1, "monitor": "1s"}
    cluster.apply(user("goes-on", secrets=[{"name": "long"}], replicas=3, update=pace))
    cluster.until_running("goes-on", 3)
    put(cluster, "long", "two")
    until(lambda: "two" in read(cluster, "goes-on", "/run/secrets/long"), "the first has it")
    cluster.kill("manager")
    assert "one" in read(cluster, "goes-on", "/run/secrets/long")
    cluster.start_manager()
    until(lambda: read(cluster, "goes-on", "/run/secrets/long") == ["two"] * 3, "all have it")
