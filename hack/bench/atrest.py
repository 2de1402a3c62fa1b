"""What encryption at rest costs: sealing and opening a value, and 10,000 secrets re-encrypted.

    hack/bench/atrest [--quick]

First each value by itself, in this process: seal and open, of 500 B and of 4 KiB. Then a real etcd
with and without the seal, written in commits of 100 values and listed: this process's CPU for a
value, and how long it took. At last a real manager, as many secrets as asked for, and
`ctl keys rotate`: the time until the old key is dropped, and what a get of a secret took meanwhile,
one every 10 ms, beside the same before.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import local
import uvloop
from measure import Row, report, row, say, version_of

from api.client import Client
from api.context import load
from api.store.channel import TLSFiles
from api.store.contract import Store, Write
from api.store.etcd import EtcdStore
from api.store.sealed import SealedStore
from api.types.keys import KeysStatus
from api.types.kinds import SECRET
from api.vault.envelope import Envelope

PLACE = "/skep/v1/objects/tasks/default/web-12-abcde"
SIZES = {"500 B": 500, "4 KiB": 4096}
COMMIT = 100  # values
PAUSE = 0.01  # seconds between gets
LIMIT = 600.0  # seconds
RUNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    rows = values(100_000 // share)
    rows += uvloop.run(stores(20_000 // share))
    rows += uvloop.run(reencryption(10_000 // share))
    versions = {
        "skep": version_of(str(local.BIN / "skepd"), "--version"),
        "etcd": version_of("etcd", "--version"),
        "python": sys.version.partition(" ")[0],
    }
    report("atrest", rows, versions, quick=options.quick)


# One value


def values(count: int) -> list[Row]:
    say(f"sealing and opening {count:,} values of each size, {RUNS} times")
    sealing = envelope()
    rows = []
    for name, size in SIZES.items():
        plain = bytes(size)
        sealed = sealing.seal(PLACE, plain, 7)
        seals = [timed(lambda p=plain: sealing.seal(PLACE, p, 7), count) for _ in range(RUNS)]
        opens = [timed(lambda s=sealed: sealing.open(PLACE, s), count) for _ in range(RUNS)]
        rows.append(row(f"seal {name}", "µs", seals))
        rows.append(row(f"open {name}", "µs", opens))
    return rows


def envelope() -> Envelope:
    made = Envelope()
    made.use({b"key1": bytes(32)}, b"key1")
    return made


def timed(work: Callable[[], object], count: int) -> float:
    """Microseconds of one."""
    begun = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - begun) / count * 1e6


# Writes


async def stores(count: int) -> list[Row]:
    """Values written and read back, alternating with and without the seal."""
    with local.manager() as it:
        keys = it.data / "pki" / "etcd"
        ports = json.loads((it.data / "etcd" / "member.json").read_text())
        tls = TLSFiles(keys / "ca.crt", keys / "etcd.crt", keys / "etcd.key")
        store = EtcdStore([f"https://127.0.0.1:{ports['client']}"], tls)
        try:
            return await compared(store, count)
        finally:
            await store.close()


async def compared(store: Store, count: int) -> list[Row]:
    say(f"etcd: {count:,} values of 500 B written and read, sealed and not, {RUNS} times")

    async def no_news() -> None: ...

    sides = {"plain": store, "sealed": SealedStore(store, envelope(), no_news)}
    took: dict[str, list[float]] = {}
    for run in range(RUNS + 1):
        for side, under in sides.items():
            prefix = f"/bench/{side}/"
            writes = [Write(f"{prefix}{n:06}", bytes(500)) for n in range(count)]
            clocks = time.perf_counter(), time.process_time()
            for first in range(0, count, COMMIT):
                await under.write(writes[first : first + COMMIT])
            between = time.perf_counter(), time.process_time()
            await under.list(prefix)
            end = time.perf_counter(), time.process_time()
            if run:  # the first one warms up
                for clock, each in enumerate(("time", "CPU")):
                    for what, from_, to in (("write", clocks, between), ("read", between, end)):
                        spent = (to[clock] - from_[clock]) / count * 1e6
                        took.setdefault(f"{what}, {side}: {each}", []).append(spent)
    return [row(f"etcd: {case}", "µs", runs) for case, runs in sorted(took.items())]


# Everything anew


async def reencryption(count: int) -> list[Row]:
    with local.manager() as it:
        context = load(it.data / "admin.yaml").select()
        async with context.client() as client:
            say(f"making {count:,} secrets")
            documents = [secret(n) for n in range(count)]
            for first in range(0, count, 1000):
                await client.apply(documents[first : first + 1000])
            async with gets(client, count) as before:
                await asyncio.sleep(5)
            say("rotating the data key")
            begun = time.perf_counter()
            async with asyncio.timeout(LIMIT), gets(client, count) as meanwhile:
                await client.keys(rotate=True)
                now = await settled(client)
            took = time.perf_counter() - begun
        if len(now.keys) != 1 or now.unopened:
            raise RuntimeError(f"not everything was re-encrypted: {now}")
    return [
        row(f"{count:,} secrets re-encrypted", "s", [took]),
        *latency("get before", before),
        *latency("get meanwhile", meanwhile),
    ]


async def settled(client: Client) -> KeysStatus:
    while True:
        now = await client.keys()
        if now.reencryption is None:
            return now
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def gets(client: Client, count: int) -> AsyncIterator[list[float]]:
    """Gets of secrets while the block runs; milliseconds of each."""
    took: list[float] = []

    async def keep_asking() -> None:
        while True:
            begun = time.perf_counter()
            await client.get(SECRET, "default", f"s{len(took) % count}")
            took.append((time.perf_counter() - begun) * 1e3)
            await asyncio.sleep(PAUSE)

    asking = asyncio.create_task(keep_asking())
    try:
        yield took
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking


def latency(case: str, took: list[float]) -> list[Row]:
    ordered = sorted(took)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return [
        row(f"{case}: p50", "ms", [statistics.median(ordered)]),
        row(f"{case}: p99", "ms", [p99]),
    ]


def secret(n: int) -> dict[str, object]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": f"s{n}"},
        "stringData": {"password": f"{n:032}"},
    }


if __name__ == "__main__":
    main()
