"""A TCP relay in front of a server: a network that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from api.client import Client
from tests.server.harness import Running


class Relay:
    """Passes bytes both ways; `cut` breaks all connections there are, `refuse` new ones too."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.refuse = False
        self.sent: list[bytearray] = []  # by clients, of each connection

    def client(self, server: Running, *, node: str = "", patience: float = 3.0) -> Client:
        url = f"https://127.0.0.1:{self.port}"
        return Client(url, server.tls(node=node), patience=patience)

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        up, down = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, down}
        self.sent.append(bytearray())
        ways = [
            asyncio.create_task(_pass(reader, down, self.sent[-1])),
            asyncio.create_task(_pass(up, writer)),
        ]
        self._tasks |= set(ways)
        await asyncio.wait(ways)
        self._tasks -= set(ways)
        self._open -= {writer, down}

    async def close(self) -> None:
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None = None
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            if kept is not None:
                kept += data
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def relayed(server: Running) -> AsyncIterator[Relay]:
    relay = Relay(server.port)
    listening = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = listening.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        await relay.close()
        listening.close()
        await listening.wait_closed()
