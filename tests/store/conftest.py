"""Stores for the tests: a fresh memory store, or an emptied real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from api.store.contract import Store, Write
from api.store.etcd import EtcdStore
from api.store.memory import MemoryStore
from api.store.sealed import SealedStore
from api.vault.envelope import Envelope
from tests.store.etcd import Etcd

BOTH = [
    "memory",
    "sealed-memory",
    pytest.param("etcd", marks=pytest.mark.etcd),
    pytest.param("sealed-etcd", marks=pytest.mark.etcd),
]


def sealed_over(inner: Store) -> SealedStore:
    """With a data key of its own."""
    envelope = Envelope()
    envelope.use({b"key1": bytes(32)}, b"key1")

    async def no_news() -> None: ...

    return SealedStore(inner, envelope, no_news)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One that all tests share which do it no harm."""
    member = Etcd(tmp_path_factory.mktemp("etcd"))
    member.start()
    yield member
    member.kill()


@pytest.fixture
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One for a single test, which may harm it."""
    member = Etcd(tmp_path_factory.mktemp("etcd"))
    member.start()
    yield member
    member.kill()


@pytest.fixture
async def etcd_store(etcd: Etcd) -> AsyncIterator[EtcdStore]:
    store = EtcdStore([etcd.endpoint], etcd.tls)
    left = await store.list("")
    await store.write([Write(item.key, None) for item in left.items])
    yield store
    await store.close()


@pytest.fixture
async def own_etcd_store(own_etcd: Etcd) -> AsyncIterator[EtcdStore]:
    store = EtcdStore([own_etcd.endpoint], own_etcd.tls, timeout=2)
    yield store
    await store.close()


@pytest.fixture
async def memory() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    yield store
    await store.close()


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest) -> Store:
    return _found(request, "etcd_store")


@pytest.fixture(params=BOTH)
def fresh_store(request: pytest.FixtureRequest) -> Store:
    """One in which nothing ever happened."""
    return _found(request, "own_etcd_store")


def _found(request: pytest.FixtureRequest, etcd: str) -> Store:
    name = "memory" if request.param.endswith("memory") else etcd
    found: Store = request.getfixturevalue(name)
    return sealed_over(found) if request.param.startswith("sealed") else found
