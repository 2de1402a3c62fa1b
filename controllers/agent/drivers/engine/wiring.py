"""Whether the agent makes its containers' networks, or leaves them to the engine, and why.

It makes them where the engine knows the runtime `skep` (`skepd engine install`) and its default
bridge is one whose addresses can be shared. Else, and for a container that publishes ports, the
engine does, as it always can.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from api.types.template import Dns
from controllers.agent.drivers.contract import DriverError, NotFound, Refused
from controllers.agent.drivers.engine import answers
from controllers.agent.drivers.engine.body import RUNTIME
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.drivers.registration.errors import RegistrationError
from controllers.agent.drivers.registration.files import RUNTIME as OURS
from controllers.agent.drivers.registration.process import EngineProcess, find
from controllers.agent.network.bridge import Bridge, own_address
from controllers.agent.network.namespaces import Namespaces, NetworkError

_UNDERLYING = "runc"  # what the runtime hands on to
_NAME = "com.docker.network.bridge.name"
_MTU = "com.docker.network.driver.mtu"
_OWN = "docker0"  # of the engine's own making


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
        self.resolvers = Dns()  # that the engine's configuration has for all containers
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
            engine = await asyncio.to_thread(_engine, self._client.url, program)
            bridge = shared(await self._default_network())
            await self._open(engine.pid)
            self.resolvers = await asyncio.to_thread(resolvers, engine.flags.configuration)
            self.bridge, self.reason = bridge, ""
        except (NotShared, NetworkError, RegistrationError) as error:
            self.bridge, self.reason = None, str(error)
        self._known = True

    async def _default_network(self) -> Mapping[str, Any]:
        """Raises NotShared, EngineDown."""
        try:
            found: Mapping[str, Any] = await self._client.call("GET", "networks/bridge")
        except (NotFound, Refused) as error:
            raise NotShared(f"the engine has no default bridge: {error}") from error
        return found

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
            known = own_address(_routes(pid, self._where), self.bridge)
            if known:
                self._addresses[container_id, pid] = known
        return known

    def forget(self, container_id: str) -> None:
        for key in [key for key in self._addresses if key[0] == container_id]:
            del self._addresses[key]

    async def close(self) -> None:
        namespaces, self._namespaces = self._namespaces, None
        if namespaces is not None:
            await namespaces.close()

    async def _open(self, engine: int) -> None:
        """Be where the engine is; it may be another process now, and elsewhere. Raises
        NetworkError."""
        place = Path(f"/proc/{engine}/ns/net")
        where = _namespace(engine)
        if self._namespaces is not None and where == self._where:
            return
        await self.close()
        namespaces = Namespaces(place)
        await namespaces.open()
        self._namespaces, self._where = namespaces, where


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
    try:
        return _shared(network)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise NotShared(
            f"what the engine says of its default bridge is not known: {error}"
        ) from None


def _shared(network: Mapping[str, Any]) -> Bridge:
    pools = network["IPAM"]["Config"] or []
    options = network["Options"] or {}
    if network["Driver"] != "bridge" or len(pools) != 1 or _NAME not in options:
        raise NotShared("the engine has no default bridge with one subnet")
    if options[_NAME] != _OWN:
        raise NotShared(f"{options[_NAME]} is not the engine's own bridge: others may use it, too")
    if network.get("EnableIPv6"):
        raise NotShared("the engine's default bridge has IPv6")
    if pools[0].get("IPRange") or pools[0].get("AuxiliaryAddresses"):
        raise NotShared("the engine has plans of its own for addresses on its default bridge")
    bridge = Bridge(
        name=options[_NAME],
        network=ipaddress.IPv4Network(pools[0]["Subnet"]),
        gateway=ipaddress.IPv4Address(answers.gateways(pools)[0]),
        mtu=int(options.get(_MTU) or 1500),
    )
    if not bridge.roomy:
        raise NotShared(f"the subnet of the engine's default bridge is small ({bridge.network})")
    return bridge


def resolvers(configuration: Path) -> Dns:
    """Those that the engine gives to containers which name none."""
    try:
        found = json.loads(configuration.read_bytes())
        return Dns(
            servers=[str(server) for server in found.get("dns") or ()],
            search=[str(domain) for domain in found.get("dns-search") or ()],
            options=[str(option) for option in found.get("dns-opts") or ()],
        )
    except FileNotFoundError:
        return Dns()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise NotShared(f"{configuration} can't be read: {error}") from error


def _routes(pid: int, place: int) -> str:
    """Of the process's network namespace, where that is not `place`: then the process has ended,
    and its number is another's. Empty, too, where it has just ended."""
    try:
        return "" if _namespace(pid) == place else Path(f"/proc/{pid}/net/fib_trie").read_text()
    except (OSError, NotShared):
        return ""


def _namespace(pid: int) -> int:
    """The inode of its network namespace. Raises NotShared where it has ended."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError as error:
        raise NotShared(f"process {pid} is gone: {error.strerror}") from error


def _engine(url: str, program: str) -> EngineProcess:
    """The engine, in whose namespace the bridge is, and which has this program for the runtime.
    Raises NotShared, RegistrationError."""
    path = url.removeprefix("unix://")
    if path == url:
        raise NotShared(f"the engine at {url} may be on another machine")
    if os.geteuid() != 0:
        raise NotShared("the agent does not run as root")
    engine = find(Path(path))
    if engine.flags.resolvers:
        raise NotShared("the engine's name servers are on its command line (--dns)")
    if not _as_ours(Path(program)):
        raise NotShared(
            f"the engine's runtime {RUNTIME}, {program}, is not there, or not this version's;"
            " `skepd engine install` puts it in place"
        )
    return engine


def _as_ours(program: Path) -> bool:
    try:
        return os.access(program, os.X_OK) and program.read_bytes() == OURS.read_bytes()
    except OSError:
        return False
