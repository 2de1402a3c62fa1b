"""Time from the user's command to running containers, skep beside Docker Swarm.

    hack/bench/start [--quick] [--runs N]

The sides take turns; `sides.py` says what they have in common and what differs. The engine's own
event stream says when the last container has started. CPU is that of all processes of the side
and of the engine they share, from the command to the last container; memory is resident, at the
largest size.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import local
from measure import Row, Usage, report, row, say
from sides import Engine, Side, Skep, Swarm, registry, run, starts, stop, swarm, versions_used


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


if __name__ == "__main__":
    main()
