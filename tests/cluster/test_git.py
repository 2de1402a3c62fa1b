"""A secret's way from a manifest through git into a container; the repository shows nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.canary import Canary
from tests.cluster.harness import Cluster, service, until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.engine,
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]

MANIFEST = """\
apiVersion: skep.dev/v1
kind: Secret
metadata:
  name: db
  namespace: default
stringData:
  # changed every spring
  password: %s    # the shop's
  user: shop
"""


class Repository:
    """Of somebody's, with nobody's settings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.git("init", "-q")

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
        alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", *who, *words], cwd=self.path, env={**os.environ, **alone},
            capture_output=True, check=True, timeout=30,
        )  # fmt: skip
        return done.stdout.decode(errors="replace")

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", "as it is")

    def content(self) -> bytes:
        """Every object that is or ever was in it, unpacked, and every file of it as it lies."""
        objects = self.git("cat-file", "--batch-all-objects", "--batch", "--unordered").encode()
        files = (path for path in self.path.rglob("*") if path.is_file())
        return objects + b"".join(path.read_bytes() for path in files)

    def changed(self) -> list[str]:
        lines = self.git("diff", "-U0").splitlines()
        return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def test_a_secret_goes_through_git_into_a_container(cluster: Cluster, tmp_path: Path) -> None:
    first, second = (Canary(f"canary-{secrets.token_hex(24)}") for _ in range(2))
    repository = Repository(tmp_path)
    path = tmp_path / "db.yaml"

    path.write_text(MANIFEST % first.text)
    cluster.ctl("seal", "-f", str(path), "--in-place")
    repository.commit()
    assert not first.inside(repository.content())
    assert b"skep-seal:v1:" in repository.content()

    cluster.ctl("apply", "-f", str(path))
    cluster.apply(service("shop", "sleep 100000", secrets=[{"name": "db", "target": "db"}]))
    (task,) = cluster.until_running("shop", 1)
    assert _in_container(cluster, task["status"]["container"]["id"]) == first.text

    cluster.ctl("seal", "set", "db", "password", "--file", str(path), stdin=second.text)
    gone, come = repository.changed()
    assert gone.startswith("-  password: skep-seal:v1:") and gone.endswith("    # the shop's")
    assert come.startswith("+  password: skep-seal:v1:") and come.endswith("    # the shop's")
    repository.commit()
    cluster.ctl("apply", "-f", str(path))
    until(lambda: _newest(cluster) == second.text, "the container has the new value")
    version = _version(cluster)
    cluster.ctl("seal", "keys", "renew")
    cluster.ctl("seal", "rotate", "--all", str(tmp_path))
    repository.commit()
    assert cluster.ctl("apply", "-f", str(path)).stdout == "secret/db unchanged\n"
    assert _version(cluster) == version
    content = repository.content()
    assert not first.inside(content) and not second.inside(content)
    said = cluster.log("manager") + (cluster.home / "manager" / "audit.log").read_text()
    assert not first.inside(said.encode()) and not second.inside(said.encode())

    cluster.ctl("delete", "service", "shop")
    cluster.ctl("delete", "secret", "db")
    until(lambda: not cluster.containers(every=True), "its containers are gone")


def test_another_cluster_opens_nothing_and_says_whose_it_is(
    cluster: Cluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path / "db.yaml"
    path.write_text(MANIFEST % "hunter2")
    cluster.ctl("seal", "-f", str(path), "--in-place", "--scope", "cluster")
    other = Cluster(tmp_path_factory.mktemp("other"), driver="simulated", node="elsewhere")
    try:
        other.start_manager()
        own = other.ctl("seal", "key").stdout.split()[4]
        refused = other.ctl("apply", "-f", str(path), check=False)
        assert refused.returncode == 4
        assert f"{path}:8:3: secrets/db: sealed.password: was sealed to the key" in refused.stderr
        assert "which this cluster does not have: another cluster's" in refused.stderr
        assert f"it has {own}." in refused.stderr
    finally:
        other.stop()


def _in_container(cluster: Cluster, id: str) -> str:
    return cluster.docker("exec", id, "cat", "/run/secrets/db/password").strip()


def _newest(cluster: Cluster) -> str:
    running = cluster.tasks("shop", "Running")
    if len(running) != 1:
        return ""
    id = running[0]["status"]["container"]["id"]
    return cluster.docker("exec", id, "cat", "/run/secrets/db/password", check=False).strip()


def _version(cluster: Cluster) -> int:
    found = cluster.find("secret", "db")
    assert found is not None
    version: int = found["status"]["version"]
    return version
