"""The main path: what is applied runs, and what is deleted is gone."""

from __future__ import annotations

import pytest

from tests.cluster.harness import Cluster, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


def test_an_applied_service_runs_and_a_deleted_one_is_gone(cluster: Cluster) -> None:
    cluster.apply(service("web", replicas=2))
    tasks = cluster.until_running("web", 2)
    ids = {task["status"]["container"]["id"] for task in tasks}
    assert ids == cluster.containers()

    cluster.ctl("delete", "service", "web")
    until(lambda: not cluster.containers(every=True), "its containers are gone")
    until(lambda: cluster.find("service", "web") is None, "the service is gone")
    assert not cluster.tasks("web")


def test_scaling_starts_and_stops_only_what_changes(cluster: Cluster) -> None:
    cluster.apply(service("scaled", replicas=1))
    cluster.until_running("scaled", 1)
    first = cluster.pids()
    cluster.ctl("scale", "service", "scaled", "--replicas", "4")
    cluster.until_running("scaled", 4)
    assert first.items() <= cluster.pids().items()
    cluster.ctl("scale", "service", "scaled", "--replicas", "1")
    cluster.until_running("scaled", 1)
    until(lambda: len(cluster.containers()) == 1, "three containers have ended")
    cluster.ctl("delete", "service", "scaled")
    until(lambda: not cluster.containers(every=True), "its containers are gone")


def test_a_killed_container_is_replaced(cluster: Cluster) -> None:
    cluster.apply(service("lives", replicas=1))
    (task,) = cluster.until_running("lives", 1)
    cluster.docker("kill", task["status"]["container"]["id"])

    def another() -> bool:
        tasks = cluster.tasks("lives", "Running")
        return bool(tasks) and tasks[0]["metadata"]["uid"] != task["metadata"]["uid"]

    until(another, "another task runs in its place")
    old = cluster.find("task", task["metadata"]["name"])
    assert old is not None
    assert old["status"]["state"] == "Failed"
    assert "137" in old["status"]["error"]
    cluster.ctl("delete", "service", "lives")
    until(lambda: not cluster.containers(every=True), "its containers are gone")
