"""The ring of data keys: shared by managers, kept from who can write to the store, and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from api.store.contract import Write
from api.store.keys import RING
from api.store.memory import MemoryStore
from api.trust.keyring import Keyring, KeyringError
from api.vault.anchor import FILE, Anchor
from api.vault.errors import VaultError
from api.vault.key import UnlockKey, VaultKey
from api.vault.local import LocalKeys, Locked

A = "/skep/v1/objects/services/default/a"


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    made = MemoryStore()
    yield made
    await made.close()


class Manager:
    """One manager's data directory and what it makes of the store."""

    def __init__(self, home: Path, store: MemoryStore) -> None:
        self.home = home
        self.store = store

    @property
    def file(self) -> Path:
        return self.home / "vault.key"

    async def start(self, keys: LocalKeys | None = None) -> Keyring:
        if keys is None:
            keys = LocalKeys.load(self.file) if self.file.exists() else LocalKeys.create(self.file)
        ring = Keyring(self.store, [keys], Anchor.load(self.home / FILE))
        await ring.open()
        return ring

    def joins(self, home: Path) -> Manager:
        """Another manager, that was given the key."""
        made = Manager(home, self.store)
        made.home.mkdir()
        made.file.write_bytes(self.file.read_bytes())
        made.file.chmod(0o600)
        return made


@pytest.fixture
def one(tmp_path: Path, store: MemoryStore) -> Manager:
    return Manager(tmp_path / "one", store)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return tmp_path / "two"


