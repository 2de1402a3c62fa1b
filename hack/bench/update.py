"""An update of all replicas, skep beside Docker Swarm: how long, and how many run meanwhile.

    hack/bench/update [--quick] [--runs N]

The sides take turns; `sides.py` says what they have in common and what differs. Every replica is
replaced for a changed variable, ten at a time, the old one stopped first, monitor 0. Time is from
the command to the start of the last new container; how many run at the least, over that time, is
counted from the engine's own events. CPU is that of all processes of the side and of the engine.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import local
from measure import Row, Usage, report, row, say
from sides import Engine, Side, Skep, Swarm, events, registry, starts, stop, swarm, versions_used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10 replicas, one run")
    parser.add_argument("--runs", type=int, default=0, help="of each side (3)")
    options = parser.parse_args()
    replicas = 10 if options.quick else 100
    runs = options.runs or (1 if options.quick else 3)
    engine = Engine()
    with local.engine(), registry(), swarm(), local.manager() as cluster:
        local.add_agent(cluster)
        sides: list[Side] = [Skep(cluster), Swarm()]
        rows = measure(engine, sides, replicas, runs)
        versions = versions_used()
    report("update", rows, versions, quick=options.quick)


def measure(engine: Engine, sides: list[Side], replicas: int, runs: int) -> list[Row]:
    took: dict[str, list[float]] = {side.name: [] for side in sides}
    least: dict[str, list[float]] = {side.name: [] for side in sides}
    cpu: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(runs):
        for side in sides:
            with starts(side) as wait_for:
                side.create(replicas)
                wait_for(replicas)
            seconds, running, spent = update(engine, side, replicas, number)
            stop(engine, side)
            took[side.name].append(seconds)
            least[side.name].append(running)
            cpu[side.name].append(spent.cpu)
            say(
                f"run {number + 1}, {side.name}: {seconds:.2f} s, at least {running} of {replicas}"
                f" running, {spent.cpu:.2f} CPU s"
            )
    name = f"{replicas} replicas updated, 10 at a time"
    peer = Swarm.name
    return [
        row(name, "s", took["skep"], peer=peer, theirs=took[peer], goal=1.0),
        row(f"{name}: running at least", "", least["skep"], peer=peer, theirs=least[peer]),
        row(f"{name}: CPU", "s", cpu["skep"], peer=peer, theirs=cpu[peer], goal=1.0),
    ]


def update(engine: Engine, side: Side, replicas: int, turn: int) -> tuple[float, int, Usage]:
    """Seconds to the last new container's start, the fewest that ran, and what it cost."""
    before = side.usage() + engine.usage()
    with events(side, "start", "die") as following:
        begun = time.time()
        side.update(replicas, turn)
        running = least = replicas
        started, now = 0, begun
        while started < replicas:
            action, now = following()
            if action == "start":
                started += 1
                running += 1
            else:
                running -= 1
            least = min(least, running)
    return now - begun, least, side.usage() + engine.usage() - before


if __name__ == "__main__":
    main()
