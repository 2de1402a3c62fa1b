"""The store does not answer: what runs goes on, reading says what is known, writing says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, until
from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(60)]


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, since it is not well."""
    it = Cluster(tmp_path_factory.mktemp("lonely"), driver="simulated")
    try:
        it.start()
        yield it
    finally:
        it.stop()


@pytest.fixture
def ctl(lonely: Cluster) -> Ctl:
    return Ctl(lonely.environment())


@pytest.fixture
def down(lonely: Cluster, ctl: Ctl) -> Iterator[Ctl]:
    """With a service that runs, and an etcd that hangs."""
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web")))
    etcd = lonely.etcd()
    os.kill(etcd, signal.SIGSTOP)
    try:
        yield ctl
    finally:
        os.kill(etcd, signal.SIGCONT)


def test_writes_fail_with_what_to_do_and_reads_go_on(down: Ctl) -> None:
    done = down.program("apply", "-f", "-", stdin=text(config("a")), code=6)
    assert done.out == ""
    assert "the store (etcd) does not answer" in done.err
    assert "repeating the request is safe" in done.err
    assert "Running containers go on" in done.err
    assert "web" in down("get", "services").out
    assert down("get", "service", "web", "-o", "jsonpath={.status.running}").out == "1"
    assert "1 Running" in down("status").out
    assert down("describe", "service", "web").out
    assert down("scale", "web=2", code=6).out == ""


def test_when_it_is_back_all_is_as_it_was(lonely: Cluster, ctl: Ctl) -> None:
    def applied() -> bool:
        return ctl("apply", "-f", "-", stdin=text(config("a")), code=None).code == 0

    until(applied, "the store takes writes again", 30)
    # What was asked for while the store hung may have happened after all, as the error says.
    first, *_ = sorted(lonely.tasks("web"), key=lambda task: int(task["spec"]["slot"]))
    assert first["status"]["state"] == "Running"
    until(lonely.ready, "the node is ready")
    ctl("scale", "web=2", "--wait", "--timeout=30s")


def test_no_manager_at_all(lonely: Cluster, ctl: Ctl, tmp_path: Path) -> None:
    lonely.kill("manager", signal.SIGTERM)
    try:
        done = ctl.program("apply", "-f", "-", stdin=text(config("b")), code=6)
        assert "no manager answers at https://127.0.0.1:" in done.err
        assert "no manager runs there" in done.err
        assert "is it running?" in done.err
        # A manifest is checked all the same.
        assert ctl("apply", "-f", "-", stdin="kind: Confg\n", code=4).err
    finally:
        lonely.start_manager()
    until(lonely.ready, "the node is ready again")
    ctl("apply", "-f", "-", stdin=text(config("b")))
