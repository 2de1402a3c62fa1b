"""One cluster for all of `ctl`'s tests: a real manager, and a node whose containers are simulated.

Every test has a namespace of its own, so that none sees another's objects.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.context import load, save
from tests.cluster.harness import Cluster
from tests.ctl.runner import Ctl

_LAST_LINES = 30
_CLUSTER = pytest.StashKey[Cluster]()
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    it = Cluster(tmp_path_factory.mktemp("cluster"), driver="simulated", node="worker-1")
    request.session.stash[_CLUSTER] = it
    try:
        it.start()
        yield it
    finally:
        it.stop()
    for part in ("manager", "agent"):
        assert "Traceback" not in it.log(part), it.log(part)


@pytest.fixture
def ctl(cluster: Cluster, tmp_path: Path) -> Iterator[Ctl]:
    """`ctl` with a context whose namespace is the test's own, in a directory of its own."""
    name = f"t{next(_numbers)}"
    admin = Ctl(cluster.environment())
    config = tmp_path / "config.yaml"
    contexts = load(cluster.home / "manager" / "admin.yaml")
    contexts.contexts[contexts.current].namespace = name
    save(contexts, config)
    mine = Ctl({**admin.environment, "SKEP_CONFIG": str(config)}, directory=tmp_path)
    mine("create", "namespace", name)
    yield mine.within(name)
    mine("delete", "namespace", name, "--no-wait")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _CLUSTER in item.session.stash:
        for part in ("manager", "agent"):
            lines = item.session.stash[_CLUSTER].log(part).splitlines()[-_LAST_LINES:]
            report.sections.append((f"the last of {part}'s log", "\n".join(lines)))
    return report
