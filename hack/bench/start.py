"""Time from the user's command to running containers, skep beside Docker Swarm.

    hack/bench/start [--quick] [--runs N]

Both sides use the same Docker Engine and the same busybox image from a registry on loopback, take
turns, and are asked with their own command line (`ctl apply`, `docker service create -d`). The
engine's own event stream says when the last container has started. Each side has one service of
`sleep` that ends at once on SIGTERM, restart delay 0, no health check. What differs: skep attaches
containers to a bridge of their namespace, where services find each other by name; Swarm to the
engine's default bridge.

CPU is that of all processes of the side and of the engine they share, from the command to the
last container; memory is resident, at the largest size.
"""

from __future__ import annotations

import argparse
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
from measure import Row, Usage, named, report, row, say, usage, version_of

REGISTRY = "127.0.0.1:5057"
IMAGE = f"{REGISTRY}/skep/busybox:bench"
LIMIT = 300.0  # seconds a start may take


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

    def remove(self) -> None:
        self.cluster.ctl("delete", "service", "bench")

    def usage(self) -> Usage:
        return sum(self.cluster.usage().values(), Usage())

    def service(self, replicas: int) -> dict[str, object]:
        return {
            "apiVersion": "skep.dev/v1",
            "kind": "Service",
            "metadata": {"name": "bench"},
            "spec": {
                "replicas": replicas,
                "template": {"image": IMAGE, "command": COMMAND, "stopGracePeriod": "2s"},
                "restart": {"delay": "0s"},
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
            *("--stop-grace-period", "2s", "--entrypoint", COMMAND[0], IMAGE, *COMMAND[1:]),
        )

    def remove(self) -> None:
        run("docker", "service", "rm", "bench")

    def usage(self) -> Usage:
        return Usage()


Side = Skep | Swarm


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1 and 10 replicas, one run")
    parser.add_argument("--runs", type=int, default=0, help="of each size and side (3)")
    options = parser.parse_args()
    sizes = [1, 10] if options.quick else [1, 10, 100]
    runs = options.runs or (1 if options.quick else 3)

    engine = Engine()
    with local.engine(), registry(), swarm(), local.manager() as cluster:
        local.add_agent(cluster)
        sides: list[Side] = [Skep(cluster), Swarm()]
        for side in sides:  # a warm-up of each: the image is pulled, caches are filled
            start(engine, side, 1)
            stop(engine, side)
        rows: list[Row] = []
        for size in sizes:
            rows += measure(engine, sides, size, runs, last=size == sizes[-1])
        versions = versions_used()
    report("start", rows, versions, quick=options.quick)


def versions_used() -> dict[str, str]:
    return {
        "skep": version_of(str(local.BIN / "skepd"), "--version"),
        "docker": run("docker", "version", "-f", "{{.Server.Version}}").strip(),
        "etcd": version_of("etcd", "--version"),
    }


def measure(engine: Engine, sides: list[Side], size: int, runs: int, *, last: bool) -> list[Row]:
    took: dict[str, list[float]] = {side.name: [] for side in sides}
    cpu: dict[str, list[float]] = {side.name: [] for side in sides}
    memory: dict[str, list[float]] = {side.name: [] for side in sides}
    back: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(runs):
        for side in sides:
            seconds, spent = start(engine, side, size)
            took[side.name].append(seconds)
            cpu[side.name].append(spent.cpu)
            memory[side.name].append((engine.memory() + side.usage().rss) / 2**20)
            back[side.name].append(kill_one(engine, side))
            stop(engine, side)
            say(
                f"{size} replicas, run {number + 1}, {side.name}: {seconds:.2f} s, "
                f"{spent.cpu:.2f} CPU s; a killed one back in {back[side.name][-1]:.2f} s"
            )

    def pair(case: str, unit: str, found: dict[str, list[float]], goal: float | None) -> Row:
        theirs = found[Swarm.name]
        return row(case, unit, found["skep"], peer=Swarm.name, theirs=theirs, goal=goal)

    replicas = f"{size} replica{'s' if size > 1 else ''}"
    rows = [
        pair(f"{replicas} running", "s", took, 0.8),
        pair(f"{replicas}: CPU", "s", cpu, 1.0),
        pair(f"a killed container back, of {size}", "s", back, 0.5),
    ]
    if last:
        rows.append(pair(f"{replicas}: memory", "MiB", memory, 1.0))
    return rows


def start(engine: Engine, side: Side, replicas: int) -> tuple[float, Usage]:
    """Seconds from the command to the last container's start, and what they cost."""
    before = side.usage() + engine.usage()
    with starts(side) as wait_for:
        begun = time.time()
        side.create(replicas)
        finished = wait_for(replicas)
    return finished - begun, side.usage() + engine.usage() - before


def kill_one(engine: Engine, side: Side) -> float:
    """Seconds from a container's death to the start of the one in its place."""
    victim = engine.running(side.label)[0]
    with starts(side) as wait_for:
        begun = time.time()
        run("docker", "kill", victim)
        return wait_for(1) - begun


def stop(engine: Engine, side: Side) -> None:
    side.remove()
    local.until(lambda: not engine.all(side.label), f"{side.name}'s containers removed", LIMIT)


@contextlib.contextmanager
def starts(side: Side) -> Iterator[Callable[[int], float]]:
    """Within: a function that waits for that many containers to start and says when the last did.

    Times are the engine's own, in seconds since the epoch. Raises TimeoutError.
    """
    process = subprocess.Popen(
        [
            *("docker", "events", "--filter", "type=container", "--filter", "event=start"),
            *("--filter", f"label={side.label}", "--format", "{{.TimeNano}}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    out = process.stdout
    if out is None:
        raise RuntimeError("docker events has no output")
    time.sleep(0.3)  # the command line gives no sign that its subscription stands

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"{side.name}: its containers have not started after {LIMIT:.0f} s")

    def wait_for(count: int) -> float:
        signal.signal(signal.SIGALRM, late)
        signal.alarm(int(LIMIT))
        try:
            return max(int(out.readline()) for _ in range(count)) / 1e9
        finally:
            signal.alarm(0)

    try:
        yield wait_for
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- what it stands on


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


if __name__ == "__main__":
    main()
