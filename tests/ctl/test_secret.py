"""`ctl secret` on a real manager: values in, never out, and versions back and forth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import until
from tests.ctl.objects import service, text
from tests.ctl.runner import Ctl, at_end

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(60)]

VALUE = "hunter2-5d1c"


def put(ctl: Ctl, *values: str) -> None:
    for value in values:
        ctl("secret", "set", "db", "password=-", "--create", stdin=value)


def status(ctl: Ctl) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ctl("get", "secret", "db", "-o", "json").out)["status"]
    return found


def user(ctl: Ctl, **spec: Any) -> None:
    found = service("web", secrets=[{"name": "db"}])
    found["spec"] |= {"update": {"monitor": "0s"}, "rollback": {"monitor": "0s"}} | spec
    ctl("apply", "-f", "-", "--wait", stdin=text(found))


def held(ctl: Ctl) -> list[int]:
    """The versions that running tasks have."""
    tasks = json.loads(ctl("get", "tasks", "-o", "json").out)["items"]
    return [
        task["status"]["secrets"]["db"]
        for task in tasks
        if task["status"]["state"] == "Running" and task["spec"].get("desiredState") != "Shutdown"
    ]


def test_values_come_from_stdin_files_and_the_terminal(ctl: Ctl, tmp_path: Path) -> None:
    missing = ctl("secret", "set", "db", "password=-", stdin=VALUE, code=None)
    assert missing.code != 0
    assert "does not exist" in missing.err
    assert "--create" in missing.err
    assert (
        "created, at version 1"
        in ctl("secret", "set", "db", "password=-", "--create", stdin=VALUE).out
    )
    (tmp_path / "key").write_bytes(b"\x00" * 9)
    said = ctl("secret", "set", "db", f"tls.key=@{tmp_path}/key").out
    assert said == "secret/db is at version 2\n"
    assert status(ctl)["sizes"] == {"password": len(VALUE), "tls.key": 9}, "the other key stays"
    with ctl.terminal("secret", "set", "db", "password") as child:
        for _ in range(2):
            child.expect(":")
            child.sendline("typed")
        code, shown = at_end(child)
    assert code == 0
    assert "typed" not in shown
    assert status(ctl)["sizes"]["password"] == 5
    same = ctl("secret", "set", "db", "password=-", stdin="typed").out
    assert "unchanged" in same


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["password=" + VALUE], "not taken from the command line"),
        (["password=@"], "not taken from the command line"),
        (["a=-", "b=-"], "stdin can be read once"),
        (["a=-", "a=-"], "given twice"),
        (["../a=-"], "is not a key"),
        (["password=@/nowhere"], "can't be read"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(ctl: Ctl, words: list[str], said: str) -> None:
    done = ctl("secret", "set", "db", *words, stdin=VALUE, code=None)
    assert done.code != 0
    assert said in done.err
    assert VALUE not in done.out + done.err
    assert ctl("get", "secret", "db", code=None).code != 0


def test_history_says_who_holds_what(ctl: Ctl) -> None:
    put(ctl, "one")
    user(ctl)
    put(ctl, "two")
    until(lambda: held(ctl) == [2], "it has the new version", 40)
    rows = ctl("secret", "history", "db").rows
    assert rows[0] == ["VERSION", "AGE", "SIZE", "STATE", "FROM", "HELD BY"]
    assert [(row[0], row[3]) for row in rows[1:]] == [("1", "kept"), ("2", "current")]
    assert rows[2][-1].startswith("web-1")
    assert "used by services: web" in ctl("secret", "history", "db").err
    listed = ctl("get", "secrets").rows
    assert listed[0] == ["NAME", "KEYS", "SIZE", "VERSION", "SET", "USERS", "NEXT ROTATION", "AGE"]
    until(lambda: ctl("get", "secrets").rows[1][5] == "1", "its user is counted", 20)
    assert "  2: " in ctl("describe", "secret", "db").out
    newest = ctl("secret", "destroy", "db", "--version", "2", code=None)
    assert "it is the newest version" in newest.err
    until(
        lambda: ctl("secret", "destroy", "db", "--version", "1", code=None).code == 0,
        "nobody holds the old one", 20,
    )  # fmt: skip
    back = ctl("secret", "rollback", "db", "--to-version", "1", code=None)
    assert "is not kept (there are: 2)" in back.err


def test_a_service_that_is_undone_has_the_version_that_went_with_it(ctl: Ctl) -> None:
    put(ctl, "one")
    user(ctl)
    put(ctl, "two")
    until(lambda: held(ctl) == [2], "it has the new version", 40)
    rows = ctl("rollout", "history", "web").rows
    assert (rows[0][-1], rows[2][-1]) == ("SECRETS", "db 2")
    ctl("rollout", "undo", "web", "--wait")
    until(lambda: held(ctl) == [1], "and the old one again", 40)
    assert status(ctl)["version"] == 2
    put(ctl, "three")
    until(lambda: held(ctl) == [3], "a newer one takes effect", 40)
    ctl("secret", "rollback", "db", "--to-version", "2")
    until(lambda: held(ctl) == [4], "a version more", 40)
    assert ctl("secret", "history", "db").rows[4][4] == "version 2"


def test_what_is_used_stays_and_what_is_not_is_found(ctl: Ctl) -> None:
    put(ctl, "one")
    ctl("create", "secret", "idle", "--from-stdin", "k", stdin="v")
    user(ctl)
    refused = ctl("delete", "secret", "db", code=None)
    assert refused.code != 0
    assert "service web uses it" in refused.err
    found = ctl("secret", "prune")
    assert found.out.startswith("secret/idle unused")
    assert "nothing was deleted" in found.err
    assert ctl("secret", "prune", "--yes").out == "secret/idle deleted\n"
    assert "is used" in ctl("secret", "prune").err
    forced = ctl("delete", "secret", "db", "--force")
    assert "is used by services web: none of them can start a task" in forced.err


def test_rotating_asks_for_what_is_given(ctl: Ctl) -> None:
    ctl("create", "secret", "db", "--from-stdin", "password", stdin="one")
    said = ctl("secret", "rotate", "db", "password=-", stdin="two").out
    assert said == "secret/db is at version 2\n"
    with ctl.terminal("secret", "rotate", "db") as child:  # it has one key
        for _ in range(2):
            child.expect(":")
            child.sendline("three")
        assert at_end(child)[0] == 0
    assert status(ctl)["version"] == 3
    other = ctl("secret", "rotate", "db", "user=-", stdin="x", code=None)
    assert "has no key user" in other.err


def test_following_an_update_begins_with_the_version_that_is_there_then(ctl: Ctl) -> None:
    put(ctl, "one")
    user(ctl)
    for number in range(2, 6):
        put(ctl, f"value {number}")
        ctl("rollout", "status", "web", "--timeout", "40s")
        assert held(ctl) == [number]
    put(ctl, "last")
    ctl("wait", "service/web", "--for=condition=Progressing=False", "--timeout", "40s")
    assert held(ctl) == [6]


def test_setting_waits_for_all_that_use_it(ctl: Ctl) -> None:
    put(ctl, "one")
    unused = ctl("secret", "set", "db", "password=-", "--wait", stdin="two")
    assert "no service uses secret db" in unused.err
    user(ctl)
    for name, then in (("reads", "none"), ("hears", {"signal": "HUP"})):
        mount = {"name": "db", "onChange": then}
        follows = service(name, "trap : HUP; sleep 1000", replicas=2, secrets=[mount])
        ctl("apply", "-f", "-", "--wait", stdin=text(follows))
    said = ctl("secret", "set", "db", "password=-", "--wait", stdin="three")
    assert said.out == "secret/db is at version 3\n"
    assert held(ctl) == [3] * 5
    ctl("secret", "rollback", "db", "--wait")
    assert held(ctl) == [4] * 5
    ctl("secret", "rotate", "db", "password=-", "--wait", stdin="five")
    assert held(ctl) == [5] * 5
    again = ctl("secret", "set", "db", "password=-", "--wait", stdin="five")
    assert "unchanged" in again.out


def test_who_has_not_the_new_version_is_said_and_why(ctl: Ctl) -> None:
    put(ctl, "one")
    user(ctl)
    then = {"command": ["sh", "-c", "exit 3"]}
    hears = service("hears", "sleep 1000", secrets=[{"name": "db", "onChange": then}])
    ctl("apply", "-f", "-", "--wait", stdin=text(hears))
    command = ("secret", "set", "db", "password=-", "--wait", "--timeout", "4s")
    late = ctl(*command, stdin="two", code=124)
    assert "not given version 2 of secret db within" in late.err
    assert "it has version 1: " in late.err
    assert "its command sh failed" in late.err
    ctl("delete", "service", "hears")
    ctl("rollout", "pause", "web")
    held_up = ctl(*command, stdin="three", code=1)
    assert "service/web: the update is paused" in held_up.err
    assert status(ctl)["version"] == 3, "it is set all the same"


def test_rotating_waits_for_what_the_cluster_makes(ctl: Ctl) -> None:
    made = {
        "apiVersion": "skep.dev/v1", "kind": "Secret", "metadata": {"name": "db"},
        "generate": {"password": {"length": 20}},
    }  # fmt: skip
    ctl("apply", "-f", "-", stdin=text(made))
    user(ctl)
    said = ctl("secret", "rotate", "db", "--wait")
    assert said.out.splitlines() == [
        "secret/db is to get new values, after version 1", "secret/db is at version 2",
    ]  # fmt: skip
    assert held(ctl) == [2]
