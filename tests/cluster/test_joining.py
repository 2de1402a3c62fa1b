"""Machines join, managers too; a root is replaced under all of them. All told by `ctl`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import BIN, Cluster, free_port, service, until
from tests.cluster.test_external_etcd import OverEtcd
from tests.store.etcd import Etcd

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]


class Machines:
    """Directories that stand for machines, where people type `ctl`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SKEP_")},
            "SKEP_CONFIG": str(home / "config.yaml"),
        }

    def type(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        words = shlex.split(line)
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        if check:
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done

    def stop(self) -> None:
        """End what was started in the background."""
        for lock in self.home.glob("*/*/lock"):
            pid = int(lock.read_text() or 0)
            if pid and Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGTERM)
                until(lambda pid=pid: _ended(pid), f"process {pid} has ended")  # type: ignore[misc]


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    it = Machines(tmp_path)
    try:
        yield it
    finally:
        it.stop()


def test_one_line_makes_a_cluster_and_one_line_joins_it(machines: Machines) -> None:
    home = machines.home
    init = f"ctl init --home {home}/m1 --listen 127.0.0.1:{free_port()}"
    done = machines.type(init)
    worker, manager = done.stdout.strip().splitlines()
    assert worker.startswith("ctl join --token SKEPTKN-1-")
    assert worker != manager
    assert machines.type(init).stdout == done.stdout  # again: only says them again

    def join(line: str, node: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        where = f"--home {home}/{node} --run-dir {home}/{node}/run --driver simulated"
        return machines.type(f"{line} --node {node} {where}", check=check)

    join(worker, "w1")
    machines.type("ctl wait node w1 --for=condition=Ready --timeout=30s")
    kept = home / "w1" / "agent" / "membership.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (home / "m1" / "manager" / "vault.key").stat().st_mode & 0o777 == 0o600

    # The token is replaced: the old line is refused, in words and as an event; the new one joins.
    machines.type("ctl token rotate worker")
    refused = join(worker, "w2", check=False)
    assert "replaced by a newer one" in refused.stderr
    until(lambda: "JoinRefused" in machines.type("ctl events").stdout, "the refusal is an event")
    join(machines.type("ctl token show worker").stdout.strip(), "w2")

    # A manager has no store to share here, and says so.
    assert "--etcd-endpoints" in join(manager, "m2", check=False).stderr

    # Removing: not by accident, and for good.
    machines.type("ctl wait node w1 w2 --for=condition=Ready --timeout=30s")
    assert "--force" in machines.type("ctl node rm w1", check=False).stderr
    machines.type("ctl node rm w1 --force")
    log = home / "w1" / "log" / "agent.log"
    until(lambda: "was removed from the cluster" in log.read_text(), "its agent is told so")
    assert "w1" not in machines.type("ctl get nodes").stdout


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OverEtcd, OverEtcd]]:
    """Two managers' machines over one etcd; the second has not joined."""
    members = Etcd.cluster(tmp_path_factory.mktemp("etcd"), 1)
    one = OverEtcd(tmp_path_factory.mktemp("one"), driver="simulated")
    other = OverEtcd(tmp_path_factory.mktemp("other"), driver="simulated")
    one.members = other.members = members
    try:
        one.start_manager()
        yield one, other
    finally:
        for each in (one, other):
            each.stop()
        for member in members:
            member.kill()


