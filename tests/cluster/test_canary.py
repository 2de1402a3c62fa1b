"""A secret's bytes are in the files mounted for its tasks, and nowhere else.

A random payload is used as users use secrets, wrongly too, and rotated; then everything that can be
read on this machine about the cluster is searched for it: etcd's database and write-ahead log, a
backup of it, logs, the audit log, errors, dumps.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.client import ApiError, Client
from api.context import load
from api.pki.tls import client_context
from tests.cluster.canary import (
    Canary,
    dumped,
    etcd_snapshot,
    files_below,
    super_options,
    swapped_out,
)
from tests.cluster.harness import Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


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
        said.append(f"$ ctl {words[0]}\n{done.stdout}{done.stderr}")

    ctl("create", "secret", "canary", "--from-stdin", "password", stdin="an older value")
    cluster.apply(secret("canary", password=canary.text))
    cluster.apply(secret("canary", password=canary.text))
    reader = service(
        "reader",
        "cat /run/secrets/canary >/dev/null; sleep 100000",
        replicas=2,
        secrets=[{"name": "canary"}, {"name": "canary", "target": "/srv/also", "mode": "0400"}],
        secretFiles=[{"target": "made", "content": "<{{ secrets.canary.password }}>"}],
    )
    follower = service("follower", secrets=[{"name": "canary", "onChange": {"signal": "SIGWINCH"}}])
    cluster.apply(reader, follower)
    cluster.until_running("reader", 2)
    # Rotated, rolled back, and what came between destroyed.
    ctl("secret", "set", "canary", "password=-", stdin=f"{canary.text}-rotated")
    until(lambda: versions(cluster, "canary")[-1:] == [3], "there is another version")
    ctl("secret", "rollback", "canary")
    until(lambda: versions(cluster, "canary")[-1:] == [4], "it is as it was")
    until(lambda: held(cluster, "reader") == [4, 4], "all tasks are of that version")
    ctl("secret", "history", "canary")
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
    ctl("secret", "set", "canary", f"wrong key={canary.text}", f"{canary.text}=-", stdin="x")
    ctl("create", "secret", "canary", "--from-stdin", "password", stdin=canary.text)
    ctl("create", "secret", "large", "--from-stdin", "k", stdin=canary.text * 9000)
    for what in ("secret/canary", "service/reader", "namespace/default"):
        ctl("describe", *what.split("/"))
    ctl("events", "-A")
    ctl("logs", "service/reader")
    yield said
    cluster.ctl("delete", "service", "reader", "follower", check=False)
    cluster.ctl("delete", "secret", "canary", check=False)


def versions(cluster: Cluster, name: str) -> list[int]:
    found = cluster.find("secret", name) or {}
    return [each["version"] for each in found.get("status", {}).get("versions", [])]


def held(cluster: Cluster, service: str) -> list[int]:
    """The version that each running task has, once no container of another task is left."""
    tasks = cluster.tasks(service, "Running")
    if len(cluster.running_of(service)) != len(tasks):
        return []
    return [task["status"].get("secrets", {}).get("canary", 0) for task in tasks]


def test_the_mounted_files_hold_it_read_only_and_in_memory(
    cluster: Cluster, canary: Canary, used: list[str]
) -> None:
    for container in cluster.running_of("reader"):
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


async def test_no_error_of_the_api_quotes_it(
    cluster: Cluster, canary: Canary, used: list[str]
) -> None:
    """Of requests that carried it where it does not belong, and of those cut short."""
    context = load(cluster.home / "manager" / "admin.yaml").select()
    url = f"https://127.0.0.1:{cluster.port}"
    text = canary.text
    async with Client(url, client_context(context.credentials()), patience=0) as client:
        for fields in (
            {"data": {"k": text}},
            {"data": text},
            {"stringData": {"k": [text]}},
            {"stringData": {"../k": text}},
            {"stringData": {"k": text}, "data": {"k": "eA=="}},
            {"stringData": {"k": text * 10_000}},
            {"stringData": {"k": text}, "keep": -1},
            {"stringData": {"k": text}, "other": {"k": text}},
        ):
            manifest = secret("wrong") | {"stringData": {}} | fields
            for attempt in (client.create, client.apply):
                given: Any = manifest if attempt == client.create else [manifest]
                with pytest.raises(ApiError) as caught:
                    await attempt(given)
                said = repr(caught.value.status) + str(caught.value)
                assert not canary.inside(said.encode()), fields.keys()


def test_a_backup_of_etcd_does_not_hold_it(
    cluster: Cluster, canary: Canary, used: list[str]
) -> None:
    snapshot = etcd_snapshot(cluster)
    assert b"/skep/v1/payloads/default/canary" in snapshot, "its value is among them"
    assert not canary.inside(snapshot)


def test_nothing_of_it_is_swapped_out(cluster: Cluster, used: list[str]) -> None:
    place = cluster.home / "run" / cluster.node / "secrets"
    assert "noswap" in super_options(place) or not swapped_out()


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
    audit = (cluster.home / "manager" / "audit.log").read_text()
    assert "canary" in audit, "it says that the secret was changed"


def test_the_engine_knows_nothing_of_it(cluster: Cluster, canary: Canary, used: list[str]) -> None:
    for container in cluster.containers():
        assert not canary.inside(cluster.docker("top", container).encode())
    for container in cluster.containers(every=True):
        for verb in ("inspect", "logs", "diff"):
            assert not canary.inside(cluster.docker(verb, container).encode()), verb
        image = cluster.docker("inspect", "-f", "{{.Image}}", container).strip()
        assert not canary.inside(cluster.docker("image", "inspect", image).encode())
        assert not canary.inside(cluster.docker("history", "--no-trunc", image).encode())


def test_no_disk_of_the_engine_holds_it(cluster: Cluster, canary: Canary, used: list[str]) -> None:
    """Its notes about the containers, and what the containers wrote."""
    root = Path(cluster.docker("info", "-f", "{{.DockerRootDir}}").strip())
    for container in cluster.containers(every=True):
        layers = "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}"
        shown = cluster.docker("inspect", "-f", layers, container).strip().split(":")
        for path in files_below(root / "containers" / container, *map(Path, shown)):
            assert not canary.inside_file(path), path


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


def test_a_crash_leaves_no_dump(
    cluster: Cluster, canary: Canary, used: list[str], tmp_path: Path
) -> None:
    """Of the agent and the manager, which hold it; nor does anybody make one who is not all of
    root."""
    assert shutil.which("gcore")
    less = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    before = set(Path.cwd().glob("core*"))
    for part in ("agent", "manager"):
        pid = cluster.running[part].pid
        for number, by in enumerate((less, nobody)):
            assert dumped(pid, tmp_path / f"{part}-{number}", by=by) == []
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]
    for part, start in (("agent", cluster.start_agent), ("manager", cluster.start_manager)):
        cluster.kill(part, signal.SIGABRT)
        start()
    until(cluster.ready, "the node is ready again")
    assert set(Path.cwd().glob("core*")) == before
    assert [path for path in cluster.home.rglob("core*") if path.is_file()] == []


def test_it_leaves_the_node_with_the_last_task_that_used_it(
    cluster: Cluster, canary: Canary, used: list[str]
) -> None:
    """Last in this file, because it ends what the others look at."""

    def held() -> list[Path]:
        files = [path for path in (cluster.home / "run").rglob("*") if path.is_file()]
        return [path for path in files if canary.inside(path.read_bytes())]

    assert held()
    cluster.ctl("delete", "service", "reader", "follower")
    until(lambda: not cluster.containers(), "its containers have ended")
    until(lambda: not held(), "the node holds it no more")
