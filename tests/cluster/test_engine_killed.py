"""The container engine is killed, with no time to end its containers or write down; or it hangs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.engine import Engine, cluster, engine, ready_condition
from tests.cluster.harness import Cluster, service, until

__all__ = ["cluster", "engine"]  # fixtures

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

REPLICAS = 5


def alive(pids: dict[str, int]) -> set[str]:
    return {id for id, pid in pids.items() if Path(f"/proc/{pid}").exists()}


@pytest.fixture(autouse=True)
def clean(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.ctl("delete", "services", "--all")
    until(lambda: not cluster.containers(every=True), "all containers are gone")


@pytest.mark.parametrize("agent_too", [False, True])
def test_a_killed_engine(cluster: Cluster, engine: Engine, agent_too: bool) -> None:
    name = f"web-{agent_too}".lower()
    cluster.apply(service(name, replicas=REPLICAS))
    first = cluster.until_running(name, REPLICAS)
    before = cluster.pids()
    assert len(before) == REPLICAS

    engine.stop(signal.SIGKILL)
    until(lambda: ready_condition(cluster).get("reason") == "EngineDown", "the node says why")
    assert engine.socket in ready_condition(cluster)["message"]
    if agent_too:
        cluster.kill("agent")
        cluster.start_agent(wait=False)

    engine.start()
    until(cluster.ready, "the node is ready")
    # An engine without live-restore ends what it finds running when it starts.
    until(lambda: not alive(before) or cluster.containers() >= alive(before), "they are known")

    def settled() -> bool:
        tasks = cluster.tasks(name, "Running")
        ids = {task["status"]["container"]["id"] for task in tasks}
        return len(tasks) == REPLICAS and ids == cluster.containers() == set(cluster.pids())

    until(settled, "as many run as are wanted, and no others")
    assert not alive(before) - cluster.containers(), "processes nobody knows of"
    kept = {task["metadata"]["uid"] for task in cluster.tasks(name, "Running")}
    for task in first:
        if task["metadata"]["uid"] not in kept:
            found = cluster.find("task", task["metadata"]["name"])
            assert found is not None, "it is kept in the history"
            words = found["status"].get("error") or found["status"].get("message")
            assert words, "it says how it ended"
    assert "Traceback" not in cluster.log("agent")


def test_an_engine_that_hangs(cluster: Cluster, engine: Engine) -> None:
    """It takes connections and answers none; its containers go on."""
    cluster.apply(service("steady", replicas=2))
    cluster.until_running("steady", 2)
    before = cluster.pids()
    engine.pause()
    try:
        until(lambda: ready_condition(cluster).get("reason") == "EngineDown", "the node says why")
        assert "too long to answer" in ready_condition(cluster)["message"]
        assert alive(before) == set(before)
    finally:
        engine.resume()
    until(cluster.ready, "the node is ready")
    cluster.until_running("steady", 2)
    assert cluster.pids() == before, "a container was restarted"
