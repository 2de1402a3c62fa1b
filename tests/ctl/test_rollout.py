"""`ctl rollout`: an update seen, held, and undone."""

from __future__ import annotations

import json
import re
from typing import Any

import pexpect
import pytest

from tests.cluster.harness import until
from tests.ctl.objects import service, text
from tests.ctl.runner import ESCAPES, Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(60)]

QUICK = {"monitor": "100ms"}
BAD = "exit 1"


def wish(image: str, script: str = "", *, action: str = "pause", **env: str) -> dict[str, Any]:
    found = service("web", script, replicas=2, env=env)
    found["spec"]["template"]["image"] = image
    found["spec"] |= {"update": {**QUICK, "failureAction": action}, "rollback": QUICK}
    return found


def apply(ctl: Ctl, *words: str, code: int = 0, **what: Any) -> str:
    done = ctl("apply", "-f", "-", "--wait", *words, stdin=text(wish(**what)), code=code)
    return done.out + done.err


def live(ctl: Ctl) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ctl("get", "service", "web", "-o", "json").out)
    return found


def image(ctl: Ctl) -> str:
    return str(live(ctl)["spec"]["template"]["image"])


def test_status_and_history(ctl: Ctl) -> None:
    apply(ctl, image="web:1")
    assert (
        "State:     never updated" in ctl.program("rollout", "status", "web", "--watch=false").lines
    )
    apply(ctl, image="web:2")
    shown = ctl("rollout", "status", "service/web", "--watch=false")
    assert shown.lines[0] == "Service:   web"
    assert shown.lines[1].startswith("State:     completed for ")
    assert shown.lines[2].startswith("Revision:  2 (web-")
    assert shown.lines[3].startswith("Before:    1 (web-")
    assert "2/2 run web-" in shown.lines[4]
    rows = ctl("rollout", "history", "web").rows
    assert [(row[0], row[2]) for row in rows[1:]] == [("1", "web:1"), ("2", "web:2")]
    assert [row[5] for row in rows[1:]] == ["before", "wanted"]
    assert "image: web:1\n" in ctl("rollout", "history", "web", "--revision", "1").out
    assert "Update:        completed since" in ctl("describe", "service", "web").out


def test_a_failed_update_ends_the_wait_and_says_why(ctl: Ctl) -> None:
    apply(ctl, image="web:1")
    said = apply(ctl, image="web:2", script=BAD, code=1)
    assert "error: service/web: the update is paused: new tasks of 1 of 2 replicas failed" in said
    assert "ctl rollout status web" in said
    assert "paused" in ctl("rollout", "status", "web", code=1).err
    shown = ctl("rollout", "status", "web", "--watch=false").out
    assert "State:     paused" in shown
    assert ", 1 failed" in shown
    # Resumed, it is tried again, and fails again.
    first = live(ctl)["status"]["update"]["since"]
    assert ctl("rollout", "resume", "web").out == "service/web resumed\n"

    def paused_again() -> bool:
        update = live(ctl)["status"]["update"]
        return bool(update["state"] == "paused" and update["since"] != first)

    until(paused_again, "it has failed again", 40)


def test_one_that_went_back_by_itself(ctl: Ctl) -> None:
    apply(ctl, image="web:1")
    said = apply(ctl, image="web:2", script=BAD, action="rollback", code=1)
    assert "error: service/web: the update was rolled back: all tasks run revision web-" in said
    assert "State:     rolled back" in ctl("rollout", "status", "web", "--watch=false").out
    assert "was rolled back: all tasks run" in ctl("rollout", "status", "web", code=1).err
    # The spec still says what failed; undoing makes it say what runs.
    assert image(ctl) == "web:2"
    assert "goes back to revision 1" in ctl("rollout", "undo", "web", "--wait").out
    assert image(ctl) == "web:1"


def test_pausing_and_resuming_by_hand(ctl: Ctl) -> None:
    apply(ctl, image="web:1")
    assert ctl("rollout", "pause", "web").out == "service/web paused\n"
    assert ctl("rollout", "pause", "web").out == "service/web unchanged (it is paused)\n"
    assert "spec.paused is true" in apply(ctl, image="web:2", code=1)
    assert "Held:" in ctl("rollout", "status", "web", "--watch", "false").out
    assert ctl("rollout", "resume", "web").out == "service/web resumed\n"
    ctl("rollout", "status", "web", "--wait", "--timeout", "20s")
    assert live(ctl)["status"]["update"]["state"] == "completed"
    assert ctl("rollout", "resume", "web").out == "service/web unchanged (nothing is paused)\n"


def test_undoing(ctl: Ctl) -> None:
    apply(ctl, image="web:1", OLD="1")
    apply(ctl, image="web:2")
    apply(ctl, image="web:3")
    done = ctl("rollout", "undo", "web", "--wait")
    assert done.out.startswith("service/web goes back to revision 2 (web-")
    assert "change it too" in done.err
    assert image(ctl) == "web:2"
    assert live(ctl)["status"]["update"]["state"] == "rollback_completed"
    done = ctl("rollout", "undo", "web", "--to-revision", "1", "--wait")
    template = live(ctl)["spec"]["template"]
    assert (template["image"], template["env"]) == ("web:1", {"OLD": "1"})
    again = ctl("rollout", "undo", "web", "--to-revision", "1").out
    assert again == "service/web unchanged (it is at revision 1)\n"
    # What came back with it goes with the next manifest.
    apply(ctl, image="web:3")
    template = live(ctl)["spec"]["template"]
    assert template["image"] == "web:3"
    assert "OLD" not in template.get("env", {})


