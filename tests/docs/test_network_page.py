"""What docs/network.md tells a reader to type works, and what it says of containers is so, on an
engine of the test's own that does not know the runtime.

The tests are in the page's order, and each goes on where the one before it ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.cluster.engine import Engine, cluster_on, of_its_own
from tests.cluster.harness import Cluster, Document, service, until
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.typed import typed

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

PAGE = ROOT / "docs" / "network.md"
INSTALL, DESCRIBE, LINKS, REMOVE, ACTIVATE = blocks(PAGE)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with of_its_own(runtime=False) as it:
        yield it


@pytest.fixture(scope="module")
def cluster(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_on(engine, tmp_path_factory.mktemp("cluster")) as it:
        yield it


@pytest.fixture(scope="module")
def type_(cluster: Cluster, engine: Engine) -> Type:
    return Type(cluster, engine)


class Type:
    """The page's reader, on the node: in the network namespace where the engine's bridge is."""

    def __init__(self, cluster: Cluster, engine: Engine) -> None:
        self._cluster = cluster
        self._within = ["nsenter", f"--net=/proc/{engine.pid}/ns/net"]
        self._environment = {
            "DOCKER_HOST": f"unix://{engine.socket}",
            "SKEP_RUNTIME_DIR": str(engine.home / "libexec"),
        }

    def __call__(self, block: Block, *, beside_bridge: bool = False) -> str:
        text = block.text.replace("worker-1", self._cluster.node)
        return typed(
            replace(block, text=text),
            self._cluster,
            ROOT,
            environment=self._environment,
            within=self._within if beside_bridge else (),
        )


def container_of(cluster: Cluster, name: str) -> Document:
    (task,) = cluster.until_running(name, 1)
    inspected: list[Document] = json.loads(
        cluster.docker("inspect", task["status"]["container"]["id"])
    )
    return inspected[0]


def test_an_agent_that_runs_hears_of_the_runtime(type_: Type, cluster: Cluster) -> None:
    cluster.apply(service("before"))
    before = container_of(cluster, "before")
    assert '"skep":' in type_(INSTALL)
    until(lambda: "skep's, on docker0" in type_(DESCRIBE), "the agent has heard of it")
    assert container_of(cluster, "before")["State"] == before["State"], "it runs on"


def test_a_container_s_link_has_its_id(type_: Type, cluster: Cluster) -> None:
    cluster.apply(service("web"))
    container = container_of(cluster, "web")
    assert container["HostConfig"]["Runtime"] == "skep"
    assert f"alias {container['Id']}" in type_(LINKS, beside_bridge=True)


def test_the_engine_s_own_commands_differ_as_the_page_says(type_: Type, cluster: Cluster) -> None:
    container = container_of(cluster, "web")
    assert container["NetworkSettings"]["Networks"] == {}
    assert container["Id"] not in cluster.docker("network", "inspect", "bridge")
    inside = cluster.docker("exec", container["Id"], "hostname", "-i").strip()
    assert inside.count(".") == 3
    assert inside != "127.0.0.1"
    stats = cluster.docker("stats", "--no-stream", "--format", "{{.NetIO}}", container["Id"])
    assert stats.strip() == "0B / 0B"
    (listed,) = cluster.docker("top", container["Id"], "-o", "pid,comm").splitlines()[1:2]
    assert listed
    with pytest.raises(AssertionError, match="ctl restart SERVICE makes a service's containers"):
        cluster.docker("restart", "-t0", container["Id"])
    assert container_of(cluster, "web")["Id"] != container["Id"], "it was replaced"


def test_a_drained_node_s_engine_loses_it_again(type_: Type, cluster: Cluster) -> None:
    job = service("job")
    job["spec"] = {
        "mode": "replicated-job",
        "template": job["spec"]["template"] | {"command": ["echo", "done"]},
    }
    cluster.apply(job)
    cluster.ctl("wait", "service", "job", "--for=condition=Complete", "--timeout=60s")
    # Else draining waits a minute for other nodes.
    cluster.ctl("delete", "service", "before", "web")
    assert "no longer" in type_(REMOVE)
    (ended,) = cluster.docker(
        "ps", "-aq", "--filter", "status=exited", "--filter", "name=default.job-"
    ).split()
    assert cluster.docker("logs", ended) == "done\n"
    cluster.docker("rm", ended)
    type_(ACTIVATE)
    cluster.apply(service("after"))
    assert container_of(cluster, "after")["HostConfig"]["Runtime"] == "runc"
    until(lambda: "does not know the runtime skep" in type_(DESCRIBE), "the page shows why")
