"""A manager over an etcd cluster that its user runs, with TLS."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import BIN, Cluster, Document, free_port, until
from tests.store.etcd import Etcd, certificates

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


class OverEtcd(Cluster):
    """Its manager has no etcd of its own."""

    members: list[Etcd]

    def start_manager(self) -> None:
        ca, cert, key = self.members[0].tls
        self._start(
            "manager",
            *("manager", "--data-dir", str(self.home / "manager")),
            *("--listen", f"127.0.0.1:{self.port}"),
            *("--etcd-endpoints", ",".join(member.endpoint for member in self.members)),
            *("--etcd-ca", str(ca), "--etcd-cert", str(cert), "--etcd-key", str(key)),
        )
        self.until_up()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverEtcd]:
    members = Etcd.cluster(tmp_path_factory.mktemp("etcd"), 3)
    it = OverEtcd(tmp_path_factory.mktemp("cluster"))
    it.members = members
    try:
        it.start_manager()
        yield it
    finally:
        it.stop()
        for member in members:
            member.kill()


def config(name: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name},
        "data": {"file": name},
    }


def test_the_manager_starts_no_etcd_beside_it(cluster: OverEtcd) -> None:
    cluster.apply(config("first"))
    with pytest.raises(AssertionError, match="has 0 etcds"):
        cluster.etcd()


def test_one_member_of_three_may_end(cluster: OverEtcd) -> None:
    for number, member in enumerate(cluster.members):
        member.kill()
        done = cluster.apply(config(f"without-{number}"), check=False)
        # The one that led may take a moment to be replaced: the words say to try again.
        assert "Traceback" not in done.stderr
        until(
            lambda at=number: cluster.apply(config(f"without-{at}"), check=False).returncode == 0,  # type: ignore[misc]
            "writes succeed on the other two",
        )
        member.start()
    assert {"first", "without-0", "without-1", "without-2"} <= {
        each["metadata"]["name"] for each in cluster.items("configs")
    }


def test_another_manager_finds_what_the_first_one_wrote(cluster: OverEtcd) -> None:
    before = {each["metadata"]["uid"] for each in cluster.items("configs")}
    cluster.kill("manager", signal.SIGTERM)
    cluster.start_manager()
    assert {each["metadata"]["uid"] for each in cluster.items("configs")} == before


def test_an_etcd_of_another_authority_is_said_in_words(cluster: OverEtcd, tmp_path: Path) -> None:
    ca, cert, key = certificates(tmp_path)
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(str(BIN / "skepd"), "manager", "--data-dir", str(tmp_path / "data")),
                *("--listen", f"127.0.0.1:{free_port()}"),
                *("--etcd-endpoints", cluster.members[0].endpoint),
                *("--etcd-ca", str(ca), "--etcd-cert", str(cert), "--etcd-key", str(key)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        until(lambda: "does not answer" in log.read_text(), "it says that etcd does not answer")
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in log.read_text()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://etcd.example.com:2379", "is not encrypted"),
        ("https://127.0.0.1:2379", "needs --etcd-ca, --etcd-cert and --etcd-key"),
        ("127.0.0.1:2379", "is not of the form https://host:port"),
    ],
)
def test_an_endpoint_that_can_t_be_used_is_refused_at_once(
    endpoint: str, words: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(str(BIN / "skepd"), "manager", "--data-dir", str(tmp_path)),
            *("--listen", f"127.0.0.1:{free_port()}", "--etcd-endpoints", endpoint),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_three_files_go_together(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "skepd"), "manager", "--data-dir", str(tmp_path), "--etcd-ca", "ca.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "go together" in done.stderr
