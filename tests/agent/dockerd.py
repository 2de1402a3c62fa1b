"""A small program in the place of a Docker Engine: its configuration file and its runtimes.

    python dockerd.py SOCKET FACTS [--config-file FILE] [--add-runtime …]

FACTS is a JSON file with what it says at /info, where its configuration is unless it is told, and
its containers with their runtimes and states. It reads its configuration at the start and at
SIGHUP, as an Engine does: without `runtimes` in it, those that it had stay; one that is no JSON
changes nothing. SOCKET `fd:N` is one that was opened for it, as systemd does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiohttp import web


class Dockerd:
    def __init__(self, facts: dict[str, Any], configuration: Path) -> None:
        self._facts = facts
        self._configuration = configuration
        self._runtimes: dict[str, Any] = {}

    def read(self) -> None:
        try:
            found = json.loads(self._configuration.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return
        if "runtimes" in found and not self._facts.get("deaf"):
            self._runtimes = found["runtimes"]

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41", "Version": "20.10.0"})

    async def info(self, request: web.Request) -> web.Response:
        said = {"DefaultRuntime": "runc", "SecurityOptions": ["name=seccomp,profile=default"]}
        said |= self._facts.get("info", {})
        runtimes = {"runc": {"path": "runc"}} | self._runtimes | self._facts.get("flags", {})
        return web.json_response(said | {"Runtimes": runtimes})

    async def containers(self, request: web.Request) -> web.Response:
        found = self._facts.get("containers", {})
        return web.json_response([{"Id": name, "State": found[name][1]} for name in found])

    async def container(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        runtime, _ = self._facts["containers"][name]
        return web.json_response({"Name": f"/{name}", "HostConfig": {"Runtime": runtime}})

    async def serve(self, path: str) -> None:
        app = web.Application()
        app.router.add_get("/version", self.version)
        app.router.add_get("/v1.41/info", self.info)
        app.router.add_get("/v1.41/containers/json", self.containers)
        app.router.add_get("/v1.41/containers/{id}/json", self.container)
        runner = web.AppRunner(app)
        await runner.setup()
        if path.startswith("fd:"):
            opened = socket.socket(fileno=int(path.removeprefix("fd:")))
            await web.SockSite(runner, opened).start()
        else:
            await web.UnixSite(runner, path).start()
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, self.read)
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self.read()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()


def main(path: str, facts: str, *words: str) -> None:
    told = json.loads(Path(facts).read_text())
    Path("/proc/self/comm").write_text(told.get("comm", "dockerd"))
    where = told["configuration"]
    for word, following in pairwise([*words, ""]):
        if word == "--config-file":
            where = following
    asyncio.run(Dockerd(told, Path(where)).serve(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
