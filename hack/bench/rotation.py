"""A secret's new value in 30 containers, skep beside Docker Swarm: how long until all see it.

    hack/bench/secrets [--quick] [--runs N]

The sides take turns; `sides.py` says what they have in common and what differs. Time is from the
first command to the moment when every replica reads the new value at /run/secrets/value, looked
at from outside both, through each container's own root (/proc/<pid>/root). Commands are what a user
types: `ctl secret set` with the value on stdin; `docker secret create` and `docker service update
--secret-rm --secret-add`, as Swarm's secrets can't change.

    all at once        every replica is replaced, parallelism 0, monitor 0
    10 at a time       parallelism 10, monitor 0
    none               skep swaps the file in the running containers
    signal             and sends SIGHUP: until each container's process has read the file anew

Swarm has nothing like the last two: what stands beside them is its fastest way, all at once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import local
from measure import Row, Usage, report, row, say
from sides import IMAGE, LIMIT, Engine, registry, run, swarm, versions_used

MARK = "skep-bench-rotation"  # the last word of the containers' command line
# Ends at once on SIGTERM; on SIGHUP it reads the secret anew.
SCRIPT = (
    "trap 'exit 0' TERM; trap 'cp /run/secrets/value /tmp/seen' HUP;"
    " sleep 100000 & p=$!; while kill -0 $p; do wait $p; done"
)
COMMAND = ["sh", "-c", SCRIPT, MARK]
SECRET, SEEN = "run/secrets/value", "tmp/seen"
SEVERAL = 10  # at a time


def seen(path: str) -> list[str]:
    """What each replica that runs reads there; "" where there is nothing."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if MARK.encode() not in words or words[0] != b"sh":
                continue
            found.append((entry / "root" / path).read_text())
        except FileNotFoundError:
            found.append("")
        except (ProcessLookupError, PermissionError, OSError):
            continue  # it has just ended
    return found


def until_seen(value: str, replicas: int, path: str = SECRET) -> None:
    """Raises TimeoutError."""
    end = time.monotonic() + LIMIT
    while sorted(seen(path)) != [value] * replicas:
        if time.monotonic() > end:
            raise TimeoutError(f"not all of {replicas} replicas see {value}: {seen(path)}")
        time.sleep(0.01)


class Skep:
    name = "skep"
    label = "dev.skep.service=bench"

    def __init__(self, cluster: local.Cluster, on_change: Any = "restart") -> None:
        self.cluster = cluster
        self.on_change = on_change

    def create(self, replicas: int, parallelism: int, value: str) -> None:
        self.set(value)
        document = {
            "apiVersion": "skep.dev/v1",
            "kind": "Service",
            "metadata": {"name": "bench"},
            "spec": {
                "replicas": replicas,
                "template": {
                    "image": IMAGE,
                    "command": COMMAND,
                    "stopGracePeriod": "2s",
                    "secrets": [{"name": "value", "onChange": self.on_change}],
                },
                "restart": {"delay": "0s"},
                "update": {"parallelism": parallelism, "monitor": "0s"},
            },
        }
        self.cluster.ctl("apply", "-f", "-", stdin=json.dumps(document))

    def set(self, value: str) -> None:
        self.cluster.ctl("secret", "set", "value", "value=-", "--create", stdin=value)

    def remove(self) -> None:
        self.cluster.ctl("delete", "service", "bench")

    def usage(self) -> Usage:
        return sum(self.cluster.usage().values(), Usage())


class Swarm:
    name = "docker swarm"
    label = "com.docker.swarm.service.name=bench"

    def __init__(self) -> None:
        self.secret = ""

    def create(self, replicas: int, parallelism: int, value: str) -> None:
        self.secret = f"value-{value}"
        make(self.secret, value)
        run(
            *("docker", "service", "create", "--detach", "--quiet", "--name", "bench"),
            *("--replicas", str(replicas), "--restart-delay", "0s"),
            *("--update-parallelism", str(parallelism), "--update-monitor", "0s"),
            *("--secret", f"source={self.secret},target=value", "--stop-grace-period", "2s"),
            *("--entrypoint", COMMAND[0], IMAGE, *COMMAND[1:]),
        )

    def set(self, value: str) -> None:
        before, self.secret = self.secret, f"value-{value}"
        make(self.secret, value)
        run(
            *("docker", "service", "update", "--detach", "--quiet", "--secret-rm", before),
            *("--secret-add", f"source={self.secret},target=value", "bench"),
        )

    def remove(self) -> None:
        run("docker", "service", "rm", "bench")
        for name in run("docker", "secret", "ls", "--format", "{{.Name}}").split():
            if name.startswith("value-"):
                run("docker", "secret", "rm", name)

    def usage(self) -> Usage:
        return Usage()


