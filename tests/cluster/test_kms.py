"""A manager whose key-encryption key is in a KMS: the example of manifests/kms."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, Cluster, Document, until

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


@dataclass
class WithKms(Cluster):
    options: tuple[str, ...] = field(default=())

    @property
    def kms_socket(self) -> Path:
        return self.home / "kms" / "socket"

    def kms(self, *options: str) -> subprocess.Popen[bytes]:
        self.kms_socket.parent.mkdir(mode=0o700, exist_ok=True)
        keys = self.home / "kms" / "keys"
        return subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "manifests/kms/local.py")),
                *("--socket", str(self.kms_socket), "--keys", str(keys), *options),
            ]
        )

    def start_kms(self) -> None:
        self.running["kms"] = self.kms()

    def launch_manager(self) -> None:
        self._start(
            "manager",
            *("manager", "--data-dir", str(self.home / "manager")),
            *("--listen", f"127.0.0.1:{self.port}", *self.options),
        )

    def start_manager(self) -> None:
        self.launch_manager()
        self.until_up()

    @property
    def key_file(self) -> Path:
        return self.home / "manager" / "vault.key"

    def kept_by(self) -> str:
        return next(
            line for line in self.ctl("keys", "status").stdout.splitlines() if "wrapped by" in line
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithKms]:
    it = WithKms(tmp_path_factory.mktemp("cluster"), driver="simulated")
    it.options = ("--kms", f"unix://{it.kms_socket}")
    try:
        it.start_kms()
        it.start_manager()
        yield it
    finally:
        it.stop()
        if "kms" in it.running:
            it.kill("kms", signal.SIGTERM)
    assert "Traceback" not in it.log("manager")


def config(name: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name},
        "data": {"file": name},
    }


def test_no_key_is_on_the_managers_disk_and_its_kms_is_waited_for(cluster: WithKms) -> None:
    assert not cluster.key_file.exists()
    assert f"of the KMS at {cluster.kms_socket}" in cluster.kept_by()
    cluster.apply(config("one"))
    refused = cluster.ctl("lock", "enable", check=False)
    assert refused.returncode == 5 and "of the KMS at" in refused.stderr
    cluster.kill("manager")
    cluster.kill("kms")
    cluster.launch_manager()
    until(lambda: "does not answer: Connection refused" in cluster.log("manager"), "it waits")
    cluster.start_kms()
    cluster.until_up()
    assert cluster.find("config", "one") is not None


def test_data_keys_are_wrapped_anew_with_another_key_of_the_kms(cluster: WithKms) -> None:
    before = cluster.kept_by()
    cluster.kill("kms")
    assert cluster.kms("--add-key").wait(30) == 0
    cluster.start_kms()
    until(cluster.kms_socket.exists, "the KMS listens")
    until(
        lambda: cluster.ctl("keys", "rewrap", "--wait", check=False).returncode == 0,
        "it wraps anew",
    )
    assert cluster.kept_by() != before


def test_one_goes_to_a_file_and_back_to_the_kms(cluster: WithKms) -> None:
    cluster.kill("manager", signal.SIGTERM)
    kms, cluster.options = cluster.options, (*cluster.options, "--leave-kms")
    cluster.start_manager()
    assert f"in {cluster.key_file}" in cluster.kept_by()
    cluster.kill("manager", signal.SIGTERM)
    cluster.options = ()
    cluster.start_manager()
    assert cluster.find("config", "one") is not None
    cluster.kill("manager", signal.SIGTERM)
    cluster.options = kms
    cluster.start_manager()
    assert "of the KMS at" in cluster.kept_by()
    assert "remove the file" in cluster.log("manager")
    assert cluster.find("config", "one") is not None


def test_a_directory_where_others_could_put_a_socket_is_refused(cluster: WithKms) -> None:
    cluster.kill("manager", signal.SIGTERM)
    cluster.kms_socket.parent.chmod(0o777)
    cluster.launch_manager()
    assert cluster.running.pop("manager").wait(60) == 1
    assert "chmod go-w" in cluster.log("manager")
    cluster.kms_socket.parent.chmod(0o700)
    cluster.start_manager()
