"""Simulated nodes, each a real agent session over TLS, against a real manager and a real etcd.

    hack/sim                     200 nodes; 200, 2,000 and 20,000 tasks
    hack/sim --quick             20 nodes; 20, 200 and 2,000 tasks
    hack/sim --nodes 200 --tasks 20000 [--profile DIR]

For each size: apply services of 1,000 replicas, wait until every task is reported Running, scale
to a tenth, delete. Counts come from the manager's own /metrics, ten times a second; latencies from
the tasks' timestamps. With --profile, py-spy records the manager and the agents as flame graphs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import math
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import local
import uvloop
from measure import Row, Usage, profiled, report, row, say, version_of

from api.client import Client, ClientError
from api.context import load
from api.membership import join
from api.pki.tls import client_context
from api.types.kinds import NAMESPACE, NODE, SERVICE, TASK
from controllers.agent.agent import Agent
from controllers.agent.drivers.simulated import SimulatedDriver

PER_SERVICE = 1_000
POLL = 0.1  # seconds
STAGE_LIMIT = 180.0  # seconds; a stage that takes longer has failed


@dataclass
class Stage:
    """One stage of one size."""

    seconds: float
    tasks: int
    cost: dict[str, Usage]

    @property
    def rate(self) -> float:
        return self.tasks / self.seconds if self.seconds else math.inf


@dataclass
class Result:
    tasks: int
    stages: dict[str, Stage] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)  # seconds, created → running
    memory: dict[str, int] = field(default_factory=dict)  # bytes, at its fullest


@dataclass
class Cluster:
    machine: local.Cluster
    client: Client

    def cost(self) -> dict[str, Usage]:
        parts = {"manager": Usage(), "etcd": Usage(), "agents": Usage()}
        for name, spent in self.machine.usage().items():
            part = name.partition("-")[0]
            if part in parts:
                parts[part] += spent
        return parts

    async def counts(self) -> dict[str, int]:
        """Tasks by state."""
        text = await self.client.metrics()
        found = re.findall(r'^skep_tasks\{state="(\w+)"\} ([0-9.e+]+)', text, re.MULTILINE)
        return {state: int(float(n)) for state, n in found}


def main() -> None:
    options = parse()
    if options.command == "agents":
        uvloop.run(agents(options))
        return
    uvloop.run(measure(options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", nargs="?", default="run", choices=["run", "agents"])
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=0)
    parser.add_argument("--agent-processes", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


# ---------------------------------------------------------------- the nodes


async def agents(options: argparse.Namespace) -> None:
    """`--nodes` agents in this process, each with a certificate, a session and a driver."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for index in range(options.first, options.first + options.nodes):
            name = f"node-{index:04}"
            member, _ = await join([options.server], options.token, name=name)
            tls = client_context(member.credentials)
            client = await stack.enter_async_context(Client(options.server, tls))
            driver = SimulatedDriver(cluster="sim", node=name, start_seconds=0.0)
            run_dir = Path(tempfile.gettempdir()) / f"skep-sim-{os.getpid()}" / name
            agent = Agent(client, driver, name, run_dir, labels={"zone": f"z{index % 3}"})
            running.append(asyncio.create_task(agent.run(), name=name))
        gc.freeze()
        await stop.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


# ---------------------------------------------------------------- the measuring


