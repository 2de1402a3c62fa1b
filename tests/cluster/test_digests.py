"""A tag moves in the registry: the tasks of a revision run the same bits, on every node."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.ground import docker
from tests.agent.registry import PROGRAM, Registry
from tests.cluster.engine import Engine
from tests.cluster.harness import IMAGE, Cluster, Document, service, until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.engine,
    pytest.mark.etcd,
    pytest.mark.skipif(not os.access(PROGRAM, os.X_OK), reason="hack/install registry"),
]


class Tags:
    """Images that differ in one file, and names in a registry that stand for one or the other."""

    def __init__(self, home: Path) -> None:
        self.registry = Registry(home / "registry")
        self.registry.start()
        self._names: set[str] = set()
        for version in ("1", "2"):
            context = home / version
            context.mkdir()
            (context / "version").write_text(version)
            (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY version /\n")
            docker("build", "-q", "-t", self._built(version), str(context))

    def _built(self, version: str) -> str:
        return f"{self.registry.address}/skep/built:{version}"

    def name(self, repository: str) -> str:
        return f"{self.registry.address}/skep/{repository}:1"

    def point(self, repository: str, version: str) -> str:
        """The name stands for that version from now on; its digest."""
        name = self.name(repository)
        self.registry.tag(name, self._built(version))
        known = docker("inspect", "-f", '{{join .RepoDigests "\\n"}}', name).split()
        (digest,) = (each for each in known if each.startswith(name.rpartition(":")[0]))
        self._names |= {name, digest}
        return digest.partition("@")[2]

    def close(self) -> None:
        for name in (*self._names, self._built("1"), self._built("2")):
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)
        self.registry.stop()


class Worker(Cluster):
    """Another node of a cluster: an agent on an engine of its own."""

    leader: Cluster

    def environment(self) -> dict[str, str]:
        return self.leader.environment()


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Tags]:
    it = Tags(tmp_path_factory.mktemp("tags"))
    try:
        yield it
    finally:
        it.close()


@pytest.fixture(scope="module")
def engine(tags: Tags) -> Iterator[Engine]:
    """Which reaches the registry, and has no image."""
    it = Engine(Path(tempfile.mkdtemp(prefix="skep-engine-")))
    try:
        it.start()
        tags.registry.also_in(it.pid)
        yield it
    finally:
        it.stop()
        it.clear()
        shutil.rmtree(it.home)


@pytest.fixture
def other(
    cluster: Cluster, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    it = Worker(tmp_path_factory.mktemp("other"), socket=engine.socket, port=cluster.port)
    it.leader = cluster
    try:
        it.start_agent()
        yield it
    finally:
        cluster.ctl("node", "drain", it.node)
        it.stop()


def versions(cluster: Cluster, *nodes: Cluster) -> list[str]:
    """What the running tasks of `moves` have in their images."""
    found = []
    for node in nodes or (cluster,):
        for task in cluster.tasks("moves", "Running"):
            if task["spec"]["node"] == node.node:
                id = task["status"]["container"]["id"]
                found.append(node.docker("exec", id, "cat", "/version"))
    return found


def moves(image: str, **spec: object) -> Document:
    wanted = service("moves", image=image, imagePull="always")
    policy = {"parallelism": 0, "monitor": "0s"}
    wanted["spec"] |= {"update": policy, "rollback": policy, **spec}
    if "mode" in spec:
        del wanted["spec"]["replicas"]
    return wanted


def test_tasks_run_what_the_tag_was_when_the_first_of_their_revision_started(
    cluster: Cluster, tags: Tags
) -> None:
    first = tags.point("moves", "1")
    cluster.apply(moves(tags.name("moves"), replicas=3))
    (task, *_) = cluster.until_running("moves", 3)
    second = tags.point("moves", "2")  # on the node, too
    assert second != first
    cluster.ctl("scale", "service", "moves", "--replicas", "6")
    cluster.until_running("moves", 6)
    assert versions(cluster) == ["1"] * 6

    assert task["status"]["container"]["digest"] == first
    assert f"Digest:        {first}" in cluster.ctl("describe", "service", "moves").stdout
    name = task["metadata"]["name"]
    assert f"Digest:        {first}" in cluster.ctl("describe", "task", name).stdout
    cluster.ctl("restart", "moves", "--wait")
    assert versions(cluster) == ["2"] * 6
    history = cluster.ctl("rollout", "history", "moves").stdout
    assert first.partition(":")[2][:12] in history
    assert second.partition(":")[2][:12] in history
    # Going back is going back to the bits, not to what the tag is now.
    cluster.ctl("rollout", "undo", "moves", "--wait")
    assert versions(cluster) == ["1"] * 6
    cluster.ctl("delete", "service", "moves")


def test_a_node_that_comes_later_runs_the_same(
    cluster: Cluster, tags: Tags, request: pytest.FixtureRequest
) -> None:
    tags.point("moves", "1")
    cluster.apply(moves(tags.name("moves"), mode="global"))
    cluster.until_running("moves", 1)
    tags.point("moves", "2")
    other: Worker = request.getfixturevalue("other")
    cluster.until_running("moves", 2)
    assert versions(cluster, cluster, other) == ["1", "1"]
    cluster.ctl("restart", "moves", "--wait")
    cluster.until_running("moves", 2)
    assert versions(cluster, cluster, other) == ["2", "2"]
    cluster.ctl("delete", "service", "moves")
    until(lambda: not cluster.tasks("moves"), "its tasks are gone")


def test_bits_that_the_registry_has_lost_are_said_to_be(
    cluster: Cluster, tags: Tags, other: Worker
) -> None:
    digest = tags.point("lost", "1")

    def there(node: Cluster) -> Document:
        id = (cluster.find("node", node.node) or {})["metadata"]["uid"]
        wanted = service("lost", image=tags.name("lost"))
        wanted["spec"] |= {
            "placement": {"constraints": [f"node.id == {id}"]},
            "restart": {"condition": "none"},
        }
        return wanted

    cluster.apply(there(cluster))
    cluster.until_running("lost", 1)
    tags.point("lost", "2")
    tags.registry.lose("skep/lost", digest)
    cluster.apply(there(other))

    def error() -> str:
        on = [each for each in cluster.tasks("lost") if each["spec"].get("node") == other.node]
        return str(on[0]["status"].get("error", "")) if on else ""

    said = until(error, "its task there can't start")
    assert f"registry {tags.registry.address} has no {tags.name('lost')} of digest {digest}" in said
    assert f"which takes what {tags.name('lost')} stands for now" in said
    cluster.ctl("restart", "lost")
    cluster.until_running("lost", 1)
    (task,) = cluster.tasks("lost", "Running")
    assert other.docker("exec", task["status"]["container"]["id"], "cat", "/version") == "2"
    cluster.ctl("delete", "service", "lost")
    until(lambda: not cluster.tasks("lost"), "its tasks are gone")
