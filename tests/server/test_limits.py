"""A client that asks for too much is told so, and the others feel nothing."""

from __future__ import annotations

import asyncio

from api.client import ApiError, Client
from api.server import Settings
from api.server.limits import Limits
from api.types.kinds import SERVICE
from tests.server.harness import Running, running_server
from tests.server.raw import request


async def watching(client: Client, count: int) -> tuple[list[asyncio.Task[None]], list[ApiError]]:
    """That many watches; those that stay open, and the refusals of the others."""
    refused: list[ApiError] = []

    async def watch() -> None:
        try:
            async for _ in client.watch(SERVICE, resource_version="0"):
                pass
        except ApiError as error:
            refused.append(error)

    tasks = [asyncio.create_task(watch()) for _ in range(count)]
    return tasks, refused


async def open_watches(server: Running) -> int:
    text = (await request(server, "GET", "//metrics")).body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("skep_api_watchers ")]
    return int(float(line.split()[1]))


async def reached(server: Running, watches: int) -> None:
    async with asyncio.timeout(20):
        while await open_watches(server) != watches:  # noqa: ASYNC110 — told from outside
            await asyncio.sleep(0.01)


async def test_too_many_watches_of_one_client_are_refused_with_a_time_to_come_back() -> None:
    settings = Settings(limits=Limits(held=3))
    async with (
        running_server(settings=settings) as server,
        server.client(patience=0) as admin,
        server.client(patience=0) as same,
    ):
        tasks, refused = await watching(admin, 5)
        await reached(server, 3)
        async with asyncio.timeout(20):
            for over in asyncio.as_completed(tasks):
                await over
                if len(refused) == 2:
                    break
        assert {error.code for error in refused} == {429}
        assert "which is the most for one client" in refused[0].message
        # It still has its requests, and others their watches.
        await same.list(SERVICE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await reached(server, 0)


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with running_server(settings=Settings(body_time=0.2)) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=server.tls(), server_hostname="localhost"
        )
        head = "POST /apis/skep.dev/v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
        writer.write(head.encode())
        async with asyncio.timeout(20):
            first = await reader.readline()
        writer.close()
        assert b" 408 " in first


async def test_headers_and_urls_have_a_size(server: Running) -> None:
    answer = await request(server, "GET", "/services?labelSelector=" + "a" * 10_000)
    assert answer.code in (400, 414)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=server.tls(), server_hostname="localhost"
    )
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 20_000 + b"\r\n\r\n")
    async with asyncio.timeout(20):
        first = await reader.readline()
    writer.close()
    assert b" 400 " in first or b" 431 " in first
