"""Updates of real containers: what fails goes back, what serves stays up, what is held waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.harness import Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd, pytest.mark.deadline(240)]


def wish(name: str, script: str = "", *, version: str, replicas: int = 3, **spec: Any) -> Document:
    found = service(name, *([script] if script else []), replicas=replicas, env={"V": version})
    found["spec"] |= spec
    return found


def image(found: Document, name: str) -> Document:
    found["spec"]["template"]["image"] = name
    return found


def update(cluster: Cluster, name: str) -> Document:
    found = cluster.find("service", name) or {}
    status: Document = found.get("status", {}).get("update") or {}
    return status


def state(cluster: Cluster, name: str) -> str:
    return str(update(cluster, name).get("state"))


def revisions(cluster: Cluster, name: str) -> set[str]:
    return {task["spec"]["revision"] for task in cluster.tasks(name, "Running")}


@contextmanager
def fewest(cluster: Cluster, name: str) -> Iterator[list[int]]:
    """The numbers of containers of the service that the engine ran, looked at again and again."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(len(cluster.running_of(name)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("how", ["no such image", "it exits"])
def test_what_fails_goes_back_by_itself(cluster: Cluster, how: str) -> None:
    name = how.split()[-1]
    policy = {"failureAction": "rollback", "monitor": "2s"}
    cluster.apply(wish(name, version="1", update=policy, rollback={"monitor": "1s"}))
    cluster.until_running(name, 3)
    good, before = revisions(cluster, name), cluster.running_of(name)
    if how == "it exits":
        bad = wish(name, "sleep 1; exit 3", version="2", update=policy)
        bad["spec"]["template"]["command"] = ["sh", "-c", "sleep 1; exit 3"]
    else:
        bad = image(wish(name, version="2", update=policy), "skep/none:missing")
    bad["spec"]["rollback"] = {"monitor": "1s"}
    cluster.apply(bad)
    until(lambda: state(cluster, name) == "rollback_completed", "it has gone back")
    cluster.until_running(name, 3)
    assert revisions(cluster, name) == good
    # Parallelism is 1: the other two were never touched.
    assert len(before & cluster.running_of(name)) == 2
    message = update(cluster, name)["message"]
    assert "new tasks of 1 of 3 replicas failed" in message
    assert ("skep/none" in message) == (how == "no such image")
    said = cluster.ctl("describe", "service", name).stdout
    assert "RolledBack" in said
    # The same manifest again repeats nothing.
    assert "unchanged" in cluster.apply(bad).stdout
    assert state(cluster, name) == "rollback_completed"


def test_start_first_keeps_all_replicas_up_through_an_update_and_back(cluster: Cluster) -> None:
    policy = {"order": "start-first", "parallelism": "50%", "monitor": "500ms"}
    spec: Document = {"update": policy, "rollback": policy}
    cluster.apply(wish("up", version="1", replicas=4, **spec))
    cluster.until_running("up", 4)
    before = cluster.running_of("up")
    with fewest(cluster, "up") as seen:
        cluster.apply(wish("up", version="2", replicas=4, **spec))
        until(lambda: state(cluster, "up") == "completed", "it is updated")
        cluster.ctl("rollout", "undo", "up", "--wait", "--timeout", "90s")
    assert len(seen) > 5
    assert min(seen) >= 4
    assert state(cluster, "up") == "rollback_completed"
    assert not before & cluster.running_of("up")
    until(lambda: len(cluster.running_of("up")) == 4, "the replaced ones have stopped")


def test_pause_resume_and_undo(cluster: Cluster) -> None:
    spec: Document = {"update": {"monitor": "4s"}, "rollback": {"monitor": "0s", "parallelism": 0}}
    cluster.apply(wish("held", version="1", **spec))
    cluster.until_running("held", 3)
    good = revisions(cluster, "held")
    cluster.apply(wish("held", version="2", **spec))
    until(lambda: len(revisions(cluster, "held")) == 2, "the first one is replaced")
    cluster.ctl("rollout", "pause", "held")
    until(lambda: state(cluster, "held") == "paused", "it is paused")
    cluster.until_running("held", 3)
    there = cluster.running_of("held")
    # A manager that begins anew keeps it as it is, and so does what fails meanwhile.
    cluster.kill("manager")
    cluster.start_manager()
    cluster.until_up()
    victim = sorted(there)[0]
    cluster.docker("kill", victim)
    until(lambda: len(cluster.running_of("held") - {victim}) == 3, "what was killed is back")
    assert state(cluster, "held") == "paused"
    assert len(there & cluster.running_of("held")) == 2

    cluster.ctl("rollout", "resume", "held")
    cluster.ctl("rollout", "status", "held", "--wait", "--timeout", "90s")
    assert state(cluster, "held") == "completed"
    assert not revisions(cluster, "held") & good

    cluster.ctl("rollout", "undo", "held", "--to-revision", "1", "--wait", "--timeout", "90s")
    assert state(cluster, "held") == "rollback_completed"
    assert revisions(cluster, "held") == good
