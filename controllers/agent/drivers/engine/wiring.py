"""Whether the agent makes its containers' networks, or leaves them to the engine, and why.

It makes them where the engine knows the runtime `skep` (`skepd engine install`) and its default
bridge is one whose addresses can be shared. Else, and for a container that publishes ports, the
engine does, as it always can.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controllers.agent.drivers.contract import DriverError
from controllers.agent.drivers.engine import answers
from controllers.agent.drivers.engine.body import RUNTIME
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.network.bridge import Bridge, own_address
from controllers.agent.network.namespaces import LINKS, Namespaces, NetworkError

_UNDERLYING = "runc"  # what the runtime hands on to
_NAME = "com.docker.network.bridge.name"
_MTU = "com.docker.network.driver.mtu"
_CREDENTIALS = struct.Struct("3i")  # SO_PEERCRED's process, user, group


class NotShared(Exception):
    """The engine's bridge can't be used; the text says why."""


class Wiring:
    """`bridge` is None where the engine makes the networks; `reason` then says why."""

    def __init__(self, client: EngineClient, *, wanted: bool) -> None:
        self._client = client
        self._wanted = wanted
        self._namespaces: Namespaces | None = None
        self._addresses: dict[tuple[str, int], str] = {}  # by container id and process
        self._where = 0  # the inode of the network namespace that they are wired in
        self._known = False
        self._looking = asyncio.Lock()
        self.bridge: Bridge | None = None
        self.reason = ""

    async def look(self, info: Mapping[str, Any]) -> None:
        """See what the engine is like now. Raises EngineDown."""
        async with self._looking:
            await self._look(info)

    async def _look(self, info: Mapping[str, Any]) -> None:
        try:
            if not self._wanted:
                raise NotShared("the agent was started with --engine-network")
            program = fits(info)
            engine = _engine(self._client.url)
            if not os.access(f"/proc/{engine}/root{program}", os.X_OK):
                raise NotShared(
                    f"the engine's runtime {RUNTIME}, {program}, is not there or can't be run;"
                    " `skepd engine install` puts it in place"
                )
            await self._open(engine)
            self.bridge = shared(await self._client.call("GET", "networks/bridge"))
            self.reason = ""
        except (NotShared, NetworkError) as error:
            self.bridge, self.reason = None, str(error)
        self._known = True

    async def known(self) -> None:
        """Look, if nobody has. Raises EngineDown."""
        if self._known:
            return
        async with self._looking:
            if not self._known:
                await self._look(await self._client.call("GET", "info"))

    @asynccontextmanager
    async def wired(self, container_id: str) -> AsyncIterator[None]:
        """The container, which is to be started in the block, finds its network. Raises
        DriverError."""
        await self.known()
        if self._namespaces is None or self.bridge is None:
            raise DriverError(
                f"the container was made for a network of the agent's, which can't be made any"
                f" more: {self.reason}"
            )
        try:
            async with self._namespaces.wired(container_id, self.bridge):
                yield
        except NetworkError as error:
            raise DriverError(str(error)) from error

    @property
    def words(self) -> str:
        """Whose networks containers have, for people."""
        return f"skep's, on {self.bridge.name}" if self.bridge else f"the engine's: {self.reason}"

    async def address(self, container_id: str, pid: int) -> str:
        """Of a container that we wired and that runs as this process; "" where it has ended.
        Raises EngineDown."""
        known = self._addresses.get((container_id, pid), "")
        if pid and not known:
            await self.known()
            network = self.bridge.network if self.bridge else None
            known = own_address(_routes(pid), network)
            if known:
                self._addresses[container_id, pid] = known
        return known

    def forget(self, container_id: str) -> None:
        for key in [key for key in self._addresses if key[0] == container_id]:
            del self._addresses[key]

    async def close(self) -> None:
        if self._namespaces is not None:
            await self._namespaces.close()
            self._namespaces = None

    async def _open(self, engine: int) -> None:
        """Be where the engine is; it may be another process now, and elsewhere. Raises NotShared,
        NetworkError."""
        place = Path(f"/proc/{engine}/ns/net")
        try:
            where = place.stat().st_ino  # noqa: ASYNC240 - of the kernel, at once
            if self._namespaces is not None and where == self._where:
                return
            await self.close()
            namespaces = Namespaces(place)
            await namespaces.open()
            self._namespaces, self._where = namespaces, where
            if not LINKS.samefile(f"/proc/{engine}/root{LINKS}"):
                raise NotShared(f"the engine sees another {LINKS} than the agent")
        except OSError as error:
            raise NotShared(f"{error.filename}: {error.strerror}") from error


def fits(info: Mapping[str, Any]) -> str:
    """The runtime's program, from the engine's info. Raises NotShared."""
    runtimes = info.get("Runtimes") or {}
    if RUNTIME not in runtimes:
        raise NotShared(
            f"the engine does not know the runtime {RUNTIME}; `skepd engine install` tells it, and"
            " containers then start in about half the time"
        )
    if (default := info.get("DefaultRuntime")) != _UNDERLYING:
        raise NotShared(f"the engine's default runtime is {default}, not {_UNDERLYING}")
    for option in info.get("SecurityOptions") or ():
        if re.match("name=(userns|rootless)", option):
            raise NotShared(f"the engine's containers are in another user namespace ({option})")
    return str(runtimes[RUNTIME].get("path", ""))


def shared(network: Mapping[str, Any]) -> Bridge:
    """The bridge, from what the engine says of its default network. Raises NotShared."""
    pools = network["IPAM"]["Config"] or []
    options = network["Options"] or {}
    if network["Driver"] != "bridge" or len(pools) != 1 or _NAME not in options:
        raise NotShared("the engine has no default bridge with one subnet")
    if network.get("EnableIPv6"):
        raise NotShared("the engine's default bridge has IPv6")
    if "IPRange" in pools[0]:
        raise NotShared("the engine takes addresses from a part of its default bridge only")
    bridge = Bridge(
        name=options[_NAME],
        network=ipaddress.IPv4Network(pools[0]["Subnet"]),
        gateway=ipaddress.IPv4Address(answers.gateways(pools)[0]),
        mtu=int(options.get(_MTU) or 1500),
    )
    if not bridge.roomy:
        raise NotShared(f"the subnet of the engine's default bridge is small ({bridge.network})")
    return bridge


def _routes(pid: int) -> str:
    """Empty where the process has just ended."""
    try:
        return Path(f"/proc/{pid}/net/fib_trie").read_text()
    except OSError:
        return ""


def _engine(url: str) -> int:
    """The process that listens on the engine's socket. Raises NotShared."""
    path = url.removeprefix("unix://")
    if path == url:
        raise NotShared(f"the engine at {url} may be on another machine")
    if os.geteuid() != 0:
        raise NotShared("the agent does not run as root")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
        except OSError as error:
            raise NotShared(f"{path} can't be connected to: {error.strerror}") from error
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid = int(_CREDENTIALS.unpack(raw)[0])
    if not pid:
        raise NotShared("the engine is in another process namespace than the agent")
    return pid
