"""All that is stored is sealed anew after a change of keys, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from api.store.cache import Cache
from api.store.contract import Unreadable, Write
from api.store.keys import RING, ROOT
from api.store.memory import MemoryStore
from api.store.sealed import SealedStore
from api.trust.keyring import Keyring
from api.trust.records import ManagerRecord, manager_key
from api.trust.trust import Trust
from api.vault.anchor import FILE, Anchor
from api.vault.envelope import key_of
from api.vault.local import LocalKeys
from controllers.encryption import EncryptionController
from controllers.reconcile.recorder import Recorder

PAYLOADS = ROOT + "payloads/default/"
MANY = 200


def clock() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A store, and a manager over it that can be started anew."""

    keyring: Keyring
    sealed: SealedStore

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = MemoryStore()
        self.purged = 0

    async def _purge(self) -> None:
        self.purged += 1

    @contextlib.asynccontextmanager
    async def manager(self, name: str = "m") -> AsyncIterator[EncryptionController]:
        path = self.home / "vault.key"
        keys = LocalKeys.load(path) if path.exists() else LocalKeys.create(path)
        anchor = Anchor.load(self.home / FILE)
        keyring = self.keyring = Keyring(self.store, [keys], anchor)
        await keyring.open()
        sealed = self.sealed = SealedStore(
            self.store,
            keyring.envelope,
            keyring.refresh,
            seen=await self.store.revision(),
            floor=anchor.seen.revision,
        )
        trust, cache = Trust(sealed, keys.vault), Cache(sealed)
        await trust.open()
        recorder = Recorder(cache, sealed, clock)
        controller = EncryptionController(
            sealed, cache, keyring, trust, anchor, recorder, clock,
            manager=name, purge=self._purge, batch=20,
        )  # fmt: skip
        parts = (cache, trust, keyring, controller)
        tasks = [asyncio.create_task(part.run()) for part in parts]
        await cache.synced()
        try:
            yield controller
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def sealing_keys(self) -> set[str]:
        """Ids of the data keys that something in the store is sealed with."""
        items = (await self.store.list(ROOT)).items
        return {key_of(item.value).hex() for item in items if item.key != RING}

    async def fill(self, count: int = MANY) -> None:
        await self.sealed.write([Write(f"{PAYLOADS}s{n}", b"v%d" % n) for n in range(count)])

    async def filled(self, count: int = MANY) -> None:
        for n in range(count):
            found = await self.sealed.get(f"{PAYLOADS}s{n}")
            assert found is not None and found.value == b"v%d" % n


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.store.close()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not reached():  # noqa: ASYNC110 — of conditions, not of one event
            await asyncio.sleep(0.001)


async def test_a_rotation_ends_with_one_key_that_sealed_all(world: World) -> None:
    async with world.manager() as controller:
        await world.fill()
        await world.keyring.rotate()
        new = world.keyring.ring.keys[0].id
        said: set[str] = set()

        while not world.keyring.ring.settled:
            said.add(controller.message)
            await asyncio.sleep(0)
        assert await world.sealing_keys() == {new}
        assert [key.id for key in world.keyring.ring.keys] == [new]
        assert len([each for each in said if "re-encrypting" in each]) > 3, said
        await world.filled()
        assert controller.status().reencryption is None
    assert world.purged == 0


async def test_killed_in_the_middle_it_goes_on(world: World) -> None:
    async with world.manager():
        await world.fill()
        await world.keyring.rotate()
    killed = 0
    while True:
        async with world.manager():
            end = await world.store.revision() + 2
            while await world.store.revision() < end and not world.keyring.ring.settled:
                pass  # the store lets others run
            if world.keyring.ring.settled:
                break
            killed += 1
            assert len(world.keyring.ring.keys) == 2
    assert killed > 1
    async with world.manager():
        assert len(await world.sealing_keys()) == 1
        await world.filled()


async def test_who_writes_meanwhile_wins(world: World) -> None:
    async with world.manager():
        await world.fill()
        await world.keyring.rotate()
        n = 0
        while not world.keyring.ring.settled:
            key = f"{PAYLOADS}s{n % MANY}"
            found = await world.sealed.get(key)
            assert found is not None
            outcomes = await world.sealed.write([Write(key, b"mine", found.revision)])
            n += isinstance(outcomes[0], int)
        for at in range(min(n, MANY)):
            found = await world.sealed.get(f"{PAYLOADS}s{at}")
            assert found is not None and found.value == b"mine"
        assert n > 10


async def test_values_on_a_lease_stay_on_it(world: World) -> None:
    async with world.manager():
        lease = await world.sealed.grant(60)
        await world.sealed.commit([Write(ROOT + "sessions/a", b"x", lease=lease)])
        await world.keyring.rotate()
        await until(lambda: world.keyring.ring.settled)
        found = await world.sealed.get(ROOT + "sessions/a")
        assert found is not None and (found.value, found.lease) == (b"x", lease)
        await world.sealed.revoke(lease)
        assert await world.sealed.get(ROOT + "sessions/a") is None


