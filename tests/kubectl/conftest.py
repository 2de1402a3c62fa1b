"""A live manager a file of tests, with an agent whose containers are simulated; and kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster
from tests.kubectl.harness import PROGRAM, Kubectl

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.etcd)
            item.add_marker(pytest.mark.deadline(120))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    it = Cluster(tmp_path_factory.mktemp("cluster"), driver="simulated")
    try:
        it.start()
        yield it
        assert "Traceback" not in it.log("manager")
    finally:
        it.stop()


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Kubectl:
    if not PROGRAM:
        pytest.skip("needs the program kubectl")
    return Kubectl(cluster, cluster.home / "kubectl")
