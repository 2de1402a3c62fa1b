"""Which tasks of a service are shown while it is updated, and in what words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from api.ctl.live import picture
from api.ctl.output import Output
from api.ctl.progress import View, fitting

NOW = datetime.now(UTC)


def task(
    name: str, slot: int, state: str, *, desired: str = "Running", node: str = "n1", **status: Any
) -> dict[str, Any]:
    ready = {"ready": True} if state == "Running" else {}
    return {
        "metadata": {"name": name, "creationTimestamp": NOW.isoformat()},
        "spec": {"slot": slot, "revision": "web-b", "node": node, "desiredState": desired},
        "status": {"state": state, **ready, **status},
    }


def view(*tasks: dict[str, Any], replicas: int = 1) -> View:
    service = {
        "metadata": {"name": "web", "namespace": "default", "generation": 2},
        "spec": {"replicas": replicas, "template": {"image": "web:2"}},
        "status": {
            "observedGeneration": 2,
            "revision": "web-b",
            "update": {"state": "updating", "revision": "web-b", "previous": "web-a"},
        },
    }
    found = View(service, {each["metadata"]["name"]: each for each in tasks})
    template = {"image": "web:2"}
    kept = [{"metadata": {"name": "web-b"}, "spec": {"number": 2, "template": template}}]
    assert found.unknown
    found.take_revisions(kept)
    assert not found.unknown
    return found


def words(*tasks: dict[str, Any]) -> list[str]:
    return [f"{row.task} {row.words}" for row in view(*tasks).rows()]


def test_a_slot_shows_who_comes_who_leaves_and_why_the_last_one_failed() -> None:
    leaving = task("old", 1, "Running", desired="Shutdown", message="stopping")
    starting = task("new", 1, "Starting", message="waiting for its readiness check")
    failed = task("bad", 1, "Failed", desired="Shutdown", error="exit code 1")
    over = task("gone", 1, "Shutdown", desired="Shutdown", message="stopped")
    assert words(leaving, starting) == [
        "old Running, leaving: stopping",
        "new Starting: waiting for its readiness check",
    ]
    assert words(failed, starting)[0] == "bad Failed: exit code 1"
    assert words(over, starting) == ["new Starting: waiting for its readiness check"]
    assert words(failed, task("new", 1, "Running", message="")) == ["new Running"]
    assert words(over) == ["gone Shutdown: stopped"]


def test_a_global_service_s_slots_are_its_nodes() -> None:
    rows = view(task("a", 0, "Running", node="n2"), task("b", 0, "Running", node="n1")).rows()
    assert [(row.node, row.cells(NOW)[0]) for row in rows] == [("n1", "-"), ("n2", "-")]


def test_where_there_is_little_room_those_are_shown_about_which_there_is_something_to_see() -> None:
    tasks = [task(f"t{slot:02}", slot, "Running") for slot in range(1, 51)]
    tasks[40]["status"] = {"state": "Rejected", "error": "no such image: web:2\nat all"}
    rows, left = fitting(view(*tasks).rows(), 10)
    assert (len(rows), left) == (9, 41)
    assert "t41" in [row.task for row in rows]
    lines = picture(Output(), [view(*tasks, replicas=50)], 80, 24)
    assert len(lines) < 24
    assert all(len(line) <= 80 for line in lines)
    assert any("Rejected" in line and "no such image" in line for line in lines)
    assert lines[-1].startswith("and ")


def test_a_revision_that_is_gone_is_not_looked_for_again() -> None:
    found = view(task("t", 1, "Running"))
    found.tasks["u"] = {"metadata": {"name": "u"}, "spec": {"revision": "web-gone"}}
    assert found.unknown
    found.take_revisions([])
    assert not found.unknown


def test_what_is_said_of_earlier_versions_of_its_secrets_is_not_believed() -> None:
    found = view()
    found.service["spec"]["template"]["secrets"] = [
        {"name": "db"}, {"name": "seen"}, {"name": "followed", "onChange": "none"},
    ]  # fmt: skip
    found.service["status"] |= {
        "running": 1, "updated": 1, "observedSecrets": {"db": 1, "seen": 3},
        "conditions": [{"type": "Available", "status": "True"}],
        "update": {"state": "completed", "revision": "web-b"},
    }  # fmt: skip
    assert found.met
    found.newest = {"db": 2, "seen": 3, "followed": 9, "other": 5}
    assert not found.met
    assert found.progress == "its controller has not seen version 2 of secret db yet"
    paused = {"state": "paused", "revision": "web-b", "message": "no", "since": NOW.isoformat()}
    found.service["status"]["update"] = paused
    assert found.hopeless == "", "of the version before"
    found.service["status"]["observedSecrets"]["db"] = 2
    assert found.hopeless == "the update is paused: no"
