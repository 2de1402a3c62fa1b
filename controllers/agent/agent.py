"""The agent: a driver, the node's tasks and the session with the managers, wired.

It may end at any moment: containers run on, and the next agent adopts them by their labels.
"""

from __future__ import annotations

import asyncio
import functools
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from api.types.assignment import STREAM, Assignments, StatusReport, StatusResult
from api.types.generic import Amount
from api.types.join import Sign
from api.types.node import Engine, NodeStatus
from controllers.agent.drivers.contract import Driver, EngineInfo
from controllers.agent.images import Images
from controllers.agent.managers import Managers
from controllers.agent.materials import Materials
from controllers.agent.reporter import Reporter
from controllers.agent.session import Session
from controllers.agent.streams import Streams
from controllers.agent.tasks import Tasks


class Agent:
    """`run_dir`: where secrets are mounted, in memory; `labels` are the node's when it is new;
    `resources` are generic ones, and stand in place of the engine's of the same kind; `heard` is
    told what managers answer to heartbeats; `closed`: directories of the node that no container is
    shown, beside `run_dir`."""

    def __init__(
        self,
        client: Managers,
        driver: Driver,
        node: str,
        run_dir: Path,
        *,
        labels: dict[str, str] | None = None,
        resources: Mapping[str, Amount] | None = None,
        heard: Callable[[Sign], None] = lambda _: None,
        closed: Sequence[Path] = (),
    ) -> None:
        async def send(reports: Sequence[StatusReport]) -> StatusResult:
            return await client.report(node, reports)

        self._driver = driver
        self._resources = resources or {}
        self._reporter = Reporter(send)
        self._session = Session(client, node, labels or {}, self._take, heard)
        self._streams = Streams(client, driver, node)
        self._known: EngineInfo | None = None
        images = Images(driver, functools.partial(client.agree_on_image, node))
        self._tasks = Tasks(
            driver,
            Materials(run_dir / node, closed=[run_dir, *closed]),
            self._reporter,
            images,
            on_engine=self._engine_is,
        )

    async def run(self) -> None:
        """Until cancelled; containers stay as they are."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tasks.run(), name="tasks")
                group.create_task(self._session.run(), name="session")
                group.create_task(self._reporter.run(), name="reporter")
        finally:
            await self._streams.close()

    def introduce_again(self) -> None:
        """Say who we are once more: over a new connection, with a new certificate."""
        self._session.begin_again()

    def _take(self, message: Assignments) -> None:
        if message.type == STREAM:
            if message.stream is not None:
                self._streams.serve(message.stream)
            return
        self._tasks.assign(message)

    def _engine_is(self, info: EngineInfo | None, problem: str) -> None:
        """Said of the node; an engine that is away is described as it was."""
        if info is not None:
            self._known = info
        known = self._known
        engine = known.engine if known is not None else Engine(driver=self._driver.name)
        status = NodeStatus(
            hostname=platform.node(),
            os=platform.system().lower(),
            kernel=platform.release(),
            agent_version=version("skep"),
            engine=Engine(
                driver=engine.driver,
                version=engine.version,
                ready=info is not None,
                message=problem,
                network=engine.network,
                labels=engine.labels,
            ),
        )
        if known is not None:
            status.os, status.architecture = known.os, known.architecture
            status.kernel = known.kernel
            generic = {**known.resources.generic, **self._resources}
            status.resources = msgspec.structs.replace(known.resources, generic=generic)
        self._session.say(status)
