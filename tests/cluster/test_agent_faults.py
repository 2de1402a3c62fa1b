"""What goes wrong on a node: other hands on its containers, taken ports, images, silent agents."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.registry import PASSWORD, PROGRAM, Registry
from tests.cluster.harness import BIN, Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

CONTAINERS = 20
_PROBLEMS = re.compile(r"Traceback \(most recent call last\)|Task exception was never retrieved")


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every fault leaves parts that work, logs without tracebacks, and nothing for the next."""
    yield
    if "cluster" in request.fixturenames:
        cluster: Cluster = request.getfixturevalue("cluster")
        cluster.ctl("delete", "services,secrets", "--all")
        until(lambda: not cluster.containers(every=True), "all containers are gone")
        for part in ("manager", "agent"):
            found = _PROBLEMS.search(cluster.log(part))
            assert not found, f"{part}'s log: {cluster.log(part)[found.start() :][:3000]}"


def ended(cluster: Cluster, service: str) -> Document:
    """The service's first task that has failed, or never came to run."""

    def found() -> list[Document]:
        tasks = [task for task in cluster.items("tasks") if task["spec"]["service"] == service]
        return [task for task in tasks if task["status"]["state"] in ("Failed", "Rejected")]

    return until(found, f"a task of {service} has failed")[0]


def once(name: str, **template: Any) -> Document:
    """A service whose tasks are not replaced."""
    document = service(name, **template)
    document["spec"]["restart"] = {"condition": "none"}
    return document


def container(task: Document) -> str:
    return str(task["status"]["container"]["id"])


def successor(cluster: Cluster, task: Document) -> Document:
    """The task that runs in another's place."""
    name = task["spec"]["service"]

    def found() -> list[Document]:
        tasks = cluster.tasks(name, "Running")
        return [each for each in tasks if each["metadata"]["uid"] != task["metadata"]["uid"]]

    return until(found, f"{task['metadata']['name']} has a successor")[0]


def about(cluster: Cluster, task: Document) -> Document:
    found = cluster.find("task", task["metadata"]["name"])
    assert found is not None, "it is kept in the history"
    status: Document = found["status"]
    return status


# Other hands on our containers.


def test_a_container_removed_by_hand_is_replaced_and_said(cluster: Cluster) -> None:
    cluster.apply(service("removed"))
    (task,) = cluster.until_running("removed", 1)
    cluster.docker("rm", "-f", container(task))
    successor(cluster, task)
    status = about(cluster, task)
    assert status["state"] == "Failed"
    # Removing it kills it first, and the agent may look in between.
    assert status["error"] in (
        "its container is gone: somebody or something else removed it",
        "killed by SIGKILL (exit code 137)",
    )


def test_a_container_stopped_by_hand_is_replaced(cluster: Cluster) -> None:
    # A port to publish: the engine starts no container whose network the agent makes.
    cluster.apply(service("halted", ports=[{"target": 80}]))
    (task,) = cluster.until_running("halted", 1)
    cluster.docker("stop", container(task))
    other = successor(cluster, task)
    assert about(cluster, task)["state"] == "Complete", "it ended well, by itself"
    assert container(other) != container(task)
    # Started again by hand it would run beside its successor.
    cluster.docker("start", container(task))
    until(lambda: cluster.containers() == {container(other)}, "only the successor runs")


def test_a_container_killed_by_hand_says_the_signal(cluster: Cluster) -> None:
    cluster.apply(service("shot"))
    (task,) = cluster.until_running("shot", 1)
    cluster.docker("kill", container(task))
    successor(cluster, task)
    assert about(cluster, task)["error"] == "killed by SIGKILL (exit code 137)"


# Agents that end.


def test_a_killed_agent_s_node_is_said_to_be_silent_and_none_of_its_containers_ends(
    cluster: Cluster,
) -> None:
    cluster.apply(service("many", replicas=CONTAINERS))
    tasks = cluster.until_running("many", CONTAINERS)
    before = cluster.pids()
    assert len(before) == CONTAINERS
    cluster.kill("agent")

    def ready() -> Document:
        node = cluster.find("node", cluster.node)
        assert node is not None
        conditions = node["status"]["conditions"]
        return next((each for each in conditions if each["type"] == "Ready"), {})

    until(lambda: ready()["status"] == "Unknown", "the node is not heard of")
    assert ready()["reason"] == "HeartbeatMissed"
    assert ready()["message"]
    assert cluster.pids() == before

    cluster.start_agent()
    assert (ready()["status"], ready()["reason"]) == ("True", "EngineReady")
    after = cluster.until_running("many", CONTAINERS)
    assert cluster.pids() == before, "a container was restarted"
    names = {task["metadata"]["name"] for task in tasks}
    assert {task["metadata"]["name"] for task in after} == names, "a task was replaced"
    ids = {task["metadata"]["name"]: container(task) for task in tasks}
    assert {task["metadata"]["name"]: container(task) for task in after} == ids


def test_an_agent_killed_again_and_again_while_containers_start(cluster: Cluster) -> None:
    """Each leaves other things half done; no container is made twice, none is forgotten."""
    cluster.apply(service("busy", replicas=CONTAINERS))
    for seconds in (0.3, 0.9, 1.7):
        until(lambda: len(cluster.containers(every=True)) > 0, "some are made")
        signal.sigtimedwait([], seconds)  # the moments differ; nothing can be waited for
        cluster.kill("agent")
        cluster.start_agent(wait=False)
    tasks = cluster.until_running("busy", CONTAINERS)
    assert cluster.containers(every=True) == {container(task) for task in tasks}
    assert len(cluster.items("tasks")) == CONTAINERS, "none had to be replaced"


