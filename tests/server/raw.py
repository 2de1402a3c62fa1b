"""Plain HTTP requests, for what the client would not send or does not show."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.server.harness import Running

BASE = "/apis/skep.dev/v1"


class Answer:
    """A response that has been read."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.code = response.status
        self.headers = response.headers
        self.body = body
        self._response = response

    async def json(self) -> Any:
        return await self._response.json()


async def request(
    server: Running, method: str, path: str, *, tls: ssl.SSLContext | None = None, **more: Any
) -> Answer:
    """`path` is below /apis/skep.dev/v1 unless it begins with `//`."""
    url = server.url + (path[1:] if path.startswith("//") else BASE + path)
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, ssl=tls or server.tls(), **more) as response,
    ):
        return Answer(response, await response.read())


@contextlib.asynccontextmanager
async def opened(
    server: Running, path: str, *, tls: ssl.SSLContext | None = None, **more: Any
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A response that is held open; `path` as in `request`."""
    url = server.url + (path[1:] if path.startswith("//") else BASE + path)
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, ssl=tls or server.tls(), **more) as response,
    ):
        yield response
