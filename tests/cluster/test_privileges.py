"""What a container may touch of its node, told from inside the container and from its engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, Document, service, until
from tests.cluster.test_template import Inside

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


@pytest.fixture(scope="module")
def opened(cluster: Cluster) -> Iterator[Inside]:
    """A task with every field that gives it something, but for `privileged`, which gives all."""
    template: Document = {
        "devices": [
            {"source": "/dev/fuse", "target": "/dev/fused", "permissions": "r"},
            {"source": "/dev/kmsg"},
        ],
        "security": {"noNewPrivileges": False, "seccomp": "unconfined", "appArmor": "unconfined"},
        "sysctls": {"net.core.somaxconn": 321, "net.ipv4.ip_local_port_range": "20000 30000"},
        "ulimits": [{"name": "nofile", "soft": 512, "hard": 1024}, {"name": "core", "soft": 0}],
        "shmSize": "16Mi",
        "extraHosts": {"db.example.com": "192.0.2.7", "six": "2001:db8::7", "me": "host-gateway"},
        "dns": {"servers": ["192.0.2.53"], "search": ["example.com"], "options": ["ndots:2"]},
        "logging": {"options": {"max-size": "1m"}},
    }
    cluster.apply(service("opened", **template), service("plain"))
    (task,) = cluster.until_running("opened", 1)
    yield Inside(cluster, task)
    cluster.ctl("delete", "service", "opened", check=False)
    until(lambda: not cluster.running_of("opened", every=True), "its container is gone")


@pytest.fixture(scope="module")
def plain(cluster: Cluster, opened: Inside) -> Iterator[Inside]:
    (task,) = cluster.until_running("plain", 1)
    yield Inside(cluster, task)
    cluster.ctl("delete", "service", "plain", check=False)
    until(lambda: not cluster.running_of("plain", every=True), "its container is gone")


def status_of(inside: Inside, field: str) -> str:
    return inside.run(f"grep {field}: /proc/1/status").split()[1]


def test_the_defaults_are_the_safe_ones(plain: Inside) -> None:
    assert status_of(plain, "NoNewPrivs") == "1"
    assert status_of(plain, "Seccomp") == "2", "filtered"
    host = plain.engine["HostConfig"]
    assert host["Privileged"] is False
    assert not host["Devices"]
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "2"},
    }
    assert plain.run("test -e /dev/kmsg || echo none") == "none"


def test_devices(opened: Inside) -> None:
    assert opened.run(": </dev/fused && echo readable") == "readable"
    assert "not permitted" in opened.run("(: >/dev/fused) 2>&1 || true")
    assert opened.run("test -c /dev/kmsg && echo there") == "there"


def test_security_options(opened: Inside) -> None:
    assert status_of(opened, "NoNewPrivs") == "0"
    assert status_of(opened, "Seccomp") == "0", "unconfined"
    assert "apparmor=unconfined" in opened.engine["HostConfig"]["SecurityOpt"]


def test_sysctls(opened: Inside) -> None:
    assert opened.run("cat /proc/sys/net/core/somaxconn") == "321"
    ports = opened.run("cat /proc/sys/net/ipv4/ip_local_port_range")
    assert ports.split() == ["20000", "30000"]


def test_ulimits(opened: Inside) -> None:
    files = opened.run("grep 'Max open files' /proc/1/limits").split()
    assert files[3:5] == ["512", "1024"]
    core = opened.run("grep 'Max core file size' /proc/1/limits").split()
    assert core[4:6] == ["0", "0"]


def test_shm_size(opened: Inside) -> None:
    assert "size=16384k" in opened.mount("/dev/shm")[3].split(",")


def test_dns(opened: Inside) -> None:
    lines = opened.run("cat /etc/resolv.conf").splitlines()
    assert "nameserver 192.0.2.53" in lines
    assert "search example.com" in lines
    assert "options ndots:2" in lines


def test_log_options_leave_the_rotation(opened: Inside) -> None:
    options = {"max-size": "1m", "max-file": "2"}
    assert opened.engine["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": options}


def hosts(inside: Inside) -> dict[str, str]:
    lines = [line.split() for line in inside.run("cat /etc/hosts").splitlines()]
    return {name: line[0] for line in lines for name in line[1:]}


def test_extra_hosts_stand_beside_the_services(
    cluster: Cluster, opened: Inside, plain: Inside
) -> None:
    until(lambda: "plain.default" in hosts(opened), "the other service is known by name")
    known = hosts(opened)
    assert known["db.example.com"] == "192.0.2.7"
    assert known["six"] == "2001:db8::7"
    route = opened.run("ip route show default").split()
    assert known["me"] == route[route.index("via") + 1], "its gateway, the node"
    assert known["plain.default"] == hosts(plain)["plain"]
    assert "db.example.com" not in hosts(plain), "they are its own"


def test_extra_hosts_outlast_the_agent(cluster: Cluster, opened: Inside) -> None:
    cluster.kill("agent")
    cluster.start_agent()
    cluster.apply(service("later"))
    cluster.until_running("later", 1)
    until(lambda: "later" in hosts(opened), "who came later is known by name")
    assert hosts(opened)["db.example.com"] == "192.0.2.7"
    cluster.ctl("delete", "service", "later")


def test_privileged(cluster: Cluster) -> None:
    """Where this machine has all rights; else its engine says which it may not give."""
    mighty = service("mighty", privileged=True)
    mighty["spec"]["restart"] = {"condition": "none"}
    cluster.apply(mighty)

    def settled() -> list[Document]:
        tasks = [task for task in cluster.items("tasks") if task["spec"]["service"] == "mighty"]
        return [t for t in tasks if t["status"].get("state") in ("Running", "Rejected", "Failed")]

    (task,) = until(settled, "it runs, or says why not")
    inside = Inside(cluster, task)
    assert inside.engine["HostConfig"]["Privileged"] is True
    if task["status"]["state"] == "Running":
        assert int(status_of(inside, "CapEff"), 16) == bounding_set()
        assert inside.run("test -e /dev/kmsg && echo there") == "there"
    else:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        assert bounding_set() != (2 << last) - 1, "nothing keeps this machine from it"
        assert "unable to apply caps" in task["status"]["error"]
    cluster.ctl("delete", "service", "mighty")


def bounding_set() -> int:
    """The rights that this machine's processes may have at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd"))


