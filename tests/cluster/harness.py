"""A real cluster for tests: a manager with its etcd, agents, containers; all of it on this machine.

Everything is told from outside, as a user or an operator would: `ctl`, `docker`, signals. Parts
can be killed and started again on their data. Two clusters can stand beside each other: ports,
directories and nodes' names are their own.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Document = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
POLL = 0.1  # seconds
GRACE = 30.0  # seconds for a daemon to end after SIGTERM
IMAGE = "skep/busybox:test"
SOCKET = "/var/run/docker.sock"


def until(reached: Callable[[], T], what: str, limit: float = 90.0) -> T:
    """What `reached` gives once that is true. Raises AssertionError, naming `what`."""
    end = time.monotonic() + limit
    while True:
        found = reached()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what} (last: {found!r})")
        time.sleep(POLL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int, name: str) -> list[int]:
    """The processes below `pid` that have this name."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                head, _, tail = (entry / "stat").read_text().rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(tail.split()[1]) == pid and head.partition("(")[2] == name:
                found.append(int(entry.name))
    return found


@dataclass
class Cluster:
    home: Path
    socket: str = SOCKET  # of the container engine
    driver: str = "docker"  # or simulated: containers that exist in the agent alone
    port: int = field(default_factory=free_port)
    node: str = field(default_factory=lambda: f"node-{secrets.token_hex(4)}")
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    agent_options: tuple[str, ...] = ()
    manager_options: tuple[str, ...] = ()

    # The parts.

    def start_manager(self) -> None:
        self._start(
            "manager",
            *("manager", "--data-dir", str(self.home / "manager")),
            *("--listen", f"127.0.0.1:{self.port}"),
            *self.manager_options,
        )
        self.until_up()

    def until_up(self) -> None:
        def answers() -> bool:
            self._must_run("manager")
            return self.ctl("get", "namespaces", check=False).returncode == 0

        until(answers, "the API answers")

    def start_agent(self, *, wait: bool = True) -> None:
        joined = (self.home / "agent" / "membership.json").exists()
        token = "" if joined else self.ctl("token", "show", "worker", "-q").stdout.strip()
        self._start(
            "agent",
            *("agent", "--data-dir", str(self.home / "agent")),
            *("--run-dir", str(self.home / "run"), "--node", self.node),
            *("--server", f"https://127.0.0.1:{self.port}"),
            *("--docker-host", f"unix://{self.socket}", "--driver", self.driver),
            *self.agent_options,
            environment={"SKEP_TOKEN": token} if token else {},
        )
        if wait:
            until(self.ready, f"node {self.node} is ready")

    def ready(self) -> bool:
        self._must_run("agent")
        node = self.find("node", self.node)
        conditions = node.get("status", {}).get("conditions", []) if node else []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def kill(self, part: str, number: int = signal.SIGKILL) -> None:
        """Send the signal and wait for the end."""
        process = self.running.pop(part)
        process.send_signal(number)
        process.wait(GRACE)

    def etcd(self) -> int:
        """The pid of the manager's etcd."""
        found = children(self.running["manager"].pid, "etcd")
        if len(found) != 1:
            raise AssertionError(f"the manager has {len(found)} etcds")
        return found[0]

    def log(self, part: str) -> str:
        path = self.home / f"{part}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # What users do.

    def ctl(
        self, *words: str, stdin: str = "", check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run `ctl`. Raises AssertionError with its words where it fails and `check` is on."""
        done = subprocess.run(
            [str(BIN / "ctl"), *words],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"ctl {' '.join(words)}: {done.returncode}\n{done.stderr}")
        return done

    def environment(self) -> dict[str, str]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith("SKEP_")}
        return mine | {"SKEP_CONFIG": str(self.home / "manager" / "admin.yaml")}

    def apply(self, *documents: Document, check: bool = True) -> subprocess.CompletedProcess[str]:
        """JSON is YAML, so documents go as they are."""
        text = "\n---\n".join(json.dumps(document) for document in documents)
        return self.ctl("apply", "-f", "-", stdin=text, check=check)

    def find(self, kind: str, name: str, namespace: str = "default") -> Document | None:
        done = self.ctl("get", kind, name, "-n", namespace, "-o", "json", check=False)
        found: Document | None = json.loads(done.stdout) if done.returncode == 0 else None
        return found

    def items(self, kind: str, *words: str) -> list[Document]:
        items: list[Document] = json.loads(self.ctl("get", kind, "-o", "json", *words).stdout)[
            "items"
        ]
        return items

    def tasks(self, service: str, state: str = "", namespace: str = "default") -> list[Document]:
        """Those wanted, in that state where one is given."""
        return [
            task
            for task in self.items("tasks", "-n", namespace)
            if task["spec"]["service"] == service
            and task["spec"].get("desiredState", "Running") == "Running"
            and state in ("", task["status"]["state"])
        ]

    def until_running(self, service: str, replicas: int, limit: float = 120) -> list[Document]:
        """The service's running tasks, once there are that many and no others wanted."""

        def reached() -> list[Document]:
            tasks = self.tasks(service)
            good = [task for task in tasks if task["status"]["state"] == "Running"]
            return good if len(good) == len(tasks) == replicas else []

        return until(reached, f"{replicas} tasks of {service} run", limit)

    # What is seen from outside.

    def docker(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {done.stderr}")
        return done.stdout

    def containers(self, *, every: bool = False) -> set[str]:
        """The full ids of this cluster's containers that run, or of all."""
        label = f"label=dev.skep.node={self.node}"
        words = ["ps", "-q", "--no-trunc", "--filter", label]
        return set(self.docker(*words, *(["-a"] if every else [])).split())

    def running_of(self, service: str, *, every: bool = False) -> set[str]:
        """The ids of the service's containers that run, or of all."""
        labels = (f"label=dev.skep.node={self.node}", f"label=dev.skep.service={service}")
        words = ["ps", "-q", *(word for label in labels for word in ("--filter", label))]
        return set(self.docker(*words, *(["-a"] if every else [])).split())

    def pids(self) -> dict[str, int]:
        """Of each running container: its first process. Another one means it was restarted."""
        ids = sorted(self.containers())
        if not ids:
            return {}
        shown = self.docker("inspect", "-f", "{{.Id}} {{.State.Pid}}", *ids)
        return {line.split()[0]: int(line.split()[1]) for line in shown.splitlines()}

    # Its life.

    def start(self) -> None:
        self.start_manager()
        self.start_agent()

    def stop(self) -> None:
        """End all, remove all that it made. Raises AssertionError where a daemon does not end."""
        stuck = []
        for part in ("agent", "manager"):
            if part in self.running:
                process = self.running.pop(part)
                process.terminate()
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    stuck.append(part)
        self.remove_containers()
        self.unmount()
        if stuck:
            raise AssertionError(f"did not end within {GRACE:g} s of SIGTERM: {stuck}")

    def remove_containers(self) -> None:
        if self.driver != "docker":
            return
        ids = sorted(self.containers(every=True))
        if ids:
            self.docker("rm", "-f", "-v", *ids)

    def unmount(self) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted(mounts, reverse=True):
            if mount.startswith(f"{self.home}/"):
                subprocess.run(["umount", mount], check=True)

    def _start(
        self, part: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{part}.log").open("ab") as log:
            self.running[part] = subprocess.Popen(
                [str(BIN / "skepd"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environment(), **(environment or {})},
            )

    def _must_run(self, part: str) -> None:
        process = self.running[part]
        if process.poll() is not None:
            last = "\n".join(self.log(part).splitlines()[-20:])
            raise AssertionError(f"{part} ended with {process.returncode}:\n{last}")


def service(name: str, *script: str, replicas: int = 1, **template: Any) -> Document:
    """A service of busybox which runs the shell script, or sleeps."""
    words = " ".join(script) or "sleep 100000"
    # A shell as the first process does not die of SIGTERM; exec'd programs with init do.
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "template": {
                "image": IMAGE,
                "command": ["sh", "-c", f"trap 'exit 0' TERM; {words} & wait"],
                "stopGracePeriod": "2s",
                **template,
            },
            "restart": {"delay": "0s"},
        },
    }