async def measure(options: argparse.Namespace) -> None:
    nodes = options.nodes or (20 if options.quick else 200)
    full = options.tasks or (2_000 if options.quick else 20_000)
    results = []
    async with cluster(nodes, options) as it:
        for tasks in [n for n in (full // 100, full // 10, full) if n]:
            say(f"{tasks} tasks on {nodes} nodes")
            results.append(await one_size(it, tasks))
        idle = await idle_cost(it)
    rows = [r for result in results for r in rows_of(result, nodes)]
    rows += [row(f"idle: {name}, {nodes} nodes", "% CPU", [percent]) for name, percent in idle]
    rows.append(row("cost per task: growth over sizes 10× apart", "×", [growth(results)]))
    versions = {
        "skep": version_of(str(local.BIN / "skepd"), "--version"),
        "etcd": version_of("etcd", "--version"),
        "python": sys.version.partition(" ")[0],
    }
    report("sim", rows, versions, quick=options.quick)


@contextlib.asynccontextmanager
async def cluster(nodes: int, options: argparse.Namespace) -> AsyncIterator[Cluster]:
    with local.manager() as machine:
        context = load(machine.data / "admin.yaml").select()
        async with context.client() as client:
            await ready(client)
            token = await client.token("worker")
            share = math.ceil(nodes / options.agent_processes)
            for first in range(0, nodes, share):
                count = min(share, nodes - first)
                machine.start(
                    f"agents-{first}",
                    *(sys.executable, __file__, "agents", "--nodes", str(count)),
                    *("--first", str(first), "--server", machine.server),
                    *("--token", token),
                )
            it = Cluster(machine, client)
            await nodes_ready(it, nodes)
            with profile(options.profile, machine):
                yield it


@contextlib.contextmanager
def profile(into: Path | None, machine: local.Cluster) -> Iterator[None]:
    """Within: the manager's and the agents' stacks are sampled, into files of that directory."""
    with contextlib.ExitStack() as stack:
        for name, process in machine.processes.items() if into is not None else ():
            stack.enter_context(profiled(process.pid, into / f"{name}.raw" if into else None))
        yield


async def ready(client: Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            await client.list(NAMESPACE)
            return
        except ClientError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL)


async def nodes_ready(it: Cluster, nodes: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        found = (await it.client.list(NODE)).items
        count = sum(
            c["type"] == "Ready" and c["status"] == "True"
            for n in found
            for c in n.get("status", {}).get("conditions", [])
        )
        if count == nodes:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} of {nodes} nodes ready after two minutes")
        await asyncio.sleep(POLL)


async def one_size(it: Cluster, tasks: int) -> Result:
    result = Result(tasks)
    sizes = [PER_SERVICE] * (tasks // PER_SERVICE)
    if tasks % PER_SERVICE:
        sizes.append(tasks % PER_SERVICE)
    documents = [service(f"sim-{number}", size) for number, size in enumerate(sizes)]

    start, cost = time.monotonic(), it.cost()
    await it.client.apply(documents)
    for name, reached in (
        ("created", lambda c: sum(c.values()) >= tasks),
        ("placed", lambda c: sum(c.values()) - c.get("Pending", 0) >= tasks),
        ("running", lambda c: c.get("Running", 0) >= tasks),
    ):
        await stage(it, result, name, tasks, start, cost, reached)
    result.memory = {name: u.rss for name, u in it.cost().items()}
    result.latencies = await latencies(it)

    kept = [max(1, size // 10) for size in sizes]
    start, cost = time.monotonic(), it.cost()
    await it.client.apply([service(f"sim-{n}", size) for n, size in enumerate(kept)])
    await stage(
        it, result, "scaled down", tasks - sum(kept), start, cost,
        lambda c: sum(c.values()) <= sum(kept),
    )  # fmt: skip

    start, cost = time.monotonic(), it.cost()
    for number in range(len(sizes)):
        await it.client.delete(SERVICE, "default", f"sim-{number}")
    await stage(it, result, "deleted", sum(kept), start, cost, lambda c: not sum(c.values()))
    while True:
        if not (await it.client.list(SERVICE)).items:  # what is still ending can't be made anew
            return result
        await asyncio.sleep(POLL)


async def stage(
    it: Cluster,
    result: Result,
    name: str,
    tasks: int,
    start: float,
    cost: dict[str, Usage],
    reached: Callable[[dict[str, int]], bool],
) -> None:
    while not reached(counts := await it.counts()):
        if time.monotonic() - start > STAGE_LIMIT:
            raise TimeoutError(f"not {name} after {STAGE_LIMIT:.0f} s: {counts}")
        await asyncio.sleep(POLL)
    now = it.cost()
    spent = {who: now[who] - cost[who] for who in now}
    result.stages[name] = done = Stage(time.monotonic() - start, tasks, spent)
    costs = ", ".join(f"{who} {u.cpu:.2f} s" for who, u in spent.items())
    say(f"  {name}: {done.seconds:.2f} s, {done.rate:.0f} tasks/s ({costs})")


async def latencies(it: Cluster) -> list[float]:
    found = []
    for task in (await it.client.list(TASK)).items:
        created = datetime.fromisoformat(task["metadata"]["creationTimestamp"])
        running = datetime.fromisoformat(task["status"]["since"])
        found.append((running - created).total_seconds())
    return found


async def idle_cost(it: Cluster, seconds: float = 20.0) -> list[tuple[str, float]]:
    """CPU of each part while nothing is asked of it, in percent of one core."""
    await asyncio.sleep(5)
    before, start = it.cost(), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = it.cost(), time.monotonic() - start
    return [(name, 100 * (after[name].cpu - before[name].cpu) / took) for name in after]


def rows_of(result: Result, nodes: int) -> list[Row]:
    head = f"{result.tasks} tasks, {nodes} nodes"
    rows = [
        row(f"{head}: {name}", "tasks/s", [s.rate], goal=2000 if name == "running" else None)
        for name, s in result.stages.items()
    ]
    spread = statistics.quantiles(result.latencies, n=100, method="inclusive")
    rows.append(row(f"{head}: created→running p50", "s", [spread[49]]))
    rows.append(row(f"{head}: created→running p99", "s", [spread[98]]))
    for who, spent in result.stages["running"].cost.items():
        each = 1e6 * spent.cpu / result.tasks
        rows.append(row(f"{head}: CPU a task to running, {who}", "µs", [each]))
        rows.append(row(f"{head}: memory, {who}", "MiB", [result.memory[who] / 2**20]))
    return rows


def growth(results: list[Result]) -> float:
    """CPU a task at the largest size over that at the one a tenth as large: 1 is flat."""
    each = [sum(u.cpu for u in r.stages["running"].cost.values()) / r.tasks for r in results[-2:]]
    return each[-1] / each[0] if each[0] else math.nan


def service(name: str, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "template": {
                "image": "busybox",
                "command": ["sleep", "infinity"],
                "resources": {"reservations": {"cpus": 0.001, "memory": "4Mi"}},
            },
            "restart": {"delay": "0s"},
        },
    }


if __name__ == "__main__":
    main()