def test_a_second_manager_shares_the_authority(two: tuple[OverEtcd, OverEtcd]) -> None:
    one, other = two
    refused = other_manager(other)
    assert "join with a manager's token" in refused.stderr.lower()
    assert "Traceback" not in refused.stderr
    line = one.ctl("token", "show", "manager").stdout.split()
    done = other.ctl(*line[1:], "--home", str(other.home), "--node", "m2", "--no-start")
    assert "joined as a manager" in done.stdout
    other.start_manager()
    urls = one.ctl("ca", "status", "-o", "json").stdout
    assert str(one.port) in urls
    until(lambda: str(other.port) in one.ctl("ca", "status", "-o", "json").stdout, "both are known")
    admin = one.home / "manager" / "admin.yaml"
    until(lambda: str(other.port) in admin.read_text(), "the admin's context knows both")
    # A machine joins with the one, is known to the other, and outlives the end of the first.
    one.start_agent()
    promoted = one.ctl("node", "promote", one.node)
    line = promoted.stderr.rpartition("ctl ")[2].split()
    done = other.ctl(*line, "--home", str(one.home), "--no-start")  # the node's own machine
    assert "joined as a manager" in done.stdout
    one.kill("manager")
    other.node = one.node
    until(lambda: other.find("node", one.node) is not None, "the other knows the node")
    for context in (one, other):  # both files lead to the manager that is left
        assert context.ctl("token", "show", "worker", "-q").stdout.startswith("SKEPTKN-1-")
    one.start_manager()
    _keys_are_replaced_under_both(one, other)


def _keys_are_replaced_under_both(one: OverEtcd, other: OverEtcd) -> None:
    """Data keys, the key-encryption key, and the lock: asked of one manager, done by both."""
    files = [each.home / "manager" / "vault.key" for each in (one, other)]
    before = files[0].read_text()
    one.ctl("keys", "rotate", "--wait")
    other.ctl("keys", "rewrap", "--wait")
    until(lambda: len({file.read_text() for file in files}) == 1, "both have the new key alone")
    assert files[0].read_text() != before
    one.ctl("lock", "enable")
    until(lambda: all("SKEPKEY" not in file.read_text() for file in files), "both are locked")
    other.ctl("lock", "disable")
    until(lambda: all("SKEPKEY" in file.read_text() for file in files), "neither is locked")
    for each in (one, other):
        assert "unusable" not in each.ctl("keys", "status").stdout


