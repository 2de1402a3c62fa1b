"""Stores for the tests: a fresh memory store, or a root of its own in a real etcd."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.store.contract import Store
from api.store.memory import MemoryStore


@pytest.fixture(params=["memory"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    memory = MemoryStore()
    yield memory
    await memory.close()
