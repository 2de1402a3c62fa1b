"""Every field of the task template, told from inside the container that it made."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import IMAGE, Cluster, Document, free_port, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

FOREVER = "trap 'exit 0' TERM; sleep 100000 & wait"


def config(name: str, **data: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": name},
        "data": data,
    }


def secret(name: str, **data: str) -> Document:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": data,
    }


class Inside:
    """One running container, from inside and as the engine has it."""

    def __init__(self, cluster: Cluster, task: Document) -> None:
        self.task = task
        self.id: str = task["status"]["container"]["id"]
        self._cluster = cluster

    def run(self, script: str) -> str:
        return self._cluster.docker("exec", self.id, "sh", "-c", script).strip()

    @property
    def engine(self) -> dict[str, Any]:
        shown: list[dict[str, Any]] = json.loads(self._cluster.docker("inspect", self.id))
        return shown[0]

    def environment(self) -> dict[str, str]:
        lines = self.run("tr '\\0' '\\n' </proc/1/environ").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def mode(self, path: str) -> str:
        return self.run(f"stat -L -c '%a %u %g' {path}")

    def mount(self, path: str) -> list[str]:
        """Its last line in /proc/mounts: device, target, type, options."""
        lines = [line.split() for line in self.run("cat /proc/mounts").splitlines()]
        return [line for line in lines if line[1] == path][-1]


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bound")
    directory.chmod(0o755)  # the container's user is another
    (directory / "greeting").write_text("from the node\n")
    return directory


@pytest.fixture(scope="module")
def full(cluster: Cluster, bound: Path) -> Iterator[Inside]:
    """A task with every field that goes together with the others."""
    template = {
        "image": IMAGE,
        "command": ["sh", "-c"],
        "args": [FOREVER, "zero", "an argument"],
        "env": {"WORDS": "two words", "NUMBER": 3, "SHARE": 0.5},
        "workdir": "/var",
        "user": "1000:1000",
        "hostname": "named-by-hand",
        "labels": {"com.example.team": "bees"},
        "init": True,
        "readOnly": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "secrets": [
            {"name": "single"},
            {"name": "several"},
            {"name": "several", "key": "b", "target": "only-b", "uid": 1000, "gid": 999},
            {"name": "single", "target": "/srv/elsewhere", "mode": "0440", "gid": 1000},
        ],
        "configs": [{"name": "settings"}, {"name": "settings", "target": "/srv/s.ini"}],
        "mounts": [
            {"type": "bind", "source": str(bound), "target": "/bound", "readOnly": True},
            {"type": "volume", "source": "kept", "target": "/kept"},
            {"type": "volume", "target": "/nameless"},
            {"type": "tmpfs", "target": "/scratch", "size": "8Mi", "mode": "1777"},
        ],
        "resources": {
            "reservations": {"cpus": "10m", "memory": "8Mi"},
            "limits": {"cpus": 0.5, "memory": "64Mi", "pids": 50},
        },
        "healthcheck": {"command": ["true"], "interval": "1s", "timeout": "2s", "retries": 2},
        "stopSignal": "SIGINT",
        "stopGracePeriod": "1s",
        "ports": [{"target": 8080, "published": free_port()}, {"target": 5353, "protocol": "udp"}],
    }
    cluster.apply(
        secret("single", value="the only one"),
        secret("several", a="first", b="second"),
        config("settings", **{"settings.ini": "bees = many\n"}),
        {
            "apiVersion": "skep.dev/v1",
            "kind": "Service",
            "metadata": {"name": "full"},
            "spec": {"template": template},
        },
    )
    (task,) = cluster.until_running("full", 1)
    yield Inside(cluster, task)
    cluster.ctl("delete", "service", "full", check=False)
    until(lambda: not cluster.running_of("full", every=True), "its container is gone")
    cluster.docker("volume", "rm", "-f", "default_kept")


def test_command_and_args(full: Inside) -> None:
    words = full.run("tr '\\0' '\\n' </proc/1/cmdline").splitlines()
    assert words[-5:] == ["sh", "-c", FOREVER, "zero", "an argument"]


def test_env(full: Inside) -> None:
    environment = full.environment()
    assert environment["WORDS"] == "two words"
    assert environment["NUMBER"] == "3"
    assert environment["SHARE"] == "0.5"


def test_workdir_user_and_hostname(full: Inside) -> None:
    assert full.run("readlink /proc/1/cwd 2>/dev/null || pwd") == "/var"
    assert full.run("id -u; id -g").split() == ["1000", "1000"]
    assert full.run("hostname") == "named-by-hand"


def test_labels_are_beside_our_own(full: Inside) -> None:
    labels = full.engine["Config"]["Labels"]
    assert labels["com.example.team"] == "bees"
    assert labels["dev.skep.task"] == full.task["metadata"]["uid"]


def test_init_is_the_first_process(full: Inside) -> None:
    assert "init" in full.run("cat /proc/1/comm")


def test_the_root_is_read_only(full: Inside) -> None:
    assert "ro" in full.mount("/")[3].split(",")


def test_capabilities(full: Inside) -> None:
    """NET_BIND_SERVICE is the tenth; nothing else may ever be gained."""
    bounds = full.run("grep CapBnd /proc/1/status").split()[1]
    assert int(bounds, 16) == 1 << 10
    assert full.run("grep NoNewPrivs /proc/1/status").split()[1] == "1"


def test_secrets(full: Inside) -> None:
    assert full.run("cat /run/secrets/single") == "the only one"
    assert full.mode("/run/secrets/single") == "444 0 0"
    assert full.run("ls /run/secrets/several").split() == ["a", "b"]
    assert full.run("cat /run/secrets/several/a /run/secrets/several/b") == "firstsecond"
    assert full.run("cat /run/secrets/only-b") == "second"
    assert full.mode("/run/secrets/only-b") == "444 1000 999"
    assert full.run("cat /srv/elsewhere") == "the only one"
    assert full.mode("/srv/elsewhere") == "440 0 1000"
    for path in ("/run/secrets", "/srv/elsewhere"):
        mount = full.mount(path)
        assert mount[2] == "tmpfs"
        assert "ro" in mount[3].split(",")


def test_configs(full: Inside) -> None:
    for path in ("/run/configs/settings", "/srv/s.ini"):
        assert full.run(f"cat {path}") == "bees = many"
    for path in ("/run/configs", "/srv/s.ini"):
        assert "ro" in full.mount(path)[3].split(",")


def test_mounts(full: Inside, bound: Path) -> None:
    assert full.run("cat /bound/greeting") == "from the node"
    assert "ro" in full.mount("/bound")[3].split(",")
    for path in ("/kept", "/nameless"):
        assert "rw" in full.mount(path)[3].split(",")
    scratch = full.mount("/scratch")
    assert scratch[2] == "tmpfs"
    assert "size=8192k" in scratch[3].split(",")
    assert full.mode("/scratch").split()[0] == "1777"


def test_limits(full: Inside) -> None:
    memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
    pids = "cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max"
    cpus = (
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us"
        " || cat /sys/fs/cgroup/cpu.max"
    )
    assert full.run(f"({memory}) 2>/dev/null") == str(64 * 2**20)
    assert full.run(f"({pids}) 2>/dev/null") == "50"
    quota, period = map(int, full.run(f"({cpus}) 2>/dev/null").split())
    assert quota / period == 0.5


def test_health_stop_signal_and_grace(full: Inside) -> None:
    assert full.engine["State"]["Health"]["Status"] == "healthy"
    assert full.task["status"]["container"]["health"] == "healthy"
    assert full.engine["Config"]["StopSignal"] == "SIGINT"
    assert full.engine["Config"]["StopTimeout"] == 1


def test_ports_are_published_and_told(full: Inside) -> None:
    ports = {port["target"]: port for port in full.task["status"]["ports"]}
    bindings = full.engine["NetworkSettings"]["Ports"]
    assert bindings["8080/tcp"][0]["HostPort"] == str(ports[8080]["published"])
    assert ports[5353]["protocol"] == "udp"
    assert bindings["5353/udp"][0]["HostPort"] == str(ports[5353]["published"])


# What needs a service of its own.


def test_a_published_port_answers(cluster: Cluster) -> None:
    port = free_port()
    page = "mkdir -p /tmp/www && echo bees >/tmp/www/index.html && httpd -f -p 8080 -h /tmp/www"
    cluster.apply(service("page", page, ports=[{"target": 8080, "published": port}]))
    cluster.until_running("page", 1)

    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as body:
                return str(body.read().decode())
        except OSError:
            return ""

    assert until(answer, "the page answers") == "bees\n"
    cluster.ctl("delete", "service", "page")


def test_the_stop_signal_arrives_and_the_grace_is_given(cluster: Cluster) -> None:
    script = "trap 'echo got USR1; sleep 1; echo ended in order; exit 0' USR1; sleep 100000 & wait"
    quick = service("obeys", stopSignal="SIGUSR1", stopGracePeriod="20s")
    quick["spec"]["template"]["command"] = ["sh", "-c", script]
    stubborn = service("stubborn", stopGracePeriod="1s")
    stubborn["spec"]["template"]["command"] = ["sh", "-c", "trap '' TERM; sleep 100000"]
    cluster.apply(quick, stubborn)
    (task,) = cluster.until_running("obeys", 1)
    cluster.until_running("stubborn", 1)

    # Followed from before the end: the container is removed with its logs.
    logs = ["docker", "-H", f"unix://{cluster.socket}", "logs", "-f"]
    listener = subprocess.Popen(
        [*logs, task["status"]["container"]["id"]], stdout=subprocess.PIPE, text=True
    )
    cluster.ctl("scale", "service", "obeys", "stubborn", "--replicas", "0")
    start = time.monotonic()
    both = ("obeys", "stubborn")
    until(lambda: not any(map(cluster.running_of, both)), "both have ended")
    assert time.monotonic() - start < 15, "the grace of the stubborn one is a second"
    assert "ended in order" in listener.communicate(timeout=10)[0]
    cluster.ctl("delete", "service", "obeys", "stubborn")


def test_a_task_runs_only_when_it_is_healthy(cluster: Cluster) -> None:
    check = {"command": ["test", "-e", "/tmp/well"], "interval": "1s", "startPeriod": "60s"}
    cluster.apply(service("patient", healthcheck=check))

    def starting() -> list[Document]:
        tasks = cluster.tasks("patient", "Starting")
        return [task for task in tasks if task["status"].get("container", {}).get("id")]

    (task,) = until(starting, "it is starting")
    cluster.docker("exec", task["status"]["container"]["id"], "touch", "/tmp/well")
    cluster.until_running("patient", 1)
    cluster.ctl("delete", "service", "patient")


def test_an_unhealthy_task_is_replaced_and_says_why(cluster: Cluster) -> None:
    check = {
        "command": ["sh", "-c", "test ! -e /tmp/ill || { echo it aches; false; }"],
        "interval": "1s",
        "retries": 1,
    }
    cluster.apply(service("ill", healthcheck=check))
    (task,) = cluster.until_running("ill", 1)
    cluster.docker("exec", task["status"]["container"]["id"], "touch", "/tmp/ill")

    def failed() -> str:
        old = cluster.find("task", task["metadata"]["name"])
        return str(old["status"].get("error", "")) if old else ""

    assert "it aches" in until(failed, "it failed, and says why")
    cluster.until_running("ill", 1)
    cluster.ctl("delete", "service", "ill")


def test_a_task_that_runs_out_of_memory_says_so(cluster: Cluster) -> None:
    hungry = service("hungry", resources={"limits": {"memory": "16Mi"}})
    # A string that doubles, in the container's only process.
    grow = "x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done"
    hungry["spec"]["template"]["command"] = ["sh", "-c", grow]
    hungry["spec"]["restart"] = {"condition": "none"}
    cluster.apply(hungry)

    def ended() -> list[Document]:
        tasks = cluster.items("tasks")
        mine = [task for task in tasks if task["spec"]["service"] == "hungry"]
        return [task for task in mine if task["status"]["state"] == "Failed"]

    (task, *_) = until(ended, "it failed")
    assert task["status"]["container"]["oomKilled"] is True
    assert "memory" in task["status"]["error"]
    cluster.ctl("delete", "service", "hungry")


def test_force_update_makes_another_task_of_the_same_content(cluster: Cluster) -> None:
    cluster.apply(service("again"))
    (first,) = cluster.until_running("again", 1)
    cluster.apply(service("again", forceUpdate=1))

    def another() -> bool:
        tasks = cluster.tasks("again", "Running")
        return bool(tasks) and tasks[0]["metadata"]["uid"] != first["metadata"]["uid"]

    until(another, "another task runs")
    cluster.ctl("delete", "service", "again")


def test_an_image_that_does_not_exist_is_named_in_the_error(cluster: Cluster) -> None:
    absent = service("absent", image="127.0.0.1:9/no/such:image")
    absent["spec"]["restart"] = {"condition": "none"}
    cluster.apply(absent)

    def refused() -> str:
        tasks = [task for task in cluster.items("tasks") if task["spec"]["service"] == "absent"]
        return str(tasks[0]["status"].get("error", "")) if tasks else ""

    assert "127.0.0.1:9/no/such:image" in until(refused, "it says which image")
    cluster.ctl("delete", "service", "absent")


def test_a_task_waits_for_its_secret_and_says_for_which(cluster: Cluster) -> None:
    done = cluster.apply(service("early", secrets=[{"name": "later"}]))
    assert "later" in done.stdout + done.stderr, "apply warns"

    def waits() -> bool:
        tasks = cluster.tasks("early")
        return bool(tasks) and "secret default/later" in tasks[0]["status"].get("message", "")

    until(waits, "it says which secret it waits for")
    cluster.apply(secret("later", value="here"))
    cluster.until_running("early", 1)
    cluster.ctl("delete", "service", "early")
    cluster.ctl("delete", "secret", "later")
