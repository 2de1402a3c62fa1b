"""The container engine goes away and comes back."""

from __future__ import annotations

import pytest

from tests.cluster.engine import Engine, cluster, engine, ready_condition
from tests.cluster.harness import Cluster, service, until

__all__ = ["cluster", "engine"]  # fixtures

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


def test_the_node_says_that_its_engine_is_down_and_is_back(
    cluster: Cluster, engine: Engine
) -> None:
    cluster.apply(service("before", replicas=3))
    cluster.until_running("before", 3)

    engine.stop()
    until(lambda: ready_condition(cluster).get("status") == "False", "the node is not ready")
    assert ready_condition(cluster)["reason"] == "EngineDown"
    assert ready_condition(cluster)["message"]
    # Wanted meanwhile: it waits, and says for what.
    cluster.apply(service("meanwhile"))

    def waits() -> bool:
        tasks = cluster.tasks("meanwhile", "Pending")
        return bool(tasks) and "no suitable node" in tasks[0]["status"].get("message", "")

    until(waits, "the new task waits for a node")

    engine.start()
    until(cluster.ready, "the node is ready")
    cluster.until_running("meanwhile", 1)
    cluster.until_running("before", 3)
    assert len(cluster.containers()) == 4


def test_the_agent_starts_while_the_engine_is_down(cluster: Cluster, engine: Engine) -> None:
    cluster.apply(service("later", replicas=2))
    cluster.until_running("later", 2)
    cluster.kill("agent")
    engine.stop()
    cluster.start_agent(wait=False)
    until(lambda: ready_condition(cluster).get("reason") == "EngineDown", "the node says why")
    engine.start()
    until(cluster.ready, "the node is ready")
    cluster.until_running("later", 2)
