"""A new sealing key every 30 days, whoever runs, restored or not; the old ones stay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.seal.keys import SealingKey
from api.seal.place import Place, Scope
from api.seal.sealed import Sealed, seal
from api.store.cache import Cache
from api.store.contract import Write
from api.store.memory import MemoryStore
from api.trust.records import SEALING_KEYS, sealing_key
from api.trust.sealing import LIFE, SealingRing, due
from api.trust.trust import Trust
from api.vault.key import VaultKey
from api.vault.vault import Vault
from controllers.reconcile.recorder import Recorder
from controllers.sealing import SealingController

START = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Place("default", "db", "password")
DAY = 86_400.0


def clock() -> datetime:
    """The loop's time, which is virtual here."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


class World:
    """A store, and any number of managers over it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.vault = Vault([VaultKey.new()])

    @contextlib.asynccontextmanager
    async def manager(self, *, runs: bool = True) -> AsyncIterator[Trust]:
        trust = Trust(self.store, self.vault, clock=clock)
        await trust.open()
        controller = SealingController(trust, Recorder(Cache(self.store), self.store, clock), clock)
        parts = (trust, controller) if runs else (trust,)
        tasks = [asyncio.create_task(part.run()) for part in parts]
        try:
            yield trust
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def ids(trust: Trust) -> list[str]:
    return [key.public.id for key in trust.sealing.keys]


@pytest.mark.looptime
async def test_a_key_is_made_at_once_and_another_every_30_days() -> None:
    world = World()
    async with world.manager() as trust:
        await asyncio.sleep(1)
        (first,) = trust.sealing.keys
        assert first.public.expires - first.public.created == LIFE == timedelta(days=30)
        text = seal(b"x", PLACE, Scope.STRICT, first.public)
        await asyncio.sleep(29 * DAY)
        assert len(ids(trust)) == 1
        await asyncio.sleep(1.1 * DAY)
        assert len(ids(trust)) == 2 and trust.sealing.newest is not first
        await asyncio.sleep(120 * DAY)
        assert len(ids(trust)) == 6
        assert Sealed.parse(text).open(PLACE, trust.sealing.get) == b"x"
        newest = trust.sealing.newest
        assert newest is not None and not newest.public.expired(clock())


@pytest.mark.looptime
async def test_managers_agree_on_one_key_and_see_new_ones_live() -> None:
    world = World()
    async with world.manager() as one, world.manager() as two, world.manager(runs=False) as three:
        await asyncio.sleep(60 * DAY + 60)
        assert len(ids(one)) == 3
        assert ids(one) == ids(two) == ids(three)
        text = seal(b"x", PLACE, Scope.STRICT, one.sealing.keys[0].public)
        assert Sealed.parse(text).open(PLACE, three.sealing.get) == b"x"


@pytest.mark.looptime
async def test_what_was_restored_keeps_its_keys() -> None:
    """A cluster that comes up with an older store makes none over those that are there."""
    world = World()
    async with world.manager() as trust:
        await asyncio.sleep(1)
        text = seal(b"x", PLACE, Scope.STRICT, trust.sealing.keys[0].public)
        before = ids(trust)
    backup = MemoryStore()
    page = await world.store.list("")
    await backup.commit([Write(item.key, item.value) for item in page.items])
    world.store = backup
    async with world.manager() as trust:
        await asyncio.sleep(DAY)
        assert ids(trust) == before
        assert Sealed.parse(text).open(PLACE, trust.sealing.get) == b"x"


@pytest.mark.looptime
async def test_a_key_that_was_damaged_or_moved_takes_none_of_the_others_with_it() -> None:
    world = World()
    async with world.manager() as trust:
        await asyncio.sleep(1)
        (first,) = ids(trust)
        second = (await trust.new_sealing_key()).public.id
        stored = await world.store.get(sealing_key(first))
        assert stored is not None
        await world.store.commit([Write(SEALING_KEYS + "0" * 16, stored.value)])
        await world.store.commit([Write(sealing_key(first), b"{}")])
        await asyncio.sleep(1)
        assert ids(trust) == [second]
        assert set(trust.sealing.broken) == {first, "0" * 16}
        assert not trust.problem
        await trust.drop_sealing_key(first)
        assert set(trust.sealing.broken) == {"0" * 16}


@given(st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_when_the_next_key_is_due(age: timedelta) -> None:
    """After its time, and at once where the clock that made the newest was far ahead."""
    key = SealingKey.new(START - age, START - age + LIFE)
    ring = SealingRing(key.public.id, {key.public.id: key}, {})
    now_due = due(ring, START, LIFE) <= START
    assert now_due == (age >= LIFE or age < timedelta(days=-1))


def test_the_newest_is_the_one_that_was_made_last_whatever_the_clock_said() -> None:
    ahead = SealingKey.new(START + timedelta(days=3000), START + timedelta(days=3030))
    now = SealingKey.new(START, START + LIFE)
    ring = SealingRing(now.public.id, {k.public.id: k for k in (ahead, now)}, {})
    assert ring.newest is now and ring.keys == [now, ahead]
