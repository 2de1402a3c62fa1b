"""What an engine's containers have of a network: who makes it, the names they know each other by,
and their name servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from api.types.template import Dns
from controllers.agent.drivers.contract import Container, ContainerSpec, NotFound, Phase, Refused
from controllers.agent.drivers.engine import answers, body
from controllers.agent.drivers.engine.box import HOST_GATEWAY, dns, extra_hosts
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.drivers.engine.names import Entry, Names
from controllers.agent.drivers.engine.resolvers import Resolvers
from controllers.agent.drivers.engine.wiring import Wiring


class Files(msgspec.Struct, frozen=True):
    """Of the agent's, seen in a container."""

    hosts: str
    resolvers: str  # "" where its network is the engine's, which has its own


class Networks:
    """`directory` is for the files, which are those of one cluster's containers."""

    def __init__(
        self, client: EngineClient, directory: Path, cluster: str, *, engine_network: bool
    ) -> None:
        self._client = client
        self._names = Names(directory / f"hosts-{cluster[:8]}")
        self._resolvers = Resolvers(directory / f"resolv-{cluster[:8]}")
        self._wiring = Wiring(client, wanted=not engine_network)
        self._wired: set[str] = set()  # ids of containers whose networks we make

    async def look(self, info: Mapping[str, Any]) -> str:
        """See what the engine is like now: whose networks containers have, for people. Raises
        EngineDown."""
        await self._wiring.look(info)
        return self._wiring.words

    async def settled(self, spec: ContainerSpec) -> ContainerSpec:
        """With the node's address in place of `host-gateway`: /etc/hosts is ours to write. Raises
        Refused."""
        template = spec.template
        if HOST_GATEWAY not in template.extra_hosts.values():
            return spec
        try:
            bridge = await self._client.call("GET", "networks/bridge")
            gateway = answers.gateways(bridge["IPAM"]["Config"])[0]
        except (NotFound, IndexError):
            raise Refused(
                "the engine's bridge network has no gateway, so there is no host-gateway"
            ) from None
        hosts = {
            name: gateway if address == HOST_GATEWAY else address
            for name, address in template.extra_hosts.items()
        }
        settled = msgspec.structs.replace(template, extra_hosts=hosts)
        return msgspec.structs.replace(spec, template=settled)

    async def files(self, spec: ContainerSpec) -> Files:
        """For a container that is to be made. A port is published by the engine, so then the
        network is the engine's too. Raises DriverError."""
        template = spec.template
        extra = tuple(template.extra_hosts.items())
        entry = Entry(spec.namespace, spec.service, spec.task_name, spec.hostname, extra=extra)
        self._names.put(spec.task_uid, entry)
        hosts = str(self._names.path(spec.namespace, spec.task_uid).absolute())
        await self._wiring.known()
        if self._wiring.bridge is None or template.ports:
            return Files(hosts, "")
        return Files(hosts, self._resolve(spec.task_uid, template.dns))

    def met(self, container_id: str, labels: Mapping[str, str]) -> None:
        """A container of ours with these labels is there."""
        if labels.get(body.WIRED) == "true":
            self._wired.add(container_id)

    @asynccontextmanager
    async def ready(self, container_id: str) -> AsyncIterator[None]:
        """It has its network when it starts in the block. Raises DriverError."""
        if container_id not in self._wired:
            yield  # the engine sees to it
            return
        async with self._wiring.wired(container_id):
            yield

    async def seen(self, container: Container, inspected: Mapping[str, Any]) -> Container:
        """With its address; others find it there by its names from now on. Raises DriverError."""
        config = inspected["Config"]
        self.met(container.id, config["Labels"])
        if container.id in self._wired:
            address = await self._wiring.address(container.id, container.pid)
            container = msgspec.structs.replace(container, address=address)
            if container.phase is Phase.CREATED:  # /run may have been emptied since
                self._resolve(container.task_uid, dns(inspected))
        self._names.put(
            container.task_uid,
            Entry(
                container.namespace,
                config["Labels"][body.SERVICE],
                container.task_name,
                config["Hostname"],
                container.address,
                extra_hosts(inspected),
            ),
        )
        return container

    def serve(self, task_uid: str, serving: bool) -> None:
        """Whether its service's name leads to it. Raises DriverError."""
        self._names.serve(task_uid, serving)

    def stopped(self, task_uid: str) -> None:
        self._names.stopped(task_uid)

    def gone(self, container_id: str) -> None:
        self._wired.discard(container_id)
        self._wiring.forget(container_id)

    def forget(self, task_uid: str) -> None:
        """There is no container of it."""
        self._names.forget(task_uid)
        self._resolvers.forget(task_uid)

    async def close(self) -> None:
        await self._wiring.close()

    def _resolve(self, task_uid: str, dns: Dns) -> str:
        """The file of its name servers, which is there. Raises DriverError."""
        return str(self._resolvers.put(task_uid, dns, self._wiring.resolvers).absolute())
