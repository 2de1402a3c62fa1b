"""Stores for the tests: a fresh memory store, or an emptied real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from api.store.contract import Store, Write
from api.store.etcd import EtcdStore
from api.store.memory import MemoryStore
from tests.store.etcd import Etcd

BOTH = ["memory", pytest.param("etcd", marks=pytest.mark.etcd)]


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
    name = "memory" if request.param == "memory" else "etcd_store"
    found: Store = request.getfixturevalue(name)
    return found


@pytest.fixture(params=BOTH)
def fresh_store(request: pytest.FixtureRequest) -> Store:
    """One in which nothing ever happened."""
    name = "memory" if request.param == "memory" else "own_etcd_store"
    found: Store = request.getfixturevalue(name)
    return found