def test_a_seccomp_profile_of_ones_own_and_an_selinux_label(cluster: Cluster) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "args": []},
        ],
    }
    label = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0:c1,c2"}
    security = {"seccompProfile": json.dumps(profile), "seLinux": label}
    cluster.apply(service("held", security=security))
    (task,) = cluster.until_running("held", 1)
    held = Inside(cluster, task)
    said = held.run("touch /tmp/x && mkdir /tmp/d 2>&1 || true")
    assert "Operation not permitted" in said, "no directory, but files"
    assert held.run("ls /tmp") == "x"
    options = held.engine["HostConfig"]["SecurityOpt"]
    assert {f"label={part}:{value}" for part, value in label.items()} <= set(options)
    assert "no-new-privileges" in options
    cluster.ctl("delete", "service", "held")


def test_a_log_driver(cluster: Cluster) -> None:
    cluster.apply(service("local", "echo hello; sleep 100000", logging={"driver": "local"}))
    (task,) = cluster.until_running("local", 1)
    assert Inside(cluster, task).engine["HostConfig"]["LogConfig"]["Type"] == "local"
    until(lambda: "hello" in cluster.ctl("logs", "service/local").stdout, "ctl logs reads it")
    cluster.ctl("delete", "service", "local")


@pytest.mark.parametrize(
    ("name", "template", "words"),
    [
        ("nolog", {"logging": {"driver": "no-such-driver"}}, "no-such-driver"),
        (
            "noaction",
            {"security": {"seccompProfile": '{"defaultAction": "SCMP_ACT_WHAT"}'}},
            "SCMP_ACT_WHAT",
        ),
        ("nodevice", {"devices": [{"source": "/dev/no-such-device"}]}, "/dev/no-such-device"),
    ],
)
def test_what_the_node_does_not_have_is_named_in_the_error(
    cluster: Cluster, name: str, template: Document, words: str
) -> None:
    wanting = service(name, **template)
    wanting["spec"]["restart"] = {"condition": "none"}
    cluster.apply(wanting)

    def error() -> str:
        tasks = [task for task in cluster.items("tasks") if task["spec"]["service"] == name]
        return str(tasks[0]["status"].get("error", "")) if tasks else ""

    assert words in until(error, "it says what is not there")
    cluster.ctl("delete", "service", name)
