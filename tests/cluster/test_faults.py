"""Parts are killed at bad moments. What runs goes on; what was wanted comes true."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.cluster.harness import BIN, Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

CONTAINERS = 20
_PROBLEMS = re.compile(r"Traceback \(most recent call last\)|Task exception was never retrieved")


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    """Every fault leaves parts that work, logs without tracebacks, and nothing for the next."""
    yield
    cluster.ctl("delete", "services,configs", "--all")
    until(lambda: not cluster.containers(every=True), "all containers are gone")
    for part in ("manager", "agent"):
        found = _PROBLEMS.search(cluster.log(part))
        assert not found, f"{part}'s log: {cluster.log(part)[found.start() :][:3000]}"


def config(name: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name},
        "data": {"settings.ini": f"name = {name}\n" * 20},
    }


def test_a_killed_agent_adopts_its_containers_when_it_is_back(cluster: Cluster) -> None:
    cluster.apply(service("many", replicas=CONTAINERS))
    tasks = cluster.until_running("many", CONTAINERS)
    before = cluster.pids()
    assert len(before) == CONTAINERS

    cluster.kill("agent")
    cluster.start_agent()

    cluster.ctl("scale", "service", "many", "--replicas", str(CONTAINERS + 1))
    after = cluster.until_running("many", CONTAINERS + 1)
    assert before.items() <= cluster.pids().items(), "a container was restarted"
    names = {task["metadata"]["name"] for task in after}
    assert {task["metadata"]["name"] for task in tasks} < names, "a task was replaced"


def test_what_dies_while_the_agent_is_away_is_replaced_when_it_is_back(cluster: Cluster) -> None:
    cluster.apply(service("pair", replicas=2))
    dead, kept = cluster.until_running("pair", 2)
    cluster.kill("agent")
    cluster.docker("kill", dead["status"]["container"]["id"])
    cluster.start_agent()

    def replaced() -> bool:
        names = {task["metadata"]["name"] for task in cluster.tasks("pair", "Running")}
        return len(names) == 2 and dead["metadata"]["name"] not in names

    until(replaced, "the dead one has a successor")
    assert kept["status"]["container"]["id"] in cluster.containers()


def test_a_service_deleted_while_the_agent_is_away_is_stopped_when_it_is_back(
    cluster: Cluster,
) -> None:
    cluster.apply(service("gone", replicas=2))
    cluster.until_running("gone", 2)
    cluster.kill("agent")
    cluster.ctl("delete", "service", "gone")
    assert len(cluster.containers()) == 2, "nobody could have stopped them"
    cluster.start_agent()
    until(lambda: not cluster.containers(every=True), "its containers are gone")


def test_containers_that_others_made_are_left_alone(cluster: Cluster) -> None:
    name = f"{cluster.node}-stranger"
    cluster.docker("run", "-d", "--name", name, "skep/busybox:test", "sleep", "100000")
    try:
        cluster.apply(service("neighbour"))
        cluster.until_running("neighbour", 1)
        cluster.kill("agent")
        cluster.start_agent()
        cluster.ctl("delete", "service", "neighbour")
        until(lambda: not cluster.containers(every=True), "ours are gone")
        assert cluster.docker("inspect", "-f", "{{.State.Running}}", name).strip() == "true"
    finally:
        cluster.docker("rm", "-f", name)


def test_a_killed_manager_leaves_containers_alone_and_catches_up(cluster: Cluster) -> None:
    cluster.apply(service("stays", replicas=3))
    lost, *_ = cluster.until_running("stays", 3)
    before = cluster.pids()
    cluster.kill("manager")
    assert cluster.pids() == before
    container = lost["status"]["container"]["id"]
    cluster.docker("kill", container)
    cluster.start_manager()

    def replaced() -> bool:
        names = {task["metadata"]["name"] for task in cluster.tasks("stays", "Running")}
        return len(names) == 3 and lost["metadata"]["name"] not in names

    until(replaced, "the one that died meanwhile has a successor")
    del before[container]
    assert before.items() <= cluster.pids().items(), "a container was restarted"


def test_an_apply_cut_off_by_the_manager_s_death_is_completed_by_another(cluster: Cluster) -> None:
    documents = [config(f"setting-{number}") for number in range(2_000)]
    text = "\n---\n".join(json.dumps(document) for document in documents)
    applying = subprocess.Popen(
        [str(BIN / "ctl"), "apply", "-f", "-"],
        env=cluster.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert applying.stdin is not None
    applying.stdin.write(text)
    applying.stdin.close()
    applying.stdin = None

    def half() -> bool:
        return applying.poll() is not None or bool(cluster.find("config", "setting-0"))

    until(half, "the first documents are written")
    cluster.kill("manager")
    _, words = applying.communicate(timeout=60)
    assert "Traceback" not in words
    cluster.start_manager()

    done = cluster.ctl("apply", "-f", "-", stdin=text)
    assert "Traceback" not in done.stderr
    assert len(cluster.items("configs")) == len(documents)
    again = cluster.ctl("apply", "-f", "-", stdin=text)
    assert "created" not in again.stdout
    assert "configured" not in again.stdout


def test_nothing_is_lost_when_etcd_is_killed(cluster: Cluster) -> None:
    cluster.apply(service("kept", replicas=3), config("kept"))
    cluster.until_running("kept", 3)
    before = cluster.pids()
    first = cluster.etcd()
    os.kill(first, signal.SIGKILL)

    def back() -> bool:
        done = cluster.apply(config("written-after"), check=False)
        assert "Traceback" not in done.stderr
        return done.returncode == 0

    until(back, "writes succeed again")
    assert cluster.etcd() != first
    assert cluster.find("config", "kept") is not None
    cluster.ctl("scale", "service", "kept", "--replicas", "4")
    cluster.until_running("kept", 4)
    assert before.items() <= cluster.pids().items(), "a container was restarted"


def test_a_paused_etcd_makes_writes_fail_in_words_and_stops_no_container(cluster: Cluster) -> None:
    cluster.apply(service("steady", replicas=2))
    cluster.until_running("steady", 2)
    before = cluster.pids()
    paused = cluster.etcd()
    os.kill(paused, signal.SIGSTOP)
    try:
        start = time.monotonic()
        done = cluster.apply(config("refused"), check=False)
        assert done.returncode != 0
        assert "store" in done.stderr or "etcd" in done.stderr
        assert time.monotonic() - start < 60
        assert cluster.pids() == before
    finally:
        os.kill(paused, signal.SIGCONT)
    until(lambda: cluster.apply(config("accepted"), check=False).returncode == 0, "writes succeed")
    assert cluster.pids() == before


def test_ended_and_started_in_order_nothing_changes(cluster: Cluster) -> None:
    """An upgrade of the programs is this."""
    cluster.apply(service("calm", replicas=3))
    cluster.until_running("calm", 3)
    before = cluster.pids()
    cluster.kill("agent", signal.SIGTERM)
    cluster.kill("manager", signal.SIGTERM)
    assert cluster.pids() == before
    cluster.start()
    cluster.until_running("calm", 3)
    assert cluster.pids() == before
