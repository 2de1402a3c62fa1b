"""The controllers of a manager, built and kept running."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from api.store.cache import Cache
from api.store.contract import Store
from api.trust.trust import Trust
from controllers.authority import AuthorityController
from controllers.fetcher.definitions import Definitions
from controllers.fetcher.fetcher import Fetcher
from controllers.generator.generator import Generator
from controllers.namespaces import NamespaceController
from controllers.nodes import HEARTBEAT, NodeController
from controllers.orchestrator.services import ServiceController
from controllers.owners import OwnerController
from controllers.reaper import Reaper
from controllers.reconcile.recorder import Recorder
from controllers.reconcile.supervisor import Component, Supervisor
from controllers.scheduler import Scheduler
from controllers.sealing import SealingController
from controllers.secrets import SecretController


def wall_clock() -> datetime:
    return datetime.now(UTC)


class Controllers:
    """All controllers over one cache, which somebody else runs. Without `trust`, nobody looks
    after the authority: in simulations.

    `heartbeat` is the seconds between two of an agent's; `more` are components to keep running
    beside the controllers, and to report on with them; `providers` are where secrets' values may
    be fetched from.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        *,
        trust: Trust | None = None,
        clock: Callable[[], datetime] = wall_clock,
        heartbeat: float = HEARTBEAT,
        providers: Definitions | None = None,
        more: tuple[Component, ...] = (),
    ) -> None:
        self.recorder = Recorder(cache, store, clock)
        components: list[Component] = [
            *more,
            self.recorder,
            NamespaceController(cache, store, self.recorder, clock),
            NodeController(cache, store, self.recorder, clock, heartbeat=heartbeat),
            ServiceController(cache, store, self.recorder, clock),
            Scheduler(cache, store, self.recorder, clock),
            Reaper(cache, store, clock),
            OwnerController(cache, store, clock),
            SecretController(cache, store),
            Generator(cache, store, self.recorder, clock),
            Fetcher(cache, store, self.recorder, clock, providers or Definitions(None)),
        ]
        if trust is not None:
            components.append(AuthorityController(cache, trust, self.recorder, clock))
            components.append(SealingController(trust, self.recorder, clock))
        self._components = components
        self._clock = clock
        self._supervisor = Supervisor(components, clock=clock)

    def add(self, component: Component) -> None:
        """One more to keep running and to report on; before `run`."""
        self._components.append(component)
        self._supervisor = Supervisor(self._components, clock=self._clock)

    async def run(self) -> None:
        """Keep them running until cancelled."""
        await self._supervisor.run()

    def report(self) -> list[dict[str, object]]:
        """For each: name, state (Running, Restarting, Stopped), since, restarts, lastError."""
        return self._supervisor.report()