@contextlib.asynccontextmanager
async def followed(ring: Keyring) -> AsyncIterator[None]:
    task = asyncio.create_task(ring.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await reached():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def raw(store: MemoryStore) -> bytes:
    found = await store.get(RING)
    return found.value if found else b""


async def test_it_is_there_again_after_a_restart(one: Manager) -> None:
    first = await one.start()
    sealed = first.envelope.seal(A, b"x")
    assert (await one.start()).envelope.open(A, sealed).plain == b"x"


async def test_no_key_is_readable_in_the_store(one: Manager, store: MemoryStore) -> None:
    ring = await one.start()
    assert ring.local is not None
    for secret in (ring.ring.keys[0].raw, ring.local.keys[0].raw):
        for form in (secret, secret.hex().encode(), ring.ring.keys[0].id.encode()):
            assert form not in await raw(store)


async def test_managers_that_start_at_the_same_moment_agree(one: Manager, two: Path) -> None:
    LocalKeys.create(one.file)
    rings = await asyncio.gather(one.start(), one.joins(two).start())
    assert rings[0].ring == rings[1].ring


async def test_another_key_opens_nothing_and_writes_nothing(
    one: Manager, two: Path, store: MemoryStore
) -> None:
    await one.start()
    before = await raw(store)
    with pytest.raises(VaultError, match=r"bring vault\.key of another manager"):
        await Manager(two, store).start()
    assert await raw(store) == before


async def test_a_new_key_seals_and_the_old_one_opens_until_it_is_dropped(
    one: Manager, two: Path
) -> None:
    first = await one.start()
    second = await one.joins(two).start()
    old = first.envelope.seal(A, b"old")
    await first.rotate()
    with pytest.raises(KeyringError, match="already"):
        await first.rotate()
    new = first.envelope.seal(A, b"new")
    await second.refresh()
    assert second.envelope.open(A, new).plain == b"new"
    assert second.envelope.open(A, old).plain == b"old"
    await first.settle(first.ring.generation - 1)
    assert len(first.ring.keys) == 2  # it had changed since
    await first.settle(first.ring.generation)
    with pytest.raises(VaultError, match="ring has not"):
        first.envelope.open(A, old)


async def test_two_that_change_it_at_once_both_do(one: Manager, two: Path) -> None:
    first = await one.start()
    second = await one.joins(two).start()
    await first.rotate()
    await second.lock()
    await first.refresh()
    assert first.ring == second.ring
    assert len(first.ring.keys) == 2 and first.ring.lock is not None


async def test_a_ring_put_back_by_others_is_refused_at_start(
    one: Manager, store: MemoryStore
) -> None:
    ring = await one.start()
    old = await raw(store)
    await ring.rotate()
    await store.commit([Write(RING, old)])
    with pytest.raises(VaultError, match=r"was replaced \(generation 1, and 2 was seen\)"):
        await one.start()
    await store.commit([Write(RING, None)])
    with pytest.raises(VaultError, match=r"is gone.*Nothing was written"):
        await one.start()
    assert await raw(store) == b""


@pytest.mark.parametrize("what", ["gone", "old", "rubbish"])
async def test_a_manager_that_runs_puts_the_ring_back(
    one: Manager, store: MemoryStore, what: str
) -> None:
    ring = await one.start()
    old = await raw(store)
    await ring.rotate()
    good = await raw(store)

    async def mended() -> bool:
        return await raw(store) == good

    async with followed(ring):
        value = {"gone": None, "old": old, "rubbish": b"rubbish"}[what]
        await store.commit([Write(RING, value)])
        await until(mended)
    assert (await one.start()).ring == ring.ring


async def test_a_ring_whose_bits_were_flipped_leaves_what_was(
    one: Manager, store: MemoryStore
) -> None:
    ring = await one.start()
    good = await raw(store)
    await store.commit([Write(RING, good[:-20] + b"A" + good[-19:])])
    await ring.refresh()
    assert ring.problem
    assert ring.envelope.open(A, ring.envelope.seal(A, b"x")).plain == b"x"
    with pytest.raises(VaultError):
        await one.start()


async def test_a_store_that_was_set_back_is_told_and_used(
    one: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    await one.start()
    anchor = Anchor.load(one.home / FILE)
    anchor.see(revision=10_000)
    await one.start()
    assert "it was set back" in capsys.readouterr().out
    await one.start()
    assert "it was set back" not in capsys.readouterr().out


# The key-encryption key


async def test_the_key_is_replaced_in_every_managers_file(one: Manager, two: Path) -> None:
    first = await one.start()
    other = one.joins(two)
    second = await other.start()
    away = one.joins(two.with_name("away"))
    before = one.file.read_text()
    assert await first.rewrap() is None
    await second.refresh()
    assert len(one.file.read_text().split()) == len(other.file.read_text().split()) == 2
    # Whoever is killed here finds both keys, and the ring is wrapped for both.
    assert (await one.start()).ring == first.ring
    await first.finish_rewrap()
    await second.refresh()
    assert one.file.read_text() == other.file.read_text()
    assert one.file.read_text() not in before
    for manager in (one, other):
        assert (await manager.start()).ring.keys == first.ring.keys
    with pytest.raises(VaultError, match="bring"):
        await away.start()


async def test_its_file_is_its_owners_alone(one: Manager) -> None:
    await one.start()
    assert stat.S_IMODE(one.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(one.home.stat().st_mode) == 0o700
    one.file.chmod(0o640)
    with pytest.raises(VaultError, match="chmod 600"):
        await one.start()


@pytest.mark.parametrize("text", ["", "\n", "SKEPKEY-1-abc\n", "SKEPLOCK-1-%%%\n"])
def test_a_damaged_file_is_named_and_left(one: Manager, text: str) -> None:
    one.home.mkdir()
    one.file.write_text(text)
    one.file.chmod(0o600)
    with pytest.raises(VaultError, match=r"vault\.key") as error:
        LocalKeys.load(one.file)
    assert not isinstance(error.value, Locked)
    assert one.file.read_text() == text


# The lock


def unlocked(manager: Manager, key: UnlockKey) -> LocalKeys:
    with pytest.raises(Locked) as locked:
        LocalKeys.load(manager.file)
    return LocalKeys.unlocked(manager.file, locked.value.blob, key)


async def test_a_locked_file_opens_with_the_unlock_key_alone(one: Manager, two: Path) -> None:
    first = await one.start()
    other = one.joins(two)
    second = await other.start()
    assert first.local is not None
    kek = first.local.keys[0]
    key = await first.lock()
    await second.refresh()
    for manager in (one, other):
        assert kek.text() not in manager.file.read_text()
        for wrong in (UnlockKey.new() for _ in range(100)):
            with pytest.raises(VaultError, match="not the unlock key"):
                unlocked(manager, wrong)
        ring = await manager.start(unlocked(manager, key))
        assert ring.ring.keys == first.ring.keys
        assert kek.text() not in manager.file.read_text()


async def test_a_lock_is_changed_and_taken_off(one: Manager) -> None:
    ring = await one.start()
    with pytest.raises(KeyringError, match="is not locked"):
        await ring.lock(anew=True)
    old = await ring.lock()
    with pytest.raises(KeyringError, match="locked already"):
        await ring.lock()
    new = await ring.lock(anew=True)
    with pytest.raises(VaultError):
        unlocked(one, old)
    ring = await one.start(unlocked(one, new))
    await ring.unlock()
    assert (await one.start()).ring.lock is None


async def test_a_manager_that_was_away_is_locked_when_it_comes(one: Manager, two: Path) -> None:
    ring = await one.start()
    other = one.joins(two)
    key = await ring.lock()
    await other.start()
    await other.start(unlocked(other, key))


async def test_a_locked_clusters_key_is_replaced_with_its_unlock_key(one: Manager) -> None:
    ring = await one.start()
    old = await ring.lock()
    new = await ring.rewrap()
    assert new is not None
    with pytest.raises(VaultError):
        unlocked(one, old)
    with pytest.raises(KeyringError, match="being replaced"):
        await ring.lock(anew=True)
    await ring.finish_rewrap()
    again = await one.start(unlocked(one, new))
    assert again.ring.keys == ring.ring.keys
    assert "SKEPKEY" not in one.file.read_text()


@pytest.mark.parametrize("type", [VaultKey, UnlockKey])
def test_a_key_does_not_show_when_it_is_printed(type: type[VaultKey]) -> None:
    key = type.new()
    assert key.text() not in f"{key} {key!r}"
    assert type.parse(f" {key.text()}\n").raw == key.raw
