"""Events: counted, few, and gone after an hour."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from api.store.cache import Cache
from api.store.contract import LeaseGone, Store
from api.store.indexes import standard
from api.store.memory import MemoryStore
from api.types.event import Event
from api.types.kinds import EVENT
from api.types.meta import Metadata
from api.types.namespace import Namespace
from api.types.node import Node
from api.types.task import Task, TaskSpec
from controllers.reconcile.recorder import Recorder

pytestmark = pytest.mark.looptime


def clock() -> datetime:
    seconds = asyncio.get_running_loop().time()
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def task(name: str = "web-1") -> Task:
    return Task(
        metadata=Metadata(name=name, namespace="shop", uid=f"u-{name}"),
        spec=TaskSpec(service="web", revision="web-1"),
    )


class Bench:
    def __init__(self, store: Store, cache: Cache, recorder: Recorder) -> None:
        self.store = store
        self.cache = cache
        self.recorder = recorder

    def events(self) -> list[Event]:
        return [item.obj for item in self.cache.items(EVENT)]


@contextlib.asynccontextmanager
async def bench(*, most: int = 100) -> AsyncIterator[Bench]:
    store = MemoryStore()
    cache = Cache(store)
    standard(cache)
    recorder = Recorder(cache, store, clock, most=most)
    running = [asyncio.create_task(cache.run()), asyncio.create_task(recorder.run())]
    try:
        yield Bench(store, cache, recorder)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await store.close()


async def test_the_same_words_are_one_event_with_a_count() -> None:
    async with bench() as b:
        for _ in range(3):
            b.recorder.note(task(), "Warning", "Failed", "exit code 1", component="test")
        await asyncio.sleep(2)
        b.recorder.note(task(), "Warning", "Failed", "exit code 1", count=4)
        b.recorder.note(task(), "Warning", "Failed", "exit code 2")
        b.recorder.note(task("web-2"), "Warning", "Failed", "exit code 1")
        await asyncio.sleep(2)
        by_name = {(e.involved_object.name, e.message): e for e in b.events()}
        assert {key: e.count for key, e in by_name.items()} == {
            ("web-1", "exit code 1"): 7,
            ("web-1", "exit code 2"): 1,
            ("web-2", "exit code 1"): 1,
        }
        event = by_name["web-1", "exit code 1"]
        assert event.metadata.namespace == "shop"
        assert event.involved_object.kind == "Task"
        assert event.involved_object.uid == "u-web-1"
        assert event.first_timestamp is not None and event.last_timestamp is not None
        assert (event.last_timestamp - event.first_timestamp).total_seconds() == 2


async def test_events_of_objects_without_a_namespace_are_in_default() -> None:
    async with bench() as b:
        b.recorder.note(Node(metadata=Metadata(name="n1", uid="n")), "Normal", "Ready", "fine")
        b.recorder.note(Namespace(metadata=Metadata(name="x", uid="x")), "Normal", "Made", "so")
        await asyncio.sleep(2)
        assert {e.metadata.namespace for e in b.events()} == {"default"}


async def test_an_event_goes_an_hour_after_it_last_happened() -> None:
    async with bench() as b:
        b.recorder.note(task(), "Normal", "Once", "once")
        await asyncio.sleep(1800)
        b.recorder.note(task(), "Normal", "Twice", "twice")
        await asyncio.sleep(1700)
        assert {e.reason for e in b.events()} == {"Once", "Twice"}
        await asyncio.sleep(1000)
        assert {e.reason for e in b.events()} == {"Twice"}
        await asyncio.sleep(7200)
        assert b.events() == []


async def test_one_that_happens_again_stays() -> None:
    async with bench() as b:
        for _ in range(5):
            b.recorder.note(task(), "Normal", "Again", "again")
            await asyncio.sleep(1800)
        assert [e.count for e in b.events()] == [5]


async def test_too_many_at_once_are_dropped_not_kept() -> None:
    async with bench(most=10) as b:
        for number in range(50):
            b.recorder.note(task(f"web-{number}"), "Normal", "Made", "made")
        await asyncio.sleep(2)
        assert len(b.events()) == 10


async def test_a_store_that_is_away_loses_no_event() -> None:
    async with bench() as b:
        assert isinstance(b.store, MemoryStore)
        b.recorder.note(task(), "Normal", "Before", "before")
        await asyncio.sleep(2)
        real, times = b.store.write, 0

        async def failing(writes: object) -> list[int]:
            nonlocal times
            times += 1
            raise LeaseGone("the lease has expired")

        b.store.write = failing  # type: ignore[method-assign, assignment]
        b.recorder.note(task(), "Normal", "While", "while")
        await asyncio.sleep(10)
        b.recorder.note(task(), "Normal", "While", "while")
        b.store.write = real  # type: ignore[method-assign]
        await asyncio.sleep(60)
        assert times > 1
        assert {(e.reason, e.count) for e in b.events()} == {("Before", 1), ("While", 2)}
