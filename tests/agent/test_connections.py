"""Requests to an engine's socket: whatever way an answer ends, and whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controllers.agent.drivers.contract import DriverError, EngineDown, NotFound
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.drivers.engine.connections import Answer, Connections

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


class Engine:
    """A socket that answers each request with the next of these bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: list[bytes] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.in_pieces = False
        self.closes = False  # after each answer
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                self.requests.append(head + await reader.readexactly(length))
                if not self.answers:
                    continue  # it hangs
                await self._answer(self.answers.pop(0), writer)
                if self.closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone, as clients do
        finally:
            writer.close()

    async def _answer(self, answer: bytes, writer: asyncio.StreamWriter) -> None:
        pieces = [answer]
        if self.in_pieces:
            pieces = [answer[at : at + 1] for at in range(len(answer))]
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    it = Engine(tmp_path / "engine.sock")
    server = await asyncio.start_unix_server(it.serve, it.path)
    try:
        yield it
    finally:
        await it.hang_up()
        server.close()
        await server.wait_closed()


@pytest.fixture
async def connections(engine: Engine) -> AsyncIterator[Connections]:
    it = Connections(str(engine.path))
    yield it
    it.close()


async def ask(connections: Connections, body: bytes = b"") -> Answer:
    return await connections.ask("GET", "/v1.41/containers/json?all=1", body, 10.0)


@pytest.mark.parametrize("in_pieces", [False, True])
async def test_an_answer_ends_by_its_length_its_chunks_or_its_status(
    engine: Engine, connections: Connections, in_pieces: bool
) -> None:
    engine.in_pieces = in_pieces
    engine.answers = [
        OK + b"content-length: 5\r\n\r\nwhole",
        OK
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\npar\r\nA;x=1\r\nts of one.\r\n0\r\nT: 1\r\n\r\n",
        EMPTY,
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
    ]
    assert [await ask(connections) for _ in range(5)] == [
        (200, b"whole"), (200, b"parts of one."), (204, b""), (304, b""), (404, b"{}"),
    ]  # fmt: skip
    assert engine.connections == 1, "it is kept for the next request"


async def test_an_answer_may_end_with_its_connection(
    engine: Engine, connections: Connections
) -> None:
    engine.closes = True
    engine.answers = [
        OK + b"\r\nall of it",
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx",
    ]
    assert await ask(connections) == (200, b"all of it")
    assert await ask(connections) == (200, b"x")
    assert engine.connections == 2


async def test_what_is_asked_arrives(engine: Engine, connections: Connections) -> None:
    engine.answers = [EMPTY]
    await ask(connections, b'{"Image": "x"}')
    head, _, body = engine.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"GET /v1.41/containers/json?all=1 HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: 14",
    ]
    assert body == b'{"Image": "x"}'


async def test_one_that_was_closed_meanwhile_is_not_used_again(
    engine: Engine, connections: Connections
) -> None:
    engine.answers = [EMPTY, EMPTY]
    await ask(connections)
    await engine.hang_up()
    async with asyncio.timeout(10):
        while connections._idle[0].usable:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
    assert await ask(connections) == (204, b"")
    assert engine.connections == 2


async def test_requests_at_one_time_have_a_connection_each(
    engine: Engine, connections: Connections
) -> None:
    engine.answers = [EMPTY, EMPTY, EMPTY]
    await asyncio.gather(ask(connections), ask(connections))
    await ask(connections)
    assert engine.connections == 2


async def test_who_gives_up_leaves_nothing_of_the_answer_to_the_next(
    engine: Engine, connections: Connections
) -> None:
    with pytest.raises(TimeoutError):
        await connections.ask("GET", "/", b"", 0.05)
    engine.answers = [OK + b"Content-Length: 4\r\n\r\nmine"]
    assert await ask(connections) == (200, b"mine")
    assert engine.connections == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "closed the connection before it had answered"),
        (OK, "closed the connection before it had answered"),
        (OK + b"Content-Length: 9\r\n\r\nhalf", "closed the connection before it had answered"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "is not HTTP: it begins with b'SSH-2.0-OpenSSH'"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "is not HTTP: .*'zz"),
    ],
)
async def test_what_is_no_answer_is_said(engine: Engine, answer: bytes, says: str) -> None:
    engine.closes = True
    engine.answers = [answer]
    client = EngineClient(f"unix://{engine.path}")
    client.docker.api_version = "v1.41"
    try:
        with pytest.raises(EngineDown, match=f"does not answer: .*{says}"):
            await client.call("GET", "info")
        assert client.docker.api_version == "auto", "it may come back as another version"
    finally:
        await client.close()


async def test_a_refusal_is_what_the_engine_says(engine: Engine) -> None:
    client = EngineClient(f"unix://{engine.path}")
    client.docker.api_version = "v1.41"
    said = b'{"message":"No such container: x"}'
    engine.answers = [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said),
        b"HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\nplain text",
        OK + b"Content-Length: 10\r\n\r\nplain text",
    ]
    try:
        with pytest.raises(NotFound, match=r"^No such container: x$"):
            await client.call("GET", "containers/x/json")
        with pytest.raises(DriverError, match=r"^plain text$"):
            await client.call("GET", "info")
        with pytest.raises(DriverError, match=r"GET info.*no JSON: 'plain text'"):
            await client.call("GET", "info")
    finally:
        await client.close()
