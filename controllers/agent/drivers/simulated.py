"""The simulated driver: containers that exist only here, tens of thousands in one process.

A container is one small object; nothing runs for it. What is going to happen (a start that
takes its time, an exit, a health check's result) stands in one heap, and one timer of the loop
waits for the earliest. All randomness comes from the seed.

Containers live as long as the driver object: an agent that is started again on the same object
finds what the last one left, as it would with a real engine.

Commands are understood as far as plausible: `sleep N`, `echo WORDS`, `true`, `false`, `exit N`,
`cat`, alone or in `sh -c "…; …"`. Anything else runs until it is stopped.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import shlex
from collections import deque
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta

import msgspec

from api.types.node import Engine, NodeResources
from api.types.quantity import parse_duration
from api.types.task import PublishedPort
from controllers.agent.drivers.contract import (
    Container,
    ContainerSpec,
    DriverError,
    EngineDown,
    EngineInfo,
    LogLine,
    NotFound,
    Phase,
    Refused,
    Terminal,
)

_KILLED, _TERMINATED = 137, 143
_FIRST_PORT = 30_000


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulated engine is like. Times in seconds, rates between 0 and 1."""

    start_seconds: float = 0.0
    stop_seconds: float = 0.0
    pull_seconds: float = 0.0  # the first time an image is needed
    start_failures: float = 0.0  # of starts
    exit_after: float = 0.0  # mean life of a container; 0: it lives on
    exit_failures: float = 0.0  # of those exits, how many are not 0
    unknown_images: frozenset[str] = frozenset()
    cpus: float = 16.0
    memory: int = 64 * 2**30


class _Program(msgspec.Struct, frozen=True):
    """What a command does: print, run a while (None: for ever), end."""

    output: bytes = b""
    seconds: float | None = None
    exit_code: int = 0
    echoes: bool = False  # prints its input, and ends with it


class _Simulated:
    """One container."""

    __slots__ = (
        "error", "exit_code", "finished", "health", "id", "life", "phase", "ports", "program",
        "spec", "started", "waiters",
    )  # fmt: skip

    def __init__(self, number: int, spec: ContainerSpec, program: _Program) -> None:
        self.id = f"{number:064x}"
        self.spec = spec
        self.program = program
        self.phase = Phase.CREATED
        self.life = 0  # counts starts and ends: what was planned for an earlier life is void
        self.exit_code: int | None = None
        self.error = ""
        self.health = ""
        self.started: float | None = None
        self.finished: float | None = None
        self.ports: list[PublishedPort] = []
        self.waiters: list[asyncio.Future[None]] = []