def test_what_cannot_be_undone(ctl: Ctl) -> None:
    apply(ctl, image="web:1")
    assert "no revision but the one" in ctl("rollout", "undo", "web", code=1).err
    done = ctl("rollout", "undo", "web", "--to-revision", "7", code=1)
    assert "revision 7 of service web is not kept (there are: 1)" in done.err
    assert "does not exist" in ctl("rollout", "status", "none", code=3).err
    assert "one service at a time" in ctl("rollout", "undo", "web", "db", code=2).err
    assert "only services" in ctl("rollout", "pause", "node/worker-1", code=2).err


# While it goes on.


LINGERS = "trap '' TERM; sleep 1000000"


def slowly(script: str = LINGERS, **env: str) -> str:
    """An update that can be watched: three tasks, one after the other, none of which goes soon."""
    found = wish("web:1", script, **env)
    found["spec"] |= {"replicas": 3, "update": {"monitor": "300ms"}}
    found["spec"]["template"]["stopGracePeriod"] = "600ms"
    return text(found)


@pytest.fixture
def going(ctl: Ctl) -> Ctl:
    ctl("apply", "-f", "-", "--wait", stdin=slowly(V="1"))
    ctl("apply", "-f", "-", stdin=slowly(V="2"))
    return ctl


def test_each_change_is_a_line_where_there_is_no_terminal(going: Ctl) -> None:
    lines = going.program("rollout", "status", "web").lines
    changes = [line for line in lines if line.startswith("task/")]
    assert len(changes) == len(set(changes)), "nothing is said twice"
    by_task: dict[str, list[str]] = {}
    for line in changes:
        by_task.setdefault(line.split()[0], []).append(line)
    updated = [said for said in by_task.values() if "revision 2 (web-" in said[-1]]
    assert len(updated) == 3
    assert {said[-1].rpartition(" on ")[2] for said in updated} == {"worker-1: Running"}
    assert any("revision 1 (web-" in line and "Running, leaving" in line for line in changes)
    assert any(line.startswith("service/web 1/3 running, updating") for line in lines)
    assert "State:     completed" in "\n".join(lines)


def test_scripts_get_a_document_for_each_change(going: Ctl) -> None:
    lines = going.program("rollout", "status", "web", "-o", "json").lines
    seen = [json.loads(line) for line in lines]
    assert len(seen) > 3
    assert [each["done"] for each in seen] == [False] * (len(seen) - 1) + [True]
    assert seen[0]["state"] == "updating" or not seen[0]["state"]
    last = seen[-1]
    assert (last["state"], last["updated"], last["replicas"]) == ("completed", 3, 3)
    running = [task for task in last["tasks"] if task["state"] == "Running"]
    assert [(task["slot"], task["number"], task["ready"]) for task in running] == [
        (slot, 2, True) for slot in (1, 2, 3)
    ]
    once = json.loads(going("rollout", "status", "web", "--watch=false", "-o", "json").out)
    assert once == last


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_shows_the_tasks_as_they_change(going: Ctl, plain: bool) -> None:
    more = {"NO_COLOR": "1"} if plain else {}
    with going.terminal("rollout", "status", "web", size=(20, 100), **more) as child:
        child.expect(pexpect.EOF)
        drawn = child.before or ""
        child.close()
    assert child.exitstatus == 0
    assert ("\x1b[32mRunning" in drawn) != plain
    assert "\x1b[?25l" in drawn, "drawn over and over: the cursor is hidden"
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l"), "and shown again"
    shown = ESCAPES.sub("", drawn)
    assert re.search(r"SLOT +TASK +NODE +REVISION +STATE", shown)
    assert "State:     updating for" in shown
    assert "Running, leaving" in shown
    last = [line.rstrip() for line in shown[shown.rindex("Service:   web") :].splitlines()]
    assert last[1].startswith("State:     completed")
    rows = [line.split() for line in last if re.match(r"[123] ", line)]
    assert [(row[0], row[2], row[3], row[5]) for row in rows] == [
        (slot, "worker-1", "2", "Running") for slot in "123"
    ]
    assert all(len(line) <= 100 for line in last)


def test_how_the_following_ends(going: Ctl) -> None:
    with going.terminal("rollout", "status", "web") as child:
        child.expect("SLOT")
        child.sendintr()
        child.expect(pexpect.EOF)
        assert "\x1b[?25h" in (child.before or ""), "the cursor is shown again"
        child.close()
    assert child.exitstatus == 130
    late = going("rollout", "status", "web", "--timeout", "0s", code=124)
    assert "not in effect within 0 s: service/web: " in late.err
    going("rollout", "status", "web")
    going("apply", "-f", "-", stdin=slowly(BAD, V="3"))
    paused = going.program("rollout", "status", "web", "-o", "json", code=1)
    assert "error: service/web: the update is paused" in paused.err
    assert "ctl rollout undo web goes back" in paused.err
    seen = [json.loads(line) for line in paused.lines]
    assert seen[-1]["halted"].startswith("the update is paused")
    assert any("exit code 1" in task["message"] for each in seen for task in each["tasks"])
    assert "does not exist" in going("rollout", "status", "none", code=3).err