def test_secrets_of_what_was_deleted_while_the_agent_was_away_are_gone(cluster: Cluster) -> None:
    secret = {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": "short-lived"},
        "stringData": {"value": "s3cret"},
    }
    cluster.apply(secret, service("holder", secrets=[{"name": "short-lived"}]))
    cluster.until_running("holder", 1)
    place = cluster.home / "run" / cluster.node / "secrets"
    assert list(place.iterdir())
    cluster.kill("agent")
    cluster.ctl("delete", "service", "holder")
    cluster.ctl("delete", "secret", "short-lived")
    cluster.start_agent()
    until(lambda: not cluster.containers(every=True), "its container is gone")
    until(lambda: not list(place.iterdir()), "its secret is gone")


def test_a_daemon_that_crashes_writes_no_memory_to_disk(cluster: Cluster) -> None:
    """There are secrets in it. (No shell's limit may undo this, so it is read from the kernel.)"""
    for pid in (cluster.running["agent"].pid, cluster.running["manager"].pid, cluster.etcd()):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)


# What a node can't do, in words.


def test_a_port_that_another_program_has_is_named(cluster: Cluster) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        cluster.apply(once("late", ports=[{"target": 80, "published": port}]))
        error = ended(cluster, "late")["status"]["error"]
    assert f"port {port}/tcp of the node is taken by another program" in error
    assert "choose another published port" in error


def test_a_port_that_a_stranger_s_container_has_is_named(cluster: Cluster) -> None:
    with socket.create_server(("0.0.0.0", 0)) as probe:
        port = probe.getsockname()[1]
    name = f"{cluster.node}-stranger"
    image = "skep/busybox:test"
    cluster.docker("run", "-d", "--name", name, "-p", f"{port}:80", image, "sleep", "100000")
    try:
        cluster.apply(once("later", ports=[{"target": 80, "published": port}]))
        error = ended(cluster, "later")["status"]["error"]
        assert f"port {port}/tcp of the node is taken by another container" in error
        assert cluster.docker("inspect", "-f", "{{.State.Running}}", name).strip() == "true"
    finally:
        cluster.docker("rm", "-f", name)


@pytest.mark.parametrize("command", ["no-such-command", "/no/such/command"])
def test_a_command_that_is_not_in_the_image_is_named(cluster: Cluster, command: str) -> None:
    cluster.apply(once("typo", command=[command, "--fast"]))
    status = ended(cluster, "typo")["status"]
    assert status["state"] == "Rejected"
    assert f"image skep/busybox:test has no command {command}" in status["error"]
    assert "OCI" not in status["error"]


def test_a_command_that_may_not_be_run_is_named(cluster: Cluster) -> None:
    cluster.apply(once("data", command=["/etc/hosts"]))
    error = ended(cluster, "data")["status"]["error"]
    assert "/etc/hosts in image skep/busybox:test is not a program that may be run" in error


@pytest.mark.skipif(not os.access(PROGRAM, os.X_OK), reason="hack/install registry")
def test_a_registry_with_a_password(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / "docker"
    login.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(login))
    cluster.kill("agent")
    cluster.start_agent()
    registry = Registry(tmp_path / "registry", password=True)
    try:
        registry.start()
        registry.push()
        cluster.apply(once("stranger", image=registry.image))
        error = ended(cluster, "stranger")["status"]["error"]
        assert f"registry {registry.address} does not let node {cluster.node} pull" in error
        assert f"docker login {registry.address}" in error

        (login / "config.json").write_text(json.dumps(registry.config(PASSWORD)))
        cluster.apply(service("known", image=registry.image))
        cluster.until_running("known", 1)

        cluster.apply(once("missing", image=f"{registry.address}/skep/layers:9"))
        error = ended(cluster, "missing")["status"]["error"]
        assert f"registry {registry.address} has no {registry.address}/skep/layers:9" in error
        assert "check its name and tag" in error
    finally:
        cluster.ctl("delete", "services", "--all")
        until(lambda: not cluster.containers(every=True), "all containers are gone")
        registry.stop()


# Agents that can't start.


def agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "skepd"), "agent", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with no room left."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=True)
    try:
        (place / "data").mkdir()
        (place / "run").mkdir()
        with pytest.raises(OSError, match="No space left"):
            (place / "filler").write_bytes(bytes(1 << 20))
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("full", ["data", "run"])
def test_a_full_disk_is_said_with_what_to_do(small: Path, tmp_path: Path, full: str) -> None:
    directories = {"data": tmp_path / "data", "run": tmp_path / "run", full: small / full}
    done = agent("--data-dir", str(directories["data"]), "--run-dir", str(directories["run"]))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    words = f"the {full} directory {small / full} can't be used: No space left on device"
    assert words in done.stderr
    assert f"give another with --{full}-dir" in done.stderr


@pytest.mark.parametrize("closed", ["data", "run"])
def test_a_read_only_directory_is_said_with_what_to_do(tmp_path: Path, closed: str) -> None:
    place = tmp_path / "closed"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], check=True)
    try:
        directories = {"data": tmp_path / "data", "run": tmp_path / "run", closed: place / "it"}
        done = agent("--data-dir", str(directories["data"]), "--run-dir", str(directories["run"]))
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert f"the {closed} directory {place / 'it'} can't be used: Read-only" in done.stderr
    assert f"--{closed}-dir" in done.stderr