def other_manager(cluster: OverEtcd) -> subprocess.CompletedProcess[str]:
    """A manager's start on a machine that has not joined."""
    ca, cert, key = cluster.members[0].tls
    return subprocess.run(
        [
            *(str(BIN / "skepd"), "manager", "--data-dir", str(cluster.home / "manager")),
            *("--listen", f"127.0.0.1:{cluster.port}"),
            *("--etcd-endpoints", cluster.members[0].endpoint),
            *("--etcd-ca", str(ca), "--etcd-cert", str(cert), "--etcd-key", str(key)),
        ],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    it = Cluster(tmp_path_factory.mktemp("cluster"), driver="simulated")
    try:
        it.start()
        yield it
    finally:
        it.stop()


def authority(cluster: Cluster) -> str:
    return cluster.ctl("ca", "status").stdout


def at_desk(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    mine = {key: value for key, value in os.environ.items() if not key.startswith("SKEP_")}
    return subprocess.run(
        [str(BIN / "ctl"), *words],
        env={**mine, "SKEP_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=True,
    )


def restart_manager(cluster: Cluster) -> None:
    cluster.kill("manager")
    cluster.start_manager()


def test_a_root_is_replaced_while_managers_are_killed_in_every_step(cluster: Cluster) -> None:
    cluster.apply(service("web", replicas=2))
    before = {task["metadata"]["uid"] for task in cluster.until_running("web", 2)}
    old = authority(cluster).split()[1].rstrip(",")
    # A node that is not there holds the end up.
    cluster.apply({"apiVersion": "skep.dev/v1", "kind": "Node", "metadata": {"name": "away"}})

    desk = cluster.home / "desk.yaml"  # another person's context
    desk.write_text((cluster.home / "manager" / "admin.yaml").read_text())
    desk.chmod(0o600)

    cluster.ctl("ca", "rotate")
    assert "has a new certificate" in at_desk(desk, "get", "namespaces").stderr
    assert at_desk(desk, "get", "namespaces").stderr == ""
    restart_manager(cluster)  # right after it began
    assert "takes the place of" in cluster.ctl("get", "components", "-o", "json").stdout
    until(lambda: "1 of 2 nodes" in authority(cluster), "the node that is here has moved")
    restart_manager(cluster)  # in the middle
    assert "for node away: is not ready" in authority(cluster)
    assert cluster.ctl("ca", "rotate", check=False).returncode == 5

    cluster.ctl("node", "rm", "away")
    until(lambda: "next" not in authority(cluster), "the old root is dropped")
    restart_manager(cluster)  # when it is over
    assert old not in authority(cluster)
    assert "default" in at_desk(desk, "get", "namespaces").stdout
    until(cluster.ready, "the node is ready")
    assert {task["metadata"]["uid"] for task in cluster.until_running("web", 2)} == before


def test_a_node_that_was_away_comes_back_with_the_old_root_and_moves(cluster: Cluster) -> None:
    cluster.kill("agent")
    cluster.ctl("ca", "rotate")
    restart_manager(cluster)
    assert f"for node {cluster.node}" in authority(cluster)
    cluster.start_agent()
    until(lambda: "next" not in authority(cluster), "the old root is dropped")
    until(cluster.ready, "the node is ready")
    # What the node itself trusts shrinks as well, a little later.
    kept = cluster.home / "agent" / "membership.json"
    until(lambda: json.loads(kept.read_text())["ca"].count("BEGIN") == 1, "it trusts one root")


def agent(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """An agent's start on a machine of its own."""
    return subprocess.run(
        [
            *(str(BIN / "skepd"), "agent", "--data-dir", str(cluster.home / "elsewhere")),
            *("--driver", "simulated", *words),
        ],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_agent_that_may_not_join_ends_in_words(cluster: Cluster) -> None:
    server = f"https://127.0.0.1:{cluster.port}"
    for words, said in (
        ((), "this machine is no node yet: give --token and --server"),
        (("--server", server, "--token", "x"), "this is not a join token"),
        (
            ("--server", server, "--token", cluster.ctl("token", "show", "manager", "-q").stdout),
            "the token is for joining as a manager, not as a worker",
        ),
        (
            ("--server", server, "--token", f"SKEPTKN-1-{'a' * 52}-{'b' * 26}"),
            "is not of the cluster that this token is for",
        ),
    ):
        done = agent(cluster, *words)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert not (cluster.home / "elsewhere" / "membership.json").exists()


def test_an_agent_is_no_other_node_than_it_joined_as(cluster: Cluster) -> None:
    cluster.kill("agent", signal.SIGTERM)
    done = agent(cluster, "--data-dir", str(cluster.home / "agent"), "--node", "other")
    assert done.returncode == 1
    assert f"this machine joined as node {cluster.node}, not as other" in done.stderr
    cluster.start_agent()


def test_a_nodes_certificate_lives_an_hour_at_least(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "skepd"), "manager", "--data-dir", str(tmp_path), "--node-cert-life", "59m"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "1h is the least" in done.stderr


def test_roles_and_what_is_refused(cluster: Cluster) -> None:
    promoted = cluster.ctl("node", "promote", cluster.node, check=False)
    assert "--etcd-endpoints" in promoted.stderr  # nobody could share the store
    manifest = {"apiVersion": "skep.dev/v1", "kind": "Node", "spec": {"role": "manager"}}
    cluster.apply({**manifest, "metadata": {"name": cluster.node}})
    assert "demote it first" in cluster.ctl("node", "rm", cluster.node, check=False).stderr
    last = cluster.ctl("node", "demote", cluster.node, check=False)
    assert "is the last manager" in last.stderr
    cluster.apply({**manifest, "metadata": {"name": "other"}})
    cluster.ctl("node", "demote", cluster.node)
    assert cluster.ctl("get", "nodes", "-l", "a!=b").stdout.count("manager") == 1
