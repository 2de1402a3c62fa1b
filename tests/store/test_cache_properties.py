"""Whatever happens to the store, the cache ends up as the store, and its events say how."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from api.store import keys
from api.store.cache import Cache, CacheEvent, Item
from api.store.contract import Write
from api.store.indexes import standard
from api.store.memory import MemoryStore
from api.types.kinds import TASK
from tests.store.test_cache import gone, task

NAMES = st.sampled_from(["a", "b", "c", "d"])
PUT = st.builds(
    task,
    NAMES,
    service=st.sampled_from(["web", "db"]),
    node=st.sampled_from(["", "n1", "n2"]),
    state=st.sampled_from(["Pending", "Running"]),
)
SESSION = st.tuples(
    st.sampled_from([keys.session_key("n1"), keys.session_key("n2")]),
    st.sampled_from([b"", None]),
).map(lambda put: Write(*put))
BROKEN = st.builds(lambda name: Write(keys.object_key(TASK, "default", name), b"{"), NAMES)
WRITES = st.lists(
    st.one_of(PUT, PUT, st.builds(gone, NAMES), SESSION, BROKEN),
    min_size=1,
    max_size=4,
    unique_by=lambda write: write.key,
)
STEPS = st.lists(
    st.one_of(WRITES, WRITES, WRITES, st.sampled_from(["compact", "stop", "settle", "cut"])),
    max_size=30,
)


class Replica:
    """What a listener can know: nothing but what it was told."""

    def __init__(self, cache: Cache) -> None:
        self.items: dict[str, Item] = {}
        self.sessions: set[str] = set()
        self.revision = 0
        cache.listen(self.hear)
        cache.listen_sessions(self.hear_session)

    def hear(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            key = event.item.key
            assert event.revision >= self.revision
            assert event.old is self.items.get(key)
            assert (event.type == "ADDED") == (event.old is None)
            self.revision = event.revision
            if event.type == "DELETED":
                del self.items[key]
            else:
                self.items[key] = event.item

    def hear_session(self, node: str, alive: bool) -> None:
        assert alive == (node not in self.sessions)
        self.sessions ^= {node}


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_the_cache_is_the_store(steps: list[list[Write] | str]) -> None:
    asyncio.run(_follow(steps))


async def _follow(steps: list[list[Write] | str]) -> None:
    store = MemoryStore()
    cache = Cache(store, history=5)
    standard(cache)
    replica = Replica(cache)
    run: asyncio.Task[None] | None = None
    for step in steps:
        if isinstance(step, list):
            await store.commit(step)
        elif step == "compact":
            await store.compact(await store.revision())
        elif step == "stop" and run is not None:
            await _end(run)
            run = None
        elif step == "settle":
            run = run or asyncio.create_task(cache.run())
            await cache.caught_up(await store.revision())
        elif step == "cut":
            store.cut()
            await asyncio.sleep(0)
            store.mend()
    run = run or asyncio.create_task(cache.run())
    await cache.caught_up(await store.revision())
    await _compare(store, cache, replica)
    await _end(run)
    await store.close()


async def _compare(store: MemoryStore, cache: Cache, replica: Replica) -> None:
    page = await store.list(keys.OBJECTS)
    held = {item.key: item for item in cache.items(TASK)}
    assert held == replica.items
    assert {i.key for i in page.items if i.value == b"{"} == set(cache.unreadable)
    assert {i.key: (i.value, i.revision) for i in page.items if i.value != b"{"} == {
        key: (item.value, item.revision)
        for key, item in held.items()
        if key not in cache.unreadable
    }
    assert set(held) <= {item.key for item in page.items}
    assert [item.key for item in cache.sorted_items(TASK)] == sorted(held)
    sessions = await store.list(keys.SESSIONS)
    assert cache.sessions == {item.key[len(keys.SESSIONS) :] for item in sessions.items}
    assert cache.sessions == replica.sessions
    for index, of in (
        ("service", lambda obj: f"default/{obj.spec.service}"),
        ("node", lambda obj: obj.spec.node),
        ("state", lambda obj: obj.status.state),
    ):
        wanted: dict[str, set[str]] = {}
        for item in held.values():
            wanted.setdefault(of(item.obj), set()).add(item.name)
        wanted.pop("", None)
        values = cache.by_values(TASK, index)
        assert {v: {i.name for i in cache.by(TASK, index, v)} for v in values} == wanted


async def _end(run: asyncio.Task[None]) -> None:
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