def make(name: str, value: str) -> None:
    subprocess.run(
        ["docker", "secret", "create", name, "-"],
        input=value, text=True, check=True, capture_output=True,
    )  # fmt: skip


class Case:
    """How a service takes a new value; `path` is where it shows that it has."""

    def __init__(
        self, name: str, parallelism: int, on_change: Any = "restart", path: str = SECRET
    ) -> None:
        self.name = name
        self.parallelism = parallelism
        self.on_change = on_change
        self.path = path


CASES = [
    Case("all at once", 0),
    Case(f"{SEVERAL} at a time", SEVERAL),
    Case("none", 0, "none"),
    Case("signal", 0, {"signal": "SIGHUP"}, SEEN),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="5 replicas, one run")
    parser.add_argument("--runs", type=int, default=0, help="of each side (5)")
    options = parser.parse_args()
    replicas = 5 if options.quick else 30
    runs = options.runs or (1 if options.quick else 5)
    engine = Engine()
    rows: list[Row] = []
    with local.engine(), registry(), swarm(), local.manager() as cluster:
        local.add_agent(cluster)
        fastest: list[float] = []
        for case in CASES:
            ours, theirs = Skep(cluster, case.on_change), Swarm()
            sides = [ours, theirs] if case.on_change == "restart" else [ours]
            took, spent = measure(engine, sides, case, replicas, runs)
            fastest = fastest or took[theirs.name]
            rows += rows_of(case, replicas, took, spent, fastest)
        versions = versions_used()
    report("secrets", rows, versions, quick=options.quick)


def rows_of(
    case: Case,
    replicas: int,
    took: dict[str, list[float]],
    spent: dict[str, list[float]],
    fastest: list[float],
) -> list[Row]:
    name = f"a new value in {replicas} replicas, {case.name}"
    peer = Swarm.name
    if peer not in took:
        return [row(name, "s", took["skep"], peer=f"{peer}, all at once", theirs=fastest, goal=1.0)]
    return [
        row(name, "s", took["skep"], peer=peer, theirs=took[peer], goal=1.0),
        row(f"{name}: CPU", "s", spent["skep"], peer=peer, theirs=spent[peer], goal=1.0),
    ]


def measure(
    engine: Engine, sides: list[Any], case: Case, replicas: int, runs: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and CPU seconds of each run, by side. The first turn of each is a warm-up."""
    took: dict[str, list[float]] = {side.name: [] for side in sides}
    spent: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(runs + 1):
        for side in sides:
            seconds, cpu = rotate(engine, side, case, replicas, turn)
            what = "warm-up" if turn == 0 else f"run {turn}"
            say(f"{case.name}, {what}, {side.name}: {seconds:.2f} s, {cpu:.2f} CPU s")
            if turn:
                took[side.name].append(seconds)
                spent[side.name].append(cpu)
    return took, spent


def rotate(engine: Engine, side: Any, case: Case, replicas: int, turn: int) -> tuple[float, float]:
    """Seconds from the command until all see the new value, and CPU seconds."""
    old, new = f"{case.parallelism}-{turn}-old", f"{case.parallelism}-{turn}-new"
    side.create(replicas, case.parallelism, old)
    until_seen(old, replicas)
    settle(side)
    before = side.usage() + engine.usage()
    begun = time.monotonic()
    side.set(new)
    until_seen(new, replicas, case.path)
    seconds = time.monotonic() - begun
    cpu = (side.usage() + engine.usage() - before).cpu
    side.remove()
    local.until(lambda: not engine.all(side.label), f"{side.name}'s containers gone", LIMIT)
    return seconds, cpu


def settle(side: Any) -> None:
    """Until the side itself says that all is as it should be: an update begins from rest."""
    if isinstance(side, Skep):
        side.cluster.ctl("wait", "service", "bench", "--for=condition=Available")
    time.sleep(1)


if __name__ == "__main__":
    main()
