"""Newer versions of secrets for tasks that follow them, and the end of the older ones' files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from api.types.task import TaskState
from controllers.agent import following
from controllers.agent.drivers.contract import Driver, Phase
from controllers.agent.environment import told
from controllers.agent.following import Unfinished
from controllers.agent.known import Known
from controllers.agent.materials import Materials

log = structlog.get_logger("skep.agent")

_PASSING = 2.0  # seconds that a version stays when it was replaced


class Swaps:
    def __init__(
        self, driver: Driver, materials: Materials, report: Callable[[Known], None]
    ) -> None:
        """`report` hears of a task whose status has changed."""
        self._driver = driver
        self._materials = materials
        self._report = report

    def _behind(self, known: Known) -> set[str]:
        """The secrets of which its container is to get another version."""
        if known.template is None or not known.wanted or known.failure is not None:
            return set()
        return following.changed(known.scope, known.template, known.status, self._materials)

    async def renew(self, known: Known) -> bool:
        """Give a container that runs the newest versions of the secrets that it follows. One that
        is still starting has its health to come to first. Raises Unfinished, EngineDown,
        OSError."""
        container, template, task = known.container, known.template, known.task
        runs = container is not None and container.phase is Phase.RUNNING
        if not runs or known.status.state is not TaskState.RUNNING:
            return False
        names = self._behind(known)
        if not names or template is None or task is None:
            known.behind = ""
            return False
        facts = told(template, task)
        versions = await following.follow(
            known.uid, known.scope, facts, template, names, self._driver, self._materials
        )
        known.status = following.with_versions(known.status, versions)
        self._report(known)
        self.tidy_soon(known)
        return True

    async def freshen(self, known: Known) -> None:
        """The same for one that is about to start: nobody has to be told. Raises OSError."""
        template, task, names = known.template, known.task, self._behind(known)
        if not names or template is None or task is None:
            return
        with contextlib.suppress(Unfinished):  # it starts with what it has, and says so then
            facts = told(template, task)
            versions = await following.replace(
                known.uid, known.scope, facts, template, names, self._materials
            )
            known.status = following.with_versions(known.status, versions)
            self.tidy_soon(known)

    def tidy_soon(self, known: Known) -> None:
        asyncio.get_running_loop().call_later(_PASSING, self._tidy, known)

    def _tidy(self, known: Known) -> None:
        """After readers that were on their way have passed. What is still read is left for the next
        time, and for the end."""
        if not known.files:
            return
        try:
            self._materials.tidy(known.uid)
        except OSError as error:
            log.warning("an old version can't be removed yet", task=known.uid, why=str(error))
