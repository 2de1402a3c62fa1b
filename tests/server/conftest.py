"""A running server, and an admin's client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from api.client import Client
from tests.server.harness import Running, running_server


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running_server() as running:
        yield running


@pytest.fixture
async def admin(server: Running) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client
