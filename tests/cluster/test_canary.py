"""A secret's bytes are in the files mounted for its tasks, and nowhere else.

A random payload is used as users use secrets, wrongly too, and then everything that can be read
on this machine about the cluster is searched for it: etcd's database and write-ahead log too.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


@dataclass(frozen=True)
class Canary:
    """Bytes that are nowhere else in the world."""

    text: str

    @property
    def forms(self) -> list[bytes]:
        """As it may be written: plain, base64 at each of the three alignments, hex."""
        plain = self.text.encode()
        shifted = [base64.b64encode(b"x" * lead + plain)[4:-4] for lead in range(3)]
        return [plain, plain.hex().encode(), *shifted]

    def inside(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)


def secret(name: str, **data: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": data,
    }


@pytest.fixture(scope="module")
def canary() -> Canary:
    return Canary(f"canary-{secrets.token_hex(24)}")


@pytest.fixture(scope="module")
def used(cluster: Cluster, canary: Canary) -> Iterator[list[str]]:
    """The secret in use by two tasks; everything that `ctl` said on the way and about it."""
    said: list[str] = []

    def ctl(*words: str, stdin: str = "") -> None:
        done = cluster.ctl(*words, stdin=stdin, check=False)
        said.append(f"$ ctl {' '.join(words)}\n{done.stdout}{done.stderr}")

    ctl("create", "secret", "canary", "--from-stdin", "password", stdin="an older value")
    cluster.apply(secret("canary", password=canary.text))
    cluster.apply(secret("canary", password=canary.text))
    reader = service(
        "reader",
        "cat /run/secrets/canary >/dev/null; sleep 100000",
        replicas=2,
        secrets=[{"name": "canary"}, {"name": "canary", "target": "/srv/also", "mode": "0400"}],
    )
    cluster.apply(reader)
    cluster.until_running("reader", 2)
    # Mistakes: a wrong type, an unknown field, the payload where no payload belongs.
    broken = f"""
apiVersion: skep.dev/v1
kind: Secret
metadata: {{name: wrong}}
data: {{password: "{canary.text}!"}}
stringData: [{canary.text}]
strngData: {{password: {canary.text}}}
"""
    for verb in ("apply", "diff"):
        ctl(verb, "-f", "-", stdin=broken)
    changed = f"""
apiVersion: skep.dev/v1
kind: Secret
metadata: {{name: canary}}
stringData: {{password: {canary.text}-2}}
"""
    ctl("diff", "-f", "-", stdin=changed)
    ctl("apply", "-f", "-", "--dry-run", stdin=changed)
    for form in ("yaml", "json", "wide", "name"):
        ctl("get", "secrets,services,tasks,events,nodes,configs", "-A", "-o", form)
    for what in ("secret/canary", "service/reader", "namespace/default"):
        ctl("describe", *what.split("/"))
    ctl("events", "-A")
    ctl("logs", "service/reader")
    yield said
    cluster.ctl("delete", "service", "reader", check=False)
    cluster.ctl("delete", "secret", "canary", check=False)


def test_the_mounted_files_hold_it_read_only_and_in_memory(
    cluster: Cluster, canary: Canary, used: list[str]
) -> None:
    for container in cluster.containers():
        # Relative targets share one mount; each absolute one has its own.
        for path, at in (("/run/secrets/canary", "/run/secrets"), ("/srv/also", "/srv/also")):
            assert cluster.docker("exec", container, "cat", path) == canary.text
            cluster.docker("exec", container, "sh", "-c", f"! echo x 2>/dev/null > {path}")
            mounts = cluster.docker("exec", container, "cat", "/proc/mounts").splitlines()
            (line,) = [line for line in mounts if line.split()[1] == at]
            assert line.split()[2] == "tmpfs"
            assert "ro" in line.split()[3].split(",")


def test_ctl_never_says_it(canary: Canary, used: list[str]) -> None:
    assert len(used) > 10
    for words in used:
        assert not canary.inside(words.encode()), words.replace(canary.text, "<CANARY>")


def test_no_file_of_the_daemons_holds_it(cluster: Cluster, canary: Canary, used: list[str]) -> None:
    memory, etcd = cluster.home / "run", cluster.home / "manager" / "etcd" / "data"
    searched = 0
    for path in sorted(cluster.home.rglob("*")):
        if path.is_relative_to(memory) or not path.is_file():
            continue
        searched += 1
        assert not canary.inside(path.read_bytes()), path
    assert searched > 5
    assert list(etcd.rglob("*.wal")) and list(etcd.rglob("db"))


def test_the_engine_knows_nothing_of_it(cluster: Cluster, canary: Canary, used: list[str]) -> None:
    for container in cluster.containers(every=True):
        for verb in ("inspect", "logs", "diff", "top"):
            assert not canary.inside(cluster.docker(verb, container).encode()), verb
        image = cluster.docker("inspect", "-f", "{{.Image}}", container).strip()
        assert not canary.inside(cluster.docker("image", "inspect", image).encode())
        assert not canary.inside(cluster.docker("history", "--no-trunc", image).encode())


def test_no_disk_of_the_engine_holds_it(cluster: Cluster, canary: Canary, used: list[str]) -> None:
    """Its notes about the containers, and what the containers wrote."""
    root = Path(cluster.docker("info", "-f", "{{.DockerRootDir}}").strip())
    for container in cluster.containers(every=True):
        shown = cluster.docker("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", container)
        for directory in (root / "containers" / container, Path(shown.strip())):
            for path in directory.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    assert not canary.inside(path.read_bytes()), path


def test_no_process_shows_it(canary: Canary, used: list[str]) -> None:
    """In its environment or on its command line, where any user of the machine might look."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        for name in ("environ", "cmdline"):
            try:
                content = (process / name).read_bytes()
            except OSError:  # it has ended
                continue
            assert not canary.inside(content), process


def test_it_leaves_the_node_with_the_last_task_that_used_it(
    cluster: Cluster, canary: Canary, used: list[str]
) -> None:
    """Last in this file, because it ends what the others look at."""

    def held() -> list[Path]:
        files = [path for path in (cluster.home / "run").rglob("*") if path.is_file()]
        return [path for path in files if canary.inside(path.read_bytes())]

    assert held()
    cluster.ctl("delete", "service", "reader")
    until(lambda: not cluster.containers(), "its containers have ended")
    until(lambda: not held(), "the node holds it no more")
