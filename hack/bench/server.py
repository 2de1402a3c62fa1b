"""The API under load: reads, writes, lists of 10,000 objects, 1,000 watchers and 1,000 changes.

    hack/bench/api [--quick] [--profile FILE]

A real manager with its etcd over TLS; the load comes from this process, and so do its costs: on
two cores the client's half of the work is in the times. Objects are configs of some 400 bytes. A
watcher is a connection of its own that reads what comes; ten of them take every line apart, to
say how long after its write a change arrived. With --profile, py-spy records the manager.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import aiohttp
import local
import uvloop
from measure import Row, profiled, report, row, say, version_of

from api.client import Client
from api.context import load
from api.types.kinds import CONFIG

NAMESPACE = "default"
IN_FLIGHT = 16
TIMED = 10  # watchers that read every line
LIMIT = 300.0  # seconds for one part


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--profile", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = uvloop.run(measure(1_000 if options.quick else 10_000, options))
    versions = {
        "skep": version_of(str(local.BIN / "skepd"), "--version"),
        "etcd": version_of("etcd", "--version"),
        "python": sys.version.partition(" ")[0],
    }
    report("api", rows, versions, quick=options.quick)


async def measure(objects: int, options: argparse.Namespace) -> list[Row]:
    watchers = changes = objects // 10
    with local.manager() as it, profiled(it.processes["manager"].pid, options.profile):
        context = load(it.data / "admin.yaml").select()
        async with context.client() as client:
            bench = Bench(it, client, context.tls())
            say(f"writing {objects:,} objects")
            rows = await bench.writes(objects)
            rows += await bench.reads("alone", objects)
            rows += await bench.lists(objects)
            async with bench.watching(watchers) as crowd:
                rows += crowd.rows
                rows += await bench.reads(f"{watchers:,} idle watchers", objects, goal=10.0)
                rows += await bench.changes(crowd, changes)
    return rows


class Crowd:
    """Watchers on connections of their own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.lines = 0  # that came, over all
        self.more = asyncio.Event()
        self.arrived: dict[str, list[float]] = {}  # by a change's value: when, at each timed one
        self.rows: list[Row] = []

    def took(self, lines: int) -> None:
        self.lines += lines
        self.more.set()

    async def until(self, lines: int) -> None:
        async with asyncio.timeout(LIMIT):
            while self.lines < lines:
                self.more.clear()
                await self.more.wait()


