"""The authority controller drops the old root when everybody has moved, and not before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec

from api.store import keys
from api.store.cache import Cache
from api.store.contract import Write
from api.store.indexes import standard
from api.store.memory import MemoryStore
from api.trust.records import ManagerRecord, manager_key
from api.trust.trust import Trust
from api.types import codec
from api.types.kinds import EVENT, NODE
from api.types.meta import Condition, Metadata
from api.types.node import Node, NodeCertificate, NodeStatus
from api.vault.key import VaultKey
from api.vault.vault import Vault
from controllers.authority import AuthorityController
from controllers.reconcile.recorder import Recorder


def clock() -> datetime:
    """The loop's time, which is virtual here."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=asyncio.get_running_loop().time())


class World:
    """A store, and a manager's controllers over it that can be started anew."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.vault = Vault([VaultKey.new()])
        self.trust = Trust(self.store, self.vault, clock=clock)
        self.cache = Cache(self.store)

    async def node(self, name: str, authority: str, *, ready: bool = True) -> None:
        status = NodeStatus(
            certificate=NodeCertificate(authority=authority),
            conditions=[Condition(type="Ready", status="True" if ready else "Unknown")],
        )
        node = Node(metadata=Metadata(name=name, uid=f"uid-{name}"), status=status)
        key = keys.object_key(NODE, "", name)
        await self.cache.caught_up(await self.store.commit([Write(key, codec.encode(node))]))

    async def remove(self, name: str) -> None:
        await self.store.commit([Write(keys.object_key(NODE, "", name), None)])

    async def manager(self, name: str, signs: str) -> None:
        record = ManagerRecord(url="https://m", since=clock(), signs=signs, trusts=[signs])
        await self.store.commit([Write(manager_key(name), msgspec.json.encode(record))])

    @contextlib.asynccontextmanager
    async def controllers(self) -> AsyncIterator[AuthorityController]:
        self.trust = Trust(self.store, self.vault, clock=clock)
        await self.trust.open()
        self.cache = Cache(self.store)
        standard(self.cache)
        recorder = Recorder(self.cache, self.store, clock)
        controller = AuthorityController(self.cache, self.trust, recorder, clock)
        parts = (self.cache, self.trust, recorder, controller)
        tasks = [asyncio.create_task(part.run()) for part in parts]
        await self.cache.synced()
        try:
            yield controller
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self) -> None:
        await asyncio.sleep(10)

    @property
    def replaced(self) -> bool:
        return not self.trust.record.next


async def test_it_waits_for_the_last_node_and_manager_through_restarts() -> None:
    world = World()
    async with world.controllers() as controller:
        old = world.trust.signing.id
        for name in ("a", "b", "away"):
            await world.node(name, old, ready=name != "away")
        await world.manager("m1", old)
        new = (await world.trust.rotate()).id
        await world.settle()
        assert not world.replaced
        assert controller.message.endswith("0 nodes moved, waiting for 4")
    async with world.controllers():  # started anew, right after it began
        await world.node("a", new)
        await world.node("b", new)
        await world.settle()
        assert not world.replaced
    async with world.controllers():  # in the middle
        await world.manager("m1", new)
        await world.settle()
        assert not world.replaced
        await world.remove("away")
        await world.settle()
        assert world.replaced
        assert world.trust.record.current == new
        events = [item.obj.reason for item in world.cache.items(EVENT)]
        assert events == ["RootReplaced"]
    async with world.controllers() as controller:  # when it is over
        await world.settle()
        assert controller.message == f"root {new}"
    await world.store.close()


async def test_the_old_root_is_kept_for_as_long_as_is_asked() -> None:
    world = World()
    async with world.controllers() as controller:
        new = (await world.trust.rotate(timedelta(hours=2))).id
        await world.node("a", new)
        await asyncio.sleep(3600)
        assert not world.replaced
        assert "kept until 2026-01-01 02:00" in controller.message
    async with world.controllers():
        await asyncio.sleep(3500)
        assert not world.replaced
        await asyncio.sleep(200)
        assert world.replaced
    await world.store.close()


async def test_two_managers_end_it_once() -> None:
    world = World()
    async with world.controllers():
        other = World()
        other.store, other.vault = world.store, world.vault
        async with other.controllers():
            await world.node("a", world.trust.signing.id)
            new = (await world.trust.rotate()).id
            await world.settle()
            assert not world.replaced
            await world.node("a", new)
            await world.settle()
            assert world.replaced
            assert other.replaced
            assert world.trust.mark == other.trust.mark == new
    await world.store.close()
