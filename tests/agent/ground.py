"""Drivers to test, each on an engine where it can make containers of a cluster of its own."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from api.types.template import TaskTemplate
from controllers.agent.drivers.contract import Container, ContainerSpec, Driver, LogLine
from controllers.agent.drivers.docker import DockerDriver
from controllers.agent.drivers.simulated import Behaviour, SimulatedDriver, SimulatedEngine

IMAGE = "skep/busybox:test"
ABSENT_IMAGE = "127.0.0.1:9/skep/absent:1"
ABSENT_COMMAND = "no-such-command"
FOREVER = "trap 'exit 0' TERM; sleep 100000 & wait"
PATIENCE = 30.0  # seconds; only a failure takes so long

T = TypeVar("T")


class Ground:
    """One kind of driver. `driver` is of node `here`; `peer` makes others on the same engine."""

    def __init__(self, kind: str, run_dir: Path, *, engine_network: bool = False) -> None:
        self.kind = kind
        self._engine_network = engine_network
        self.cluster = secrets.token_hex(16)
        self.engine = SimulatedEngine(
            behaviour=Behaviour(
                unknown_images=frozenset({ABSENT_IMAGE}),
                unknown_commands=frozenset({ABSENT_COMMAND}),
            )
        )
        self.run_dir = run_dir
        self._drivers: list[Driver] = []
        self.driver = self.peer()

    def peer(self, *, cluster: str = "", node: str = "here") -> Driver:
        """Another driver, as another agent would have it."""
        driver: Driver
        if self.kind == "simulated":
            driver = SimulatedDriver(cluster=cluster or self.cluster, node=node, engine=self.engine)
        else:
            driver = DockerDriver(
                cluster=cluster or self.cluster,
                node=node,
                run_dir=self.run_dir,
                engine_network=self._engine_network,
            )
        self._drivers.append(driver)
        return driver

    def spec(self, *command: str, **template: Any) -> ContainerSpec:
        """Of a task of its own. One word of command is a script."""
        words = ["sh", "-c", command[0]] if len(command) == 1 else list(command)
        uid = secrets.token_hex(16)
        fields = {"image": IMAGE, "command": words or ["sh", "-c", FOREVER], **template}
        return ContainerSpec(
            task_uid=uid,
            task_name=f"web.1.{uid[-6:]}",
            namespace="default",
            service="web",
            slot=1,
            hostname="web",
            template=msgspec.convert(fields, TaskTemplate),
        )

    async def start(self, *command: str, **template: Any) -> str:
        """A container that was started; its task's uid."""
        spec = self.spec(*command, **template)
        await self.driver.create(spec)
        await self.driver.start(spec.task_uid)
        return spec.task_uid

    async def until_over(self, uid: str) -> Container:
        """As it is when it has ended by itself."""
        async with asyncio.timeout(PATIENCE):
            async with changes(self.driver) as events:
                container = await self.driver.inspect(uid)
                while container.finished_at is None:
                    await anext(events)
                    container = await self.driver.inspect(uid)
                return container

    async def close(self) -> None:
        for driver in self._drivers:
            await driver.close()
        if self.kind == "docker":
            for mine in (f"dev.skep.cluster={self.cluster}", f"strange={self.cluster}"):
                ids = docker("ps", "-aq", "--filter", f"label={mine}").split()
                if ids:
                    docker("rm", "-f", "-v", *ids)


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


@asynccontextmanager
async def changes(driver: Driver) -> AsyncIterator[AsyncGenerator[str, None]]:
    """The driver's events, from when the subscription stands."""
    events = driver.events()
    try:
        assert await anext(events) == ""
        yield events
    finally:
        await events.aclose()


async def until(events: AsyncGenerator[str, None], uid: str) -> None:
    """The next change of this task's container."""
    async with asyncio.timeout(PATIENCE):
        while await anext(events) != uid:
            pass


async def everything(lines: AsyncGenerator[LogLine, None]) -> dict[int, bytes]:
    """What came, by stream, until its end."""
    found: dict[int, bytes] = {}
    async with asyncio.timeout(PATIENCE):
        async for line in lines:
            found[line.stream] = found.get(line.stream, b"") + line.data
    return found