class Bench:
    def __init__(self, it: local.Cluster, client: Client, tls: ssl.SSLContext) -> None:
        self._it = it
        self._client = client
        self._tls = tls

    async def writes(self, objects: int) -> list[Row]:
        async def create(number: int) -> None:
            await self._client.create(config(number))

        async def change(number: int) -> None:
            await self._client.patch(CONFIG, NAMESPACE, f"c-{number}", {"data": {"turn": "1"}})

        rows = timed("create, 16 in flight", await in_flight(create, range(objects)))
        return rows + timed("patch, 16 in flight", await in_flight(change, range(objects // 5)))

    async def reads(self, when: str, objects: int, goal: float | None = None) -> list[Row]:
        async def get(number: int) -> None:
            await self._client.get(CONFIG, NAMESPACE, f"c-{number % objects}")

        one = await in_flight(get, range(objects // 5), width=1)
        many = await in_flight(get, range(objects // 2))
        return timed(f"get, one after the other, {when}", one, goal) + timed(
            f"get, 16 in flight, {when}", many
        )

    async def lists(self, objects: int) -> list[Row]:
        seconds, size = [], 0
        for _ in range(5):
            start = time.perf_counter()
            size = len(await self._raw(f"?limit={objects}"))
            seconds.append(time.perf_counter() - start)
        pages = []
        for _ in range(3):
            start = time.perf_counter()
            token, found = "", 0
            while True:
                page = json.loads(await self._raw(f"?limit=500&continue={token}"))
                found += len(page["items"])
                token = page["metadata"].get("continue", "")
                if not token:
                    break
            pages.append(time.perf_counter() - start)
            if found != objects:
                raise RuntimeError(f"{found} of {objects} objects in the pages")
        return [
            row(f"list {objects:,}, {size / 2**20:.1f} MiB", "ms", [1e3 * s for s in seconds]),
            row(f"list {objects:,} by 500, decoded", "ms", [1e3 * s for s in pages]),
        ]

    @contextlib.asynccontextmanager
    async def watching(self, count: int) -> AsyncIterator[Crowd]:
        crowd = Crowd(count)
        now = (await self._client.list(CONFIG, NAMESPACE)).resource_version
        before = self._it.usage()["manager"].rss
        open_ = asyncio.Semaphore(50)  # that connect at the same time
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            start = time.perf_counter()
            ready = [asyncio.Event() for _ in range(count)]
            tasks = [
                asyncio.create_task(self._watch(session, crowd, now, number, open_, ready[number]))
                for number in range(count)
            ]
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*(each.wait() for each in ready))
            took = time.perf_counter() - start
            each = (self._it.usage()["manager"].rss - before) / count / 1024
            crowd.rows = [
                row(f"{count:,} watchers connected", "s", [took]),
                row("a watcher in the manager's memory", "KiB", [each]),
            ]
            try:
                yield crowd
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(
        self,
        session: aiohttp.ClientSession,
        crowd: Crowd,
        revision: str,
        number: int,
        open_: asyncio.Semaphore,
        ready: asyncio.Event,
    ) -> None:
        url = f"{self._it.server}{path()}?watch=true&resourceVersion={revision}"
        await open_.acquire()
        async with session.get(url) as answer:
            open_.release()
            answer.raise_for_status()
            ready.set()
            if number >= TIMED:
                async for chunk in answer.content.iter_any():
                    crowd.took(chunk.count(b"\n"))
                return
            async for line in answer.content:
                arrived = time.perf_counter()
                turn = json.loads(line)["object"]["data"]["turn"]
                crowd.arrived.setdefault(turn, []).append(arrived)
                crowd.took(1)

    async def changes(self, crowd: Crowd, count: int) -> list[Row]:
        """`count` changes, each to all watchers."""
        written: dict[str, float] = {}
        before, start = self._it.usage()["manager"], time.perf_counter()

        async def change(number: int) -> None:
            turn = f"turn-{number}"
            written[turn] = time.perf_counter()
            await self._client.patch(CONFIG, NAMESPACE, f"c-{number}", {"data": {"turn": turn}})

        await in_flight(change, range(count))
        sent = time.perf_counter() - start
        await crowd.until(count * crowd.count)
        took = time.perf_counter() - start
        spent = self._it.usage()["manager"] - before
        lags = [
            1e3 * (arrived - written[turn])
            for turn, times in crowd.arrived.items()
            for arrived in times
        ]
        events = count * crowd.count
        name = f"{count:,} changes to {crowd.count:,} watchers"
        p50, p99 = percentiles(lags)
        return [
            row(f"{name}: written", "s", [sent]),
            row(f"{name}: all delivered", "s", [took]),
            row(f"{name}: events", "events/s", [events / took]),
            row(f"{name}: from write to watcher, p50", "ms", [p50]),
            row(f"{name}: from write to watcher, p99", "ms", [p99]),
            row(f"{name}: manager's CPU an event", "µs", [1e6 * spent.cpu / events]),
            row(f"{name}: manager", "MiB", [spent.rss / 2**20]),
        ]

    async def _raw(self, query: str) -> bytes:
        connector = aiohttp.TCPConnector(ssl=self._tls)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"{self._it.server}{path()}{query}") as answer,
        ):
            answer.raise_for_status()
            return await answer.read()


def path() -> str:
    return f"/apis/skep.dev/v1/namespaces/{NAMESPACE}/configs"


def config(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Config",
        "metadata": {"name": f"c-{number}", "namespace": NAMESPACE},
        "data": {"turn": "0", "text": "x" * 100},
    }


async def in_flight(
    work: Callable[[int], Awaitable[None]], numbers: range, width: int = IN_FLIGHT
) -> tuple[float, list[float]]:
    """Seconds for all, and of each."""
    left: Iterator[int] = iter(numbers)
    each: list[float] = []

    async def one() -> None:
        for number in left:
            start = time.perf_counter()
            await work(number)
            each.append(time.perf_counter() - start)

    start = time.perf_counter()
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(one())
    return time.perf_counter() - start, each


def timed(case: str, found: tuple[float, list[float]], goal: float | None = None) -> list[Row]:
    seconds, each = found
    p50, p99 = percentiles([1e3 * one for one in each])
    say(f"{case}: {len(each) / seconds:.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    return [
        row(case, "requests/s", [len(each) / seconds]),
        row(f"{case}: p50", "ms", [p50]),
        row(f"{case}: p99", "ms", [p99], goal=goal),
    ]


def percentiles(values: list[float]) -> tuple[float, float]:
    spread = statistics.quantiles(values, n=100, method="inclusive")
    return spread[49], spread[98]


if __name__ == "__main__":
    main()
