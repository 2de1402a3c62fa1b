"""The simulated driver: the contract, spoken to an engine that exists only in this process.

A driver sees of its engine what carries its cluster and node, as with a real one; several can
share an engine. How the engine behaves is `simulation.engine`'s; what a container's command is
understood to do, `simulation.program`'s.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

from api.types.generic import claims
from api.types.node import Engine, NodeResources
from api.types.quantity import parse_duration
from api.types.template import HttpCheck, TcpCheck
from controllers.agent.drivers.contract import (
    Container,
    ContainerSpec,
    EngineDown,
    EngineInfo,
    LogLine,
    NotFound,
    Outcome,
    Refused,
    Terminal,
)
from controllers.agent.drivers.simulation.container import Printed, Simulated
from controllers.agent.drivers.simulation.engine import Behaviour, SimulatedEngine
from controllers.agent.drivers.simulation.subscriber import Subscriber
from controllers.agent.drivers.simulation.terminal import SimulatedTerminal

__all__ = ["Behaviour", "SimulatedDriver", "SimulatedEngine"]


class SimulatedDriver:
    name = "simulated"

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        start_seconds: float = 0.0,
        engine: SimulatedEngine | None = None,
    ) -> None:
        """`start_seconds` is of an engine of its own, where none is given."""
        self._owner = (cluster, node)
        self._node = node
        self.engine = engine or SimulatedEngine(
            behaviour=Behaviour(start_seconds=start_seconds), seed=node
        )

    async def info(self) -> EngineInfo:
        self._check()
        behaviour = self.engine.behaviour
        return EngineInfo(
            engine=Engine(driver=self.name, version="1", ready=True),
            resources=NodeResources(cpus=behaviour.cpus, memory=behaviour.memory),
            os="linux",
            architecture="amd64",
            kernel="simulated",
        )

    async def containers(self) -> list[Container]:
        self._check()
        there = self.engine.containers.values()
        return [self._seen(container) for container in there if container.owner == self._owner]

    async def events(self) -> AsyncGenerator[str, None]:
        self._check()
        subscriber = Subscriber()
        self.engine.subscribers[subscriber] = self._owner
        self.engine.agenda.resume()
        try:
            yield ""
            while True:
                for uid in await subscriber.take():
                    yield uid
                self._check()
        finally:
            del self.engine.subscribers[subscriber]

    async def pull(
        self,
        image: str,
        progress: Callable[[str], None],
        policy: str = "ifNotPresent",
        login: bytes = b"",
    ) -> str:
        self._check()
        digest = await self.engine.pull(image, progress, policy)
        self._check()
        return digest

    async def create(self, spec: ContainerSpec) -> Container:
        self._check()
        await self.engine.pull(spec.template.image, lambda words: None)
        container = self._find(spec.task_uid) or self.engine.create(spec, self._owner)
        return self._seen(container)

    async def start(self, task_uid: str) -> Container:
        self._check()
        container = self._get(task_uid)
        if not container.running:
            await self.engine.start(container)
            self._check()
            container = self._get(task_uid)
        return self._seen(container)

    async def inspect(self, task_uid: str) -> Container:
        self._check()
        return self._seen(self._get(task_uid))

    async def stop(self, task_uid: str, *, grace: float) -> Container:
        self._check()
        container = self._get(task_uid)
        if container.running:
            await self.engine.stop(container, grace)
            self._check()
            container = self._get(task_uid)
        return self._seen(container)

    async def signal(self, task_uid: str, signal: str) -> None:
        self._check()
        container = self._get(task_uid)
        if not container.running:
            raise Refused(f"container {container.id[:12]} is not running")
        container.signals.append(signal)

    async def remove(self, task_uid: str) -> None:
        self._check()
        container = self._find(task_uid)
        if container is not None:
            self.engine.remove(container)

    def serve(self, task_uid: str, serving: bool) -> None:
        container = self._find(task_uid)
        if container is not None:
            container.serving = serving

    async def probe(
        self, container: Container, check: HttpCheck | TcpCheck, seconds: float
    ) -> Outcome:
        self._check()
        there = self._find(container.task_uid)
        if there is None or not there.running:
            return Outcome(False, f"port {check.port}: nothing listens there")
        return Outcome(not there.silence, there.silence)

    async def logs(
        self,
        task_uid: str,
        *,
        follow: bool,
        tail: int | None,
        since: datetime | None,
        timestamps: bool,
    ) -> AsyncGenerator[LogLine, None]:
        self._check()
        container = self._get(task_uid)
        now = self.engine.agenda.now()
        printed = container.printed(now)
        said = len(printed)
        if since is not None:
            printed = [line for line in printed if self._moment(line[0]) >= since]
        for line in printed if tail is None else printed[len(printed) - min(tail, len(printed)) :]:
            yield self._line(line, timestamps)
        while follow and container.running:
            await self.engine.changed(container, container.next_print(now))
            now = self.engine.agenda.now()
            printed = container.printed(now)
            for line in printed[said:]:
                yield self._line(line, timestamps)
            said = len(printed)

    async def exec(self, task_uid: str, command: list[str], *, tty: bool, stdin: bool) -> Terminal:
        self._check()
        container = self._get(task_uid)
        if not container.running:
            raise Refused(f"container {container.id[:12]} is not running")
        program = self.engine.process(command)
        return SimulatedTerminal(program, container, self.engine.agenda, tty=tty, stdin=stdin)

    async def close(self) -> None:
        """Ends what was asked of it; containers stay, for the next driver of this engine."""
        for subscriber, owner in list(self.engine.subscribers.items()):
            if owner == self._owner:
                subscriber.end()
        if not self.engine.subscribers:
            self.engine.agenda.pause()

    # Seeing.

    def _check(self) -> None:
        if self.engine.outage:
            raise EngineDown(self.engine.outage)

    def _find(self, task_uid: str) -> Simulated | None:
        container = self.engine.containers.get(task_uid)
        return container if container is not None and container.owner == self._owner else None

    def _get(self, task_uid: str) -> Simulated:
        container = self._find(task_uid)
        if container is None:
            raise NotFound(f"node {self._node} has no container of task {task_uid}")
        return container

    def _moment(self, seconds: float) -> datetime:
        return self.engine.agenda.moment(seconds)

    def _line(self, printed: Printed, timestamps: bool) -> LogLine:
        when, stream, data = printed
        if timestamps:
            stamp = self._moment(when).astimezone(UTC).isoformat(timespec="microseconds")
            data = stamp.replace("+00:00", "000Z ").encode() + data
        return LogLine(stream, data)

    def _seen(self, container: Simulated) -> Container:
        spec = container.spec
        started, finished = container.started, container.finished
        return Container(
            id=container.id,
            task_uid=spec.task_uid,
            task_name=spec.task_name,
            namespace=spec.namespace,
            digest=spec.template.image.partition("@")[2],
            phase=container.phase,
            pid=1 if container.running else 0,
            exit_code=container.exit_code,
            oom_killed=container.oom_killed,
            health=container.health,
            health_output=container.health_output if container.health == "unhealthy" else "",
            error=container.error,
            started_at=None if started is None else self._moment(started),
            finished_at=None if finished is None else self._moment(finished),
            ports=container.ports,
            grace=parse_duration(spec.template.stop_grace_period),
            claims=list(claims(spec.generic)),
        )