class SimulatedDriver:
    name = "simulated"

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        start_seconds: float = 0.0,
        behaviour: Behaviour | None = None,
        seed: int | str = 0,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._behaviour = behaviour or Behaviour(start_seconds=start_seconds)
        self._random = random.Random(f"{seed}/{node}")  # noqa: S311 - a simulation
        self._numbers = itertools.count(self._random.getrandbits(64) << 32)
        self._ports = itertools.count(_FIRST_PORT)
        self._containers: dict[str, _Simulated] = {}  # by task uid
        self._images: set[str] = set()
        self._used_ports: set[tuple[int, str]] = set()
        self._subscribers: set[_Subscriber] = set()
        self._outage = ""
        self._agenda = _Agenda()

    # Faults, for simulations and tests.

    def fail(self, reason: str) -> None:
        """The engine goes away: containers run on, but nothing can be asked."""
        self._outage = reason
        for subscriber in list(self._subscribers):
            subscriber.end()

    def recover(self) -> None:
        self._outage = ""

    def crash(self, task_uid: str, exit_code: int = 1) -> None:
        """The container's process ends by itself."""
        self._end(self._get(task_uid), exit_code)

    def vanish(self, task_uid: str) -> None:
        """Somebody removes the container behind our back."""
        container = self._containers.pop(task_uid, None)
        if container is not None:
            self._end(container, _KILLED)
            self._publish(task_uid)

    def sicken(self, task_uid: str) -> None:
        """The health check begins to fail."""
        self._get(task_uid).health = "unhealthy"
        self._publish(task_uid)

    # The contract.

    async def info(self) -> EngineInfo:
        self._check()
        return EngineInfo(
            engine=Engine(driver=self.name, version="1", ready=True),
            resources=NodeResources(cpus=self._behaviour.cpus, memory=self._behaviour.memory),
            os="linux",
            architecture="amd64",
            kernel="simulated",
        )

    async def containers(self) -> list[Container]:
        self._check()
        return [self._seen(container) for container in self._containers.values()]

    async def events(self) -> AsyncGenerator[str, None]:
        self._check()
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        self._agenda.resume()
        try:
            yield ""
            while True:
                for uid in await subscriber.take():
                    yield uid
                self._check()
        finally:
            self._subscribers.discard(subscriber)

    async def pull(self, image: str, progress: Callable[[str], None]) -> None:
        self._check()
        if image in self._images:
            return
        if image in self._behaviour.unknown_images:
            raise Refused(f"no such image: {image} is not on node {self._node}; check the name")
        if self._behaviour.pull_seconds:
            progress(f"pulling {image}")
            await asyncio.sleep(self._behaviour.pull_seconds)
        self._images.add(image)

    async def create(self, spec: ContainerSpec) -> Container:
        self._check()
        container = self._containers.get(spec.task_uid)
        if container is None:
            command = [*spec.template.command, *spec.template.args]
            container = _Simulated(next(self._numbers), spec, _program(command))
            self._containers[spec.task_uid] = container
        return self._seen(container)

    async def start(self, task_uid: str) -> Container:
        self._check()
        container = self._get(task_uid)
        if container.phase is Phase.RUNNING:
            return self._seen(container)
        if self._behaviour.start_seconds:
            await self._agenda.sleep(self._behaviour.start_seconds)
            self._check()
            container = self._get(task_uid)
        if self._random.random() < self._behaviour.start_failures:
            container.error = "simulated failure to start"
            raise DriverError(f"container {container.id[:12]}: {container.error}")
        self._begin(container)
        return self._seen(container)

    async def inspect(self, task_uid: str) -> Container:
        self._check()
        return self._seen(self._get(task_uid))

    async def stop(self, task_uid: str, *, grace: float) -> Container:
        self._check()
        container = self._get(task_uid)
        if container.phase is Phase.RUNNING:
            needed = self._behaviour.stop_seconds
            if needed:
                await self._agenda.sleep(min(needed, grace))
                self._check()
            self._end(container, _KILLED if needed > grace else _TERMINATED)
        return self._seen(container)

    async def remove(self, task_uid: str) -> None:
        self._check()
        container = self._containers.pop(task_uid, None)
        if container is not None:
            self._end(container, _KILLED)
            self._publish(task_uid)

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
        started = self._moment(container.started)
        if started is not None and (since is None or started >= since):
            lines = container.program.output.splitlines(keepends=True)
            stamp = f"{started.isoformat()} ".encode() if timestamps else b""
            for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
                yield LogLine(1, stamp + line)
        if follow and container.phase is Phase.RUNNING:
            over = asyncio.get_running_loop().create_future()
            container.waiters.append(over)
            await over

    async def exec(self, task_uid: str, command: list[str], *, tty: bool, stdin: bool) -> Terminal:
        self._check()
        container = self._get(task_uid)
        if container.phase is not Phase.RUNNING:
            raise Refused(f"container {container.id[:12]} is not running")
        return _SimulatedTerminal(_program(command))

    async def close(self) -> None:
        """Ends what was asked of it; containers stay, for the next agent on this object."""
        for subscriber in list(self._subscribers):
            subscriber.end()
        self._agenda.pause()

    # Lives.

    def _begin(self, container: _Simulated) -> None:
        spec = container.spec
        container.ports = self._publish_ports(spec)
        container.phase = Phase.RUNNING
        container.life += 1
        container.started = self._agenda.now()
        container.exit_code = container.finished = None
        container.error = ""
        life, program = container.life, container.program
        if program.seconds is not None:
            self._plan(program.seconds, container, life, program.exit_code)
        elif self._behaviour.exit_after:
            seconds = self._random.expovariate(1 / self._behaviour.exit_after)
            failed = self._random.random() < self._behaviour.exit_failures
            self._plan(seconds, container, life, int(failed))
        check = spec.template.healthcheck
        if check is not None and check.command and not check.disable:
            container.health = "starting"
            healthy = _program(check.command).exit_code == 0
            checks = 1 if healthy else check.retries
            seconds = parse_duration(check.interval) * checks
            if not healthy:
                seconds += parse_duration(check.start_period)
            self._agenda.at(seconds, lambda: self._judge(container, life, healthy))
        self._publish(spec.task_uid)

    def _plan(self, seconds: float, container: _Simulated, life: int, exit_code: int) -> None:
        def end() -> None:
            if container.life == life:
                self._end(container, exit_code)

        self._agenda.at(seconds, end)

    def _judge(self, container: _Simulated, life: int, healthy: bool) -> None:
        if container.life == life:
            container.health = "healthy" if healthy else "unhealthy"
            self._publish(container.spec.task_uid)

    def _end(self, container: _Simulated, exit_code: int) -> None:
        if container.phase is not Phase.RUNNING:
            return
        container.phase = Phase.EXITED
        container.life += 1
        container.exit_code = exit_code
        container.finished = self._agenda.now()
        self._used_ports.difference_update((p.published, p.protocol) for p in container.ports)
        container.ports = []
        for waiter in container.waiters:
            if not waiter.done():
                waiter.set_result(None)
        container.waiters.clear()
        self._publish(container.spec.task_uid)

    def _publish_ports(self, spec: ContainerSpec) -> list[PublishedPort]:
        ports = []
        for port in spec.template.ports:
            published = port.published or next(self._ports)
            if (published, port.protocol) in self._used_ports:
                raise DriverError(f"port {published}/{port.protocol} is already allocated")
            ports.append(
                PublishedPort(target=port.target, published=published, protocol=port.protocol)
            )
        self._used_ports.update((port.published, port.protocol) for port in ports)
        return ports

    # Seeing.

    def _check(self) -> None:
        if self._outage:
            raise EngineDown(self._outage)

    def _get(self, task_uid: str) -> _Simulated:
        container = self._containers.get(task_uid)
        if container is None:
            raise NotFound(f"node {self._node} has no container of task {task_uid}")
        return container

    def _publish(self, task_uid: str) -> None:
        for subscriber in self._subscribers:
            subscriber.put(task_uid)

    def _moment(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self._agenda.moment(seconds)

    def _seen(self, container: _Simulated) -> Container:
        spec = container.spec
        running = container.phase is Phase.RUNNING
        return Container(
            id=container.id,
            task_uid=spec.task_uid,
            task_name=spec.task_name,
            namespace=spec.namespace,
            phase=container.phase,
            pid=1 if running else 0,
            exit_code=container.exit_code,
            health=container.health,
            health_output="simulated check failed" if container.health == "unhealthy" else "",
            error=container.error,
            started_at=self._moment(container.started),
            finished_at=self._moment(container.finished),
            ports=container.ports,
        )


class _Agenda:
    """What happens when: one heap, one timer of the running loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._epoch: datetime | None = None

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def moment(self, seconds: float) -> datetime:
        """A time of the loop's clock as a date."""
        if self._epoch is None:
            self._epoch = datetime.now(UTC) - timedelta(seconds=self.now())
        return self._epoch + timedelta(seconds=seconds)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it `seconds` from now."""
        heapq.heappush(self._heap, (self.now() + seconds, next(self._order), action))
        self._arm()

    async def sleep(self, seconds: float) -> None:
        over = asyncio.get_running_loop().create_future()
        self.at(seconds, lambda: None if over.done() else over.set_result(None))
        await over

    def pause(self) -> None:
        """Time stands still: nothing happens until `resume`; then what was missed happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        if self._heap:
            self._arm()

    def _arm(self) -> None:
        when = self._heap[0][0]
        if self._timer is not None:
            if self._timer.when() <= when and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self.now()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
        if self._heap:
            self._arm()


class _Subscriber:
    """One reader of events. Changes of a container that it hasn't seen yet are one event."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._ended = False
        self._wake: asyncio.Future[None] | None = None

    def put(self, task_uid: str) -> None:
        self._changed[task_uid] = None
        self._rouse()

    def end(self) -> None:
        self._ended = True
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self) -> list[str]:
        if not self._changed and not self._ended:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self._ended:
            raise EngineDown("the simulated engine closed its events stream")
        changed, self._changed = list(self._changed), {}
        return changed


class _SimulatedTerminal:
    def __init__(self, program: _Program) -> None:
        self._program = program
        self._input: deque[bytes] = deque()
        self._ended = not program.echoes
        self._wake = asyncio.Event()

    async def output(self) -> AsyncGenerator[LogLine, None]:
        if self._program.output:
            yield LogLine(1, self._program.output)
        while self._input or not self._ended:
            while self._input:
                yield LogLine(1, self._input.popleft())
            if not self._ended:
                self._wake.clear()
                await self._wake.wait()

    async def send(self, data: bytes) -> None:
        if self._program.echoes:
            self._input.append(data)
            self._wake.set()

    async def end_input(self) -> None:
        self._ended = True
        self._wake.set()

    async def resize(self, width: int, height: int) -> None:
        return

    async def exit_code(self) -> int:
        return self._program.exit_code


def _program(command: list[str]) -> _Program:
    if len(command) == 3 and command[:2] == ["sh", "-c"]:
        try:
            steps = [shlex.split(step) for step in command[2].split(";")]
        except ValueError:
            return _Program(exit_code=2, seconds=0.0, output=b"sh: syntax error\n")
        return _sequence([step for step in steps if step])
    return _sequence([command] if command else [])


def _sequence(steps: list[list[str]]) -> _Program:
    output, seconds, exit_code = b"", 0.0, 0
    for step in steps:
        match step:
            case ["echo", *words]:
                output += " ".join(words).encode() + b"\n"
            case ["sleep", number] if number.replace(".", "", 1).isdigit():
                seconds += float(number)
            case ["true"]:
                exit_code = 0
            case ["false"]:
                exit_code = 1
            case ["exit", number] if number.isdigit():
                return _Program(output, seconds, int(number))
            case ["cat"]:
                return _Program(output, None, 0, echoes=True)
            case _:
                return _Program(output, None)
    return _Program(output, seconds if steps else None, exit_code)