async def test_a_value_that_does_not_open_holds_nothing_up(world: World) -> None:
    async with world.manager() as controller:
        await world.fill(10)
        await world.store.commit([Write(f"{PAYLOADS}s3", b"rubbish")])
        await world.keyring.rotate()
        await until(lambda: world.keyring.ring.settled)
        assert f"{PAYLOADS}s3 is not sealed" in controller.message
        with pytest.raises(Unreadable):
            await world.sealed.get(f"{PAYLOADS}s3")
        await world.filled(3)


async def test_a_value_that_was_put_back_is_not_made_good(world: World) -> None:
    key = f"{PAYLOADS}one"
    async with world.manager():
        at = await world.sealed.commit([Write(key, b"1", 0)])
        first = await world.store.get(key)
        await world.sealed.commit([Write(key, b"2", at)])
        assert first is not None
        await world.store.commit([Write(key, first.value)])
        await world.keyring.rotate()
        await until(lambda: world.keyring.ring.settled)
        with pytest.raises(Unreadable):
            await world.sealed.get(key)


async def test_a_value_put_back_while_no_manager_runs_is_refused_by_the_next(world: World) -> None:
    key, other = f"{PAYLOADS}one", f"{PAYLOADS}other"
    async with world.manager():
        at = await world.sealed.commit([Write(key, b"1"), Write(other, b"x")])
        old = await world.store.get(key)
        await world.sealed.commit([Write(key, b"2", at)])
        await asyncio.sleep(120)  # what is kept of the store's way lags behind a little
        await world.sealed.commit([Write(other, b"y", at)])
    assert old is not None
    await world.store.commit([Write(key, old.value)])
    async with world.manager():
        with pytest.raises(Unreadable, match="put back"):
            await world.sealed.get(key)
        found = await world.sealed.get(other)
        assert found is not None and found.value == b"y"
        await asyncio.sleep(120)
        assert list(world.sealed.unopened) == [key]


async def test_a_manager_that_is_behind_is_waited_for(world: World) -> None:
    async with world.manager() as controller:
        await world.fill(10)

        async def other(generation: int) -> None:
            record = ManagerRecord(
                url="https://z", since=clock(), signs="", trusts=[], ring=generation
            )
            value = msgspec.json.encode(record)
            await world.sealed.commit([Write(manager_key("z"), value)])
            await world.sealed.commit([Write(manager_key("m"), value)])

        await other(1)
        await world.keyring.rotate()
        await until(lambda: "waiting for manager z" in controller.message)
        assert controller.status().waiting == ["manager z"]
        await asyncio.sleep(1)
        assert len(world.keyring.ring.keys) == 2
        await other(2)
        await until(lambda: world.keyring.ring.settled)


async def test_it_is_the_first_managers_work(world: World) -> None:
    async with world.manager("z") as controller:
        await world.fill(10)
        record = ManagerRecord(url="https://a", since=clock(), signs="", trusts=[], ring=9)
        await world.sealed.commit([Write(manager_key("a"), msgspec.json.encode(record))])
        await world.keyring.rotate()
        await asyncio.sleep(1)
        assert len(world.keyring.ring.keys) == 2
        status = controller.status()
        assert status.reencryption is not None and status.reencryption.manager == "a"
        await world.sealed.commit([Write(manager_key("a"), None)])
        await until(lambda: world.keyring.ring.settled)


async def test_a_store_of_an_earlier_version_is_sealed_and_plain_values_are_refused_then(
    world: World,
) -> None:
    plain = [Write(f"{PAYLOADS}s{n}", b"v%d" % n) for n in range(MANY)]
    await world.store.write([*plain, Write(ROOT + "cluster", b"{}")])
    async with world.manager() as controller:
        await world.filled(10)
        await until(lambda: world.keyring.ring.settled)
        assert "" not in await world.sealing_keys()
        await world.filled()
        await until(lambda: world.purged == 1)
        await world.store.commit([Write(f"{PAYLOADS}s3", b"forged")])
        with pytest.raises(Unreadable, match="is not sealed"):
            await world.sealed.get(f"{PAYLOADS}s3")
        assert controller.status().unsealed is None
    async with world.manager():
        with pytest.raises(Unreadable, match="is not sealed"):
            await world.sealed.get(f"{PAYLOADS}s3")


async def test_the_key_encryption_key_is_replaced_when_all_managers_have_the_new_one(
    world: World,
) -> None:
    async with world.manager():
        before = (world.home / "vault.key").read_text()
        await world.keyring.rewrap()
        await until(lambda: not world.keyring.ring.kek)
    after = (world.home / "vault.key").read_text()
    assert len(after.split()) == 1 and after != before
    async with world.manager():
        await world.sealed.commit([Write(f"{PAYLOADS}a", b"x")])
