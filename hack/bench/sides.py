"""What benchmarks beside Docker Swarm stand on: both sides on one engine, one image, one registry.

Both use the same Docker Engine and the same busybox image from a registry on loopback, and are
asked with their own command line (`ctl apply`, `docker service create -d`). Each side has one
service of `sleep` that ends at once on SIGTERM, restart delay 0, monitor 0, no health check;
containers are on the engine's default bridge on both. What differs: skep's agent makes its
containers' networks there itself (docs/network.md), and they find each other by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import local
from measure import Usage, named, usage, version_of

REGISTRY = "127.0.0.1:5057"
IMAGE = f"{REGISTRY}/skep/busybox:bench"
LIMIT = 300.0  # seconds between two events
PARALLELISM = 10  # of updates


class Engine:
    """The engine, seen from outside through its command line."""

    def running(self, label: str) -> list[str]:
        return run("docker", "ps", "-q", "--no-trunc", "--filter", f"label={label}").split()

    def all(self, label: str) -> list[str]:
        return run("docker", "ps", "-aq", "--filter", f"label={label}").split()

    def usage(self) -> Usage:
        return usage([*named("dockerd"), *named("containerd")])

    def memory(self) -> int:
        shims = named("containerd-shim")
        return self.usage().rss + usage(shims).rss


class Skep:
    name = "skep"
    label = "dev.skep.service=bench"

    def __init__(self, cluster: local.Cluster) -> None:
        self.cluster = cluster

    def create(self, replicas: int) -> None:
        self.cluster.ctl("apply", "-f", "-", stdin=json.dumps(self.service(replicas)))

    def update(self, replicas: int, turn: int) -> None:
        service = self.service(replicas, {"TURN": str(turn)})
        self.cluster.ctl("apply", "-f", "-", stdin=json.dumps(service))

    def remove(self) -> None:
        self.cluster.ctl("delete", "service", "bench")

    def usage(self) -> Usage:
        return sum(self.cluster.usage().values(), Usage())

    def service(self, replicas: int, env: dict[str, str] | None = None) -> dict[str, object]:
        return {
            "apiVersion": "skep.dev/v1",
            "kind": "Service",
            "metadata": {"name": "bench"},
            "spec": {
                "replicas": replicas,
                "template": {
                    "image": IMAGE,
                    "command": COMMAND,
                    "stopGracePeriod": "2s",
                    "env": env or {},
                },
                "restart": {"delay": "0s"},
                "update": {"parallelism": PARALLELISM, "monitor": "0s"},
            },
        }


COMMAND = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"]


class Swarm:
    name = "docker swarm"
    label = "com.docker.swarm.service.name=bench"

    def create(self, replicas: int) -> None:
        run(
            *("docker", "service", "create", "--detach", "--quiet", "--name", "bench"),
            *("--replicas", str(replicas), "--restart-delay", "0s"),
            *("--update-parallelism", str(PARALLELISM), "--update-monitor", "0s"),
            *("--stop-grace-period", "2s", "--entrypoint", COMMAND[0], IMAGE, *COMMAND[1:]),
        )

    def update(self, replicas: int, turn: int) -> None:
        run(
            "docker",
            "service",
            "update",
            "--detach",
            "--quiet",
            "--env-add",
            f"TURN={turn}",
            "bench",
        )

    def remove(self) -> None:
        run("docker", "service", "rm", "bench")

    def usage(self) -> Usage:
        return Usage()


Side = Skep | Swarm


def stop(engine: Engine, side: Side) -> None:
    side.remove()
    local.until(lambda: not engine.all(side.label), f"{side.name}'s containers removed", LIMIT)


@contextlib.contextmanager
def events(side: Side, *actions: str) -> Iterator[Callable[[], tuple[str, float]]]:
    """Within: a function that gives the side's next event: its action, and when it was, by the
    engine's clock, in seconds since the epoch. Raises TimeoutError.
    """
    wanted = [word for action in actions for word in ("--filter", f"event={action}")]
    process = subprocess.Popen(
        [
            *("docker", "events", "--filter", "type=container", *wanted),
            *("--filter", f"label={side.label}", "--format", "{{.Action}} {{.TimeNano}}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    out = process.stdout
    if out is None:
        raise RuntimeError("docker events has no output")
    time.sleep(0.3)  # the command line gives no sign that its subscription stands

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"{side.name}: nothing happened for {LIMIT:.0f} s")

    def following() -> tuple[str, float]:
        signal.signal(signal.SIGALRM, late)
        signal.alarm(int(LIMIT))
        try:
            action, nanoseconds = out.readline().split()
        finally:
            signal.alarm(0)
        return action, int(nanoseconds) / 1e9

    try:
        yield following
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def starts(side: Side) -> Iterator[Callable[[int], float]]:
    """Within: a function that waits for that many starts and says when the last was."""
    with events(side, "start") as following:
        yield lambda count: max(following()[1] for _ in range(count))


def versions_used() -> dict[str, str]:
    return {
        "skep": version_of(str(local.BIN / "skepd"), "--version"),
        "docker": run("docker", "version", "-f", "{{.Server.Version}}").strip(),
        "etcd": version_of("etcd", "--version"),
    }


@contextlib.contextmanager
def registry() -> Iterator[None]:
    """A registry on loopback that holds the image."""
    home = Path(tempfile.mkdtemp(prefix="skep-registry-"))
    (home / "config.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {home}/data}}}}\n"
        f"http: {{addr: '{REGISTRY}'}}\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
    )
    program = shutil.which("docker-registry") or "/usr/bin/docker-registry"
    process = subprocess.Popen(
        [program, "serve", str(home / "config.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
    )
    try:
        local.image("busybox")
        run("docker", "tag", "skep/busybox:test", IMAGE)
        local.until(lambda: pushed(), "the image in the registry")
        yield
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run(["docker", "rmi", IMAGE], capture_output=True, check=False)


def pushed() -> bool:
    done = subprocess.run(["docker", "push", "-q", IMAGE], capture_output=True, check=False)
    return done.returncode == 0


@contextlib.contextmanager
def swarm() -> Iterator[None]:
    state = run("docker", "info", "-f", "{{.Swarm.LocalNodeState}}").strip()
    if state != "inactive":
        raise SystemExit(f"this engine is already part of a swarm ({state}); use one that is not")
    run("docker", "swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        yield
    finally:
        run("docker", "swarm", "leave", "--force")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
