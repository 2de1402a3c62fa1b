"""Between the agent and its engine: everything passes, every request is noted."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

_REQUEST = re.compile(rb"^(?:[A-Z]+) /\S+ HTTP/1\.1\r\n")


class Relay:
    def __init__(self, path: Path, engine: str = "/var/run/docker.sock") -> None:
        self.url = f"unix://{path}"
        self.requests: list[str] = []  # `POST containers/create` and so on, without ids
        self.asked = asyncio.Event()
        self._hangs = False
        self._path = path
        self._engine = engine
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def hang(self) -> None:
        """From now on nothing is answered."""
        self._hangs = True

    def take(self) -> list[str]:
        """What was asked since the last time, sorted."""
        requests, self.requests = sorted(self.requests), []
        return requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_unix_connection(self._engine)
        for task in (
            asyncio.create_task(self._copy(reader, here, note=True)),
            asyncio.create_task(self._copy(there, writer, note=False)),
        ):
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                if note and _REQUEST.match(data):
                    self._note(data.partition(b"\r\n")[0].decode())
                if self._hangs:
                    continue
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one end has gone, as ends do
        finally:
            writer.close()

    def _note(self, line: str) -> None:
        method, target, _ = line.split(" ")
        path = re.sub(r"^/v[\d.]+/", "", target.partition("?")[0])
        self.asked.set()
        self.requests.append(f"{method} {re.sub(r'[0-9a-f]{64}', '*', path)}")
