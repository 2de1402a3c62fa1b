"""A manager's port, seen from outside with other people's tools: openssl and curl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.context import load
from api.pki.authority import Authority
from api.pki.identity import Role
from tests.cluster.harness import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    it = Cluster(tmp_path_factory.mktemp("cluster"), driver="simulated")
    try:
        it.start_manager()
        yield it
    finally:
        it.stop()


@pytest.fixture(scope="module")
def files(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt, admin.* of the cluster; of another authority: foreign.*."""
    where = tmp_path_factory.mktemp("files")
    admin = load(cluster.home / "manager" / "admin.yaml").select().credentials()
    foreign = Authority.generate().issue("admin", Role.ADMIN)
    foreign._replace(ca_pem=admin.ca_pem).write(where, "foreign")
    admin.write(where, "admin")
    return where


def handshake(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{cluster.port}", *words],
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def curl(cluster: Cluster, path: str, *words: str, scheme: str = "https") -> tuple[int, str]:
    """curl's exit code, and the HTTP status it saw (000: none)."""
    done = subprocess.run(
        [
            *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10", *words),
            f"{scheme}://127.0.0.1:{cluster.port}{path}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-tls1_2"])
def test_nothing_below_tls_1_3_is_spoken(cluster: Cluster, version: str) -> None:
    refused = handshake(cluster, version, "-cipher", "ALL:@SECLEVEL=0")
    assert refused.returncode != 0
    assert "Cipher is (NONE)" in refused.stdout or "no protocols" in refused.stderr


def test_tls_1_3_shows_the_clusters_certificate(cluster: Cluster, files: Path) -> None:
    good = handshake(cluster, "-tls1_3", "-CAfile", str(files / "ca.crt"), "-verify_return_error")
    assert "TLSv1.3" in good.stdout
    assert "Verify return code: 0 (ok)" in good.stdout


def test_nothing_is_said_in_plaintext(cluster: Cluster) -> None:
    code, status = curl(cluster, "/healthz", scheme="http")
    assert code != 0
    assert status == "000"


def test_a_certificate_is_wanted_for_all_but_joining(cluster: Cluster, files: Path) -> None:
    ca = ("--cacert", str(files / "ca.crt"))
    mine = (*ca, "--cert", str(files / "admin.crt"), "--key", str(files / "admin.key"))
    assert curl(cluster, "/healthz", *mine) == (0, "200")
    assert curl(cluster, "/healthz", *ca) == (0, "401")
    assert curl(cluster, "/apis/skep.dev/v1/services", *ca) == (0, "401")
    assert curl(cluster, "/apis/skep.dev/v1/join", *ca) == (0, "200")
    assert curl(cluster, "/apis/skep.dev/v1/join", *ca, "-d", "{}") == (0, "400")


def test_a_foreign_certificate_opens_nothing(cluster: Cluster, files: Path) -> None:
    words = [
        *("--cacert", str(files / "ca.crt")),
        *("--cert", str(files / "foreign.crt"), "--key", str(files / "foreign.key")),
    ]
    for path in ("/healthz", "/apis/skep.dev/v1/join"):
        code, status = curl(cluster, path, *words)
        assert code != 0
        assert status == "000"
