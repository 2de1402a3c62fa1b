"""What is followed is caught up with, whatever the watch meets: in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from api.store.contract import Page, Unavailable, Write
from api.store.memory import MemoryStore
from api.trust.followed import Followed
from api.trust.keyring import Keyring
from api.trust.records import ManagerRecord, manager_key
from api.trust.trust import Trust
from api.vault.anchor import FILE, Anchor
from api.vault.local import LocalKeys

pytestmark = pytest.mark.looptime


class Ill(MemoryStore):
    """A store that does not answer lists for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = 0

    async def list(
        self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0
    ) -> Page:
        if self.refuses:
            self.refuses -= 1
            raise Unavailable("no answer")
        return await super().list(prefix, after=after, limit=limit, revision=revision)


@contextlib.asynccontextmanager
async def running(followed: Followed) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(followed.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def write(store: MemoryStore, name: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    record = ManagerRecord(url="https://m", since=now, signs="", trusts=[])
    await store.commit([Write(manager_key(name), msgspec.json.encode(record))])


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 — of conditions, not of one event
            await asyncio.sleep(0.1)


async def test_more_was_missed_than_the_store_still_tells_and_then_it_does_not_answer() -> None:
    store = Ill()
    trust = Trust(store, None)
    await trust.open()
    await write(store, "one")
    await store.compact(await store.revision())
    store.refuses = 3
    async with running(trust) as following:
        await until(lambda: set(trust.managers) == {"one"})
        assert store.refuses == 0
        await write(store, "two")
        await until(lambda: set(trust.managers) == {"one", "two"})
        assert not following.done()
    await store.close()


async def test_a_ring_that_was_changed_meanwhile_is_taken_up(tmp_path: Path) -> None:
    store = MemoryStore()
    keys = LocalKeys.create(tmp_path / "vault.key")

    def keyring(name: str) -> Keyring:
        return Keyring(store, [keys], Anchor.load(tmp_path / f"{name}{FILE}"))

    one, two = keyring("one"), keyring("two")
    await one.open()
    await two.open()
    told: list[int] = []
    end = two.listen(lambda: told.append(two.ring.generation))
    rotated = await one.rotate()
    await store.compact(await store.revision())
    async with running(two):
        await until(lambda: two.ring.generation == rotated.generation)
        assert told == [rotated.generation]
        end()
        settled = await one.settle(rotated.generation)
        await until(lambda: two.ring.generation == settled.generation)
        assert told == [rotated.generation], "not who has ended it"
    await store.close()
