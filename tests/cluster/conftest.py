"""A cluster a file of tests; its last words are in the report of a test that fails."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.cluster.harness import ROOT, Cluster

LAST_LINES = 60
_CLUSTER = pytest.StashKey[Cluster]()


@pytest.fixture(scope="session")
def busybox() -> None:
    subprocess.run([str(ROOT / "hack/images/build"), "busybox"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, busybox: None
) -> Iterator[Cluster]:
    """A manager and an agent that is ready, for all tests of a file."""
    it = Cluster(tmp_path_factory.mktemp("cluster"))
    request.node.stash[_CLUSTER] = it
    try:
        it.start()
        yield it
    finally:
        it.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    module = item.getparent(pytest.Module)
    if report.failed and module is not None and _CLUSTER in module.stash:
        for part in ("manager", "agent"):
            lines = module.stash[_CLUSTER].log(part).splitlines()[-LAST_LINES:]
            report.sections.append((f"the last of {part}'s log", "\n".join(lines)))
    return report
