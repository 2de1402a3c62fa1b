"""etcd killed, paused, compacted and cut to pieces while it is used."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress

import pytest

from api.store import keys
from api.store.cache import Cache
from api.store.contract import (
    Change,
    Compacted,
    Conflict,
    LeaseGone,
    Store,
    Unavailable,
    Write,
)
from api.store.etcd import EtcdStore
from api.store.indexes import standard
from api.types.kinds import TASK
from tests.store.etcd import Etcd, free_ports
from tests.store.test_cache import running, task

pytestmark = pytest.mark.etcd


async def up_to(watch: AsyncGenerator[list[Change], None], revision: int) -> list[Change]:
    """All changes until the watch has reached `revision`."""
    got: list[Change] = []
    async with asyncio.timeout(30):
        while not got or got[-1].revision < revision:
            got += await anext(watch)
    return got


async def answered(store: Store) -> int:
    async with asyncio.timeout(30):
        while True:
            with suppress(Unavailable):
                return await store.revision()


async def write_on(store: Store, prefix: str, stop: asyncio.Event) -> None:
    """Put, change and delete keys until told to stop, outages or not."""
    n = 0
    while not stop.is_set():
        n += 1
        with suppress(Unavailable, Conflict):
            await store.commit([Write(f"{prefix}{n}", b"1"), Write(f"{prefix}last", b"%d" % n)])
            await store.write([Write(f"{prefix}{n}", b"2"), Write(f"{prefix}{n - 3}", None)])
        await asyncio.sleep(0.001)


async def test_nothing_is_lost_or_doubled_when_etcd_is_killed(
    own_etcd: Etcd, own_etcd_store: EtcdStore
) -> None:
    start = await own_etcd_store.commit([Write("/t/first", b"")])
    watch = own_etcd_store.watch("/t/", after=start)
    seen: list[Change] = []
    stop = asyncio.Event()
    writers = [asyncio.ensure_future(write_on(own_etcd_store, f"/t/{w}/", stop)) for w in range(4)]
    for _ in range(3):
        wanted = len(seen) + 200
        async with asyncio.timeout(30):
            while len(seen) < wanted:
                seen += await anext(watch)
        own_etcd.kill()
        await asyncio.to_thread(own_etcd.start)
    stop.set()
    await asyncio.gather(*writers)
    await answered(own_etcd_store)
    last = await own_etcd_store.commit([Write("/t/last", b"")])
    seen += await up_to(watch, last)
    await watch.aclose()
    again = own_etcd_store.watch("/t/", after=start)
    assert seen == await up_to(again, last)
    await again.aclose()


async def test_the_cache_is_the_store_after_etcd_was_killed(
    own_etcd: Etcd, own_etcd_store: EtcdStore
) -> None:
    cache = Cache(own_etcd_store)
    standard(cache)
    async with running(own_etcd_store, cache):
        for turn in range(3):
            names = [f"t{turn}-{n}" for n in range(300)]
            await own_etcd_store.write([task(name) for name in names])
            own_etcd.kill()
            await asyncio.to_thread(own_etcd.start)
            await answered(own_etcd_store)
            gone = [keys.object_key(TASK, "default", name) for name in names[::3]]
            await own_etcd_store.write([Write(key, None) for key in gone])
        async with asyncio.timeout(30):
            await cache.caught_up(await own_etcd_store.revision())
        stored = await own_etcd_store.list(keys.OBJECTS)
        held = {item.key: (item.value, item.revision) for item in cache.items(TASK)}
        assert held == {item.key: (item.value, item.revision) for item in stored.items}


async def test_a_paused_etcd_is_unavailable_and_comes_back(
    own_etcd: Etcd, own_etcd_store: EtcdStore
) -> None:
    at = await own_etcd_store.commit([Write("/t/a", b"1")])
    watch = own_etcd_store.watch("/t/", after=at)
    coming = asyncio.ensure_future(anext(watch))
    lease = await own_etcd_store.grant(60)
    own_etcd.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable):
                await own_etcd_store.get("/t/a")
            with pytest.raises(Unavailable):
                await own_etcd_store.commit([Write("/t/a", b"2")])
            with pytest.raises(Unavailable):
                await own_etcd_store.write([Write(f"/t/{n}", b"2") for n in range(1_000)])
            with pytest.raises(Unavailable):
                await own_etcd_store.keep_alive(lease)
            with pytest.raises(Unavailable):
                await own_etcd_store.grant(5)
    finally:
        own_etcd.signal(signal.SIGCONT)
    await answered(own_etcd_store)
    await own_etcd_store.keep_alive(lease)
    await own_etcd_store.commit([Write("/t/b", b"3")])
    async with asyncio.timeout(30):
        assert await coming
    await watch.aclose()


async def test_an_etcd_that_is_away_is_unavailable(own_etcd: Etcd) -> None:
    store = EtcdStore([own_etcd.endpoint], own_etcd.tls, timeout=0.5)
    own_etcd.kill()
    with pytest.raises(Unavailable, match=r"etcd at https://127\.0\.0\.1"):
        await store.get("/t/a")
    with pytest.raises(Unavailable):
        await store.commit([Write("/t/a", b"")])
    with pytest.raises(Unavailable):
        await store.keep_alive(1)
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await store.get("/t/a")


async def test_compaction_while_a_watch_was_cut_off_is_told(
    own_etcd: Etcd, own_etcd_store: EtcdStore
) -> None:
    at = await own_etcd_store.commit([Write("/t/a", b"1")])
    watch = own_etcd_store.watch("/t/", after=at)
    await own_etcd_store.commit([Write("/t/a", b"2")])
    assert len(await anext(watch)) == 1
    own_etcd.kill()
    await asyncio.to_thread(own_etcd.start)
    await answered(own_etcd_store)
    await own_etcd_store.commit([Write("/t/a", None)])
    last = await own_etcd_store.commit([Write("/t/b", b"1")])
    await own_etcd_store.compact(last)
    with pytest.raises(Compacted):
        await up_to(watch, last)


async def test_compaction_does_not_disturb_a_watch_that_follows(etcd_store: EtcdStore) -> None:
    at = await etcd_store.commit([Write("/t/a", b"0")])
    watch = etcd_store.watch("/t/", after=at)
    for n in range(5):
        at = await etcd_store.commit([Write("/t/a", str(n).encode())])
        assert [change.revision for change in await anext(watch)] == [at]
        await etcd_store.compact(at)
    await watch.aclose()


async def test_the_cache_lists_again_after_compaction(
    own_etcd: Etcd, own_etcd_store: EtcdStore
) -> None:
    cache = Cache(own_etcd_store)
    standard(cache)
    async with running(own_etcd_store, cache):
        await own_etcd_store.write([task(f"t{n}") for n in range(500)])
        other = EtcdStore([own_etcd.endpoint], own_etcd.tls)
        own_etcd.kill()
        await asyncio.to_thread(own_etcd.start)
        await answered(other)
        # Either the watch is back before this is compacted or it lists again: both must end well.
        doomed = [keys.object_key(TASK, "default", f"t{n}") for n in range(250)]
        await other.write([Write(key, None) for key in doomed])
        last = await other.commit([task("new")])
        await other.compact(last)
        async with asyncio.timeout(30):
            await cache.caught_up(last)
        names = {item.name for item in cache.items(TASK)}
        assert names == {f"t{n}" for n in range(250, 500)} | {"new"}
        await other.close()


async def test_leases_expire_by_themselves(etcd_store: EtcdStore) -> None:
    kept, left = await etcd_store.grant(30), await etcd_store.grant(1)
    at = await etcd_store.commit([Write("/t/a", b"", lease=kept), Write("/t/b", b"", lease=left)])
    watch = etcd_store.watch("/t/", after=at)
    async with asyncio.timeout(30):
        assert [change[:2] for change in await anext(watch)] == [("/t/b", None)]
    await etcd_store.keep_alive(kept)
    with pytest.raises(LeaseGone):
        await etcd_store.keep_alive(left)
    await watch.aclose()


async def test_many_leases_share_a_stream(etcd_store: EtcdStore) -> None:
    leases = await asyncio.gather(*(etcd_store.grant(60) for _ in range(200)))
    assert len(set(leases)) == 200
    await etcd_store.revoke(leases[77])
    outcomes = await asyncio.gather(
        *(etcd_store.keep_alive(lease) for lease in leases), return_exceptions=True
    )
    assert [at for at, outcome in enumerate(outcomes) if outcome is not None] == [77]
    assert isinstance(outcomes[77], LeaseGone)


async def test_leases_outlive_a_restart_of_etcd(own_etcd: Etcd, own_etcd_store: EtcdStore) -> None:
    lease = await own_etcd_store.grant(60)
    await own_etcd_store.keep_alive(lease)
    own_etcd.kill()
    await asyncio.to_thread(own_etcd.start)
    await answered(own_etcd_store)
    async with asyncio.timeout(30):
        while True:
            with suppress(Unavailable):
                await own_etcd_store.keep_alive(lease)
                break


async def test_an_etcd_with_its_default_limits_is_served(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    etcd = Etcd(tmp_path_factory.mktemp("etcd"), "--max-txn-ops=128")
    etcd.start()
    try:
        store = EtcdStore([etcd.endpoint], etcd.tls)
        outcomes = await store.write([Write(f"/t/{n:04}", b"x") for n in range(2_000)])
        assert all(isinstance(outcome, int) for outcome in outcomes)
        assert len((await store.list("/t/")).items) == 2_000
        await store.close()
    finally:
        etcd.kill()


async def test_a_dead_endpoint_is_passed_over(etcd: Etcd) -> None:
    (port,) = free_ports(1)
    store = EtcdStore([f"https://127.0.0.1:{port}", etcd.endpoint], etcd.tls)
    at = await store.commit([Write("/t/a", b"1")])
    watch = store.watch("/t/", after=at)
    await store.commit([Write("/t/a", b"2")])
    async with asyncio.timeout(30):
        assert [change.value for change in await anext(watch)] == [b"2"]
    await watch.aclose()
    await store.close()


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Etcd]]:
    members = Etcd.cluster(tmp_path_factory.mktemp("three"), 3)
    try:
        yield members
    finally:
        for member in members:
            member.kill()


async def test_a_member_of_three_may_die(three: list[Etcd]) -> None:
    store = EtcdStore([member.endpoint for member in three], three[0].tls)
    await answered(store)
    at = await store.commit([Write("/t/a", b"0")])
    watch = store.watch("/t/", after=at)
    revisions = []
    for n in range(60):
        if n == 20:
            three[0].kill()
        if n == 40:
            three[0].start()
            await answered(store)
            three[1].kill()
        async with asyncio.timeout(30):
            while True:
                with suppress(Unavailable):
                    revisions.append(await store.commit([Write("/t/a", b"%d" % n)]))
                    break
    seen = await up_to(watch, revisions[-1])
    assert set(revisions) <= {change.revision for change in seen}
    assert [change.revision for change in seen] == sorted({change.revision for change in seen})
    three[2].kill()
    with pytest.raises(Unavailable):
        await store.commit([Write("/t/a", b"alone")])
    await watch.aclose()
    await store.close()


def test_endpoints_are_checked() -> None:
    with pytest.raises(ValueError, match="--etcd-ca"):
        EtcdStore(["https://127.0.0.1:2379"])
    for wrong in ("127.0.0.1:2379", "https://127.0.0.1", "ftp://127.0.0.1:2379", ""):
        with pytest.raises(ValueError, match="endpoint"):
            EtcdStore([wrong])
    with pytest.raises(ValueError, match="no etcd endpoint"):
        EtcdStore([])
