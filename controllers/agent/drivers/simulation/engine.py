"""The simulated engine: tens of thousands of containers in one process.

What is going to happen (a start that takes its time, an exit, a health check's result) stands on
one agenda. All randomness comes from the seed. Containers live as long as this object: an agent
that is started again with another driver on it finds what the last one left, as with a real engine.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import msgspec

from api.types.quantity import parse_bytes, parse_duration
from api.types.task import PublishedPort
from api.types.template import Healthcheck
from controllers.agent.drivers.contract import ContainerSpec, DriverError, Phase, Refused
from controllers.agent.drivers.simulation.agenda import Agenda
from controllers.agent.drivers.simulation.container import Simulated
from controllers.agent.drivers.simulation.program import (
    KILLED,
    Exit,
    Print,
    Program,
    course,
    parse,
)
from controllers.agent.drivers.simulation.subscriber import Subscriber
from controllers.agent.drivers.words import no_command, port_taken

_FIRST_PORT = 30_000
_NO_COMMAND = 127


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulated engine is like. Times in seconds, rates between 0 and 1."""

    start_seconds: float = 0.0
    stop_seconds: float = 0.0
    pull_seconds: float = 0.0  # the first time an image is needed
    start_failures: float = 0.0  # of starts
    exit_after: float = 0.0  # mean life of a container; 0: it lives on
    exit_failures: float = 0.0  # of those exits, how many are not 0
    unknown_images: frozenset[str] = frozenset()
    unknown_commands: frozenset[str] = frozenset()  # that are in no image
    cpus: float = 16.0
    memory: int = 64 * 2**30


class SimulatedEngine:
    def __init__(self, *, behaviour: Behaviour | None = None, seed: int | str = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.agenda = Agenda()
        self.containers: dict[str, Simulated] = {}  # by task uid
        self.subscribers: dict[
            Subscriber, tuple[str, str]
        ] = {}  # and whose containers they hear of
        self.outage = ""
        self.stuck: dict[str, str] = {}  # containers that can't be ended, by task uid, and why
        self._random = random.Random(str(seed))  # noqa: S311 - a simulation
        self._numbers = itertools.count(self._random.getrandbits(64) << 32)
        self._ports = itertools.count(_FIRST_PORT)
        self.registry: dict[str, str] = {}  # digests that images' names stand for there
        self._images: dict[str, str] = {}  # that are here, and their digests
        self._used_ports: set[tuple[int, str]] = set()

    # Faults, for simulations and tests.

    def fail(self, reason: str) -> None:
        """It goes away: containers run on, but nothing can be asked."""
        self.outage = reason
        for subscriber in list(self.subscribers):
            subscriber.end()

    def recover(self) -> None:
        self.outage = ""

    def crash(self, task_uid: str, exit_code: int = 1) -> None:
        """The container's process ends by itself."""
        self.end(self.containers[task_uid], exit_code)

    def vanish(self, task_uid: str) -> None:
        """Somebody removes the container behind our back."""
        self._discard(self.containers[task_uid])

    def sicken(self, task_uid: str, output: str = "") -> None:
        """The health check begins to fail."""
        container = self.containers[task_uid]
        self._judge(container, container.life, "unhealthy", output or "exit code 1")

    def silence(self, task_uid: str, why: str) -> None:
        """It fails checks over the network from now on; with "" it passes them again."""
        self.containers[task_uid].silence = why

    # Doing.

    async def pull(
        self, image: str, progress: Callable[[str], None], policy: str = "ifNotPresent"
    ) -> str:
        if image in self._images and policy != "always":
            return self._images[image]
        if policy == "never":
            raise Refused(f"image {image} is not on the node, and imagePull is never")
        if image in self.behaviour.unknown_images:
            raise Refused(f"no such image: {image}; check the name")
        if self.behaviour.pull_seconds:
            progress(f"pulling {image}")
            await asyncio.sleep(self.behaviour.pull_seconds)
        name, _, digest = image.partition("@")
        if not digest:
            digest = self.registry.get(name, "")
        self._images[image] = digest
        if digest:
            self._images[f"{name}@{digest}"] = digest
        return digest

    def create(self, spec: ContainerSpec, owner: tuple[str, str]) -> Simulated:
        template = spec.template
        limited = bool(parse_bytes(template.resources.limits.memory))
        going = course([*template.command, *template.args], limited=limited)
        made = Simulated(next(self._numbers), owner, spec, going)
        self.containers[spec.task_uid] = made
        return made

    async def start(self, container: Simulated) -> None:
        """It starts, also where nobody waits for it any more. Raises DriverError."""
        if not self.behaviour.start_seconds:
            self._begin(container)
            return
        if container.starting is None:
            starting = container.starting = asyncio.get_running_loop().create_future()

            def begin() -> None:
                container.starting = None
                error = None
                if self.containers.get(container.spec.task_uid) is container:
                    try:
                        self._begin(container)
                    except DriverError as failure:
                        error = failure
                if not starting.done():
                    starting.set_result(error)

            self.agenda.at(self.behaviour.start_seconds, begin)
        if error := await asyncio.shield(container.starting):
            raise error

    async def stop(self, container: Simulated, grace: float) -> None:
        """The stop signal, `grace` seconds, then SIGKILL; also where nobody waits any more."""
        self._check_stuck(container)
        life = container.life
        code = container.course.stop_code
        needed = self.behaviour.stop_seconds
        if code is None or needed > grace:
            code, needed = KILLED, grace
        if needed <= 0:
            self.end(container, code)
            return

        def end() -> None:
            if container.life == life:
                self.end(container, code)

        self.agenda.at(needed, end)
        while container.running and container.life == life:
            await self.changed(container, None)

    def remove(self, container: Simulated) -> None:
        """Raises DriverError where it is stuck."""
        self._check_stuck(container)
        self._discard(container)

    def _discard(self, container: Simulated) -> None:
        if self.containers.get(container.spec.task_uid) is container:
            del self.containers[container.spec.task_uid]
            self.end(container, KILLED)
            self.publish(container)

    def end(self, container: Simulated, exit_code: int, *, oom: bool = False) -> None:
        if not container.running:
            return
        container.phase = Phase.EXITED
        container.life += 1
        container.exit_code = exit_code
        container.oom_killed = oom
        container.finished = self.agenda.now()
        self._used_ports.difference_update((p.published, p.protocol) for p in container.ports)
        container.ports = []
        container.serving = False
        for waiter in list(container.waiters):
            waiter()
        self.publish(container)

    def process(self, command: list[str]) -> Program:
        """What is started in a container by hand."""
        if command and command[0] in self.behaviour.unknown_commands:
            words = f"exec: {command[0]}: executable file not found in $PATH\n"
            return Program((Print(1, words.encode()), Exit(_NO_COMMAND)))
        return parse(tuple(command))

    async def changed(self, container: Simulated, seconds: float | None) -> None:
        """Wait for the container's end, at most `seconds`."""
        over = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not over.done():
                over.set_result(None)

        container.waiters.append(wake)
        if seconds is not None:
            self.agenda.at(seconds, wake)
        try:
            await over
        finally:
            container.waiters.remove(wake)

    def publish(self, container: Simulated) -> None:
        for subscriber, owner in self.subscribers.items():
            if owner == container.owner:
                subscriber.put(container.spec.task_uid)

    def _check_stuck(self, container: Simulated) -> None:
        if why := self.stuck.get(container.spec.task_uid):
            raise DriverError(why)

    # Lives.

    def _begin(self, container: Simulated) -> None:
        """Raises DriverError where it can't start."""
        try:
            self._check_command(container)
            container.ports = self._publish_ports(container.spec)
        except DriverError as error:
            container.error = str(error)
            raise
        if container.finished is not None:
            container.earlier = tuple(container.printed(container.finished))
        container.phase = Phase.RUNNING
        container.life += 1
        container.started = self.agenda.now()
        container.exit_code = container.finished = None
        container.oom_killed = False
        container.error = container.health = container.health_output = ""
        self._plan_end(container)
        check = container.spec.template.healthcheck
        if check is not None and check.command and not check.disable:
            self._plan_check(container, check)
        self.publish(container)

    def _check_command(self, container: Simulated) -> None:
        words = [*container.spec.template.command, *container.spec.template.args]
        if words and words[0] in self.behaviour.unknown_commands:
            raise Refused(no_command(words[0], container.spec.template.image))
        if self._random.random() < self.behaviour.start_failures:
            raise DriverError("simulated failure to start")

    def _plan_end(self, container: Simulated) -> None:
        seconds, exit_code = container.course.seconds, container.course.exit_code
        if seconds is None:
            if not self.behaviour.exit_after:
                return
            seconds = self._random.expovariate(1 / self.behaviour.exit_after)
            exit_code = int(self._random.random() < self.behaviour.exit_failures)
        life, oom = container.life, container.course.oom

        def end() -> None:
            if container.life == life:
                self.end(container, exit_code, oom=oom)

        self.agenda.at(seconds, end)

    def _plan_check(self, container: Simulated, check: Healthcheck) -> None:
        container.health = "starting"
        life, checked = container.life, course(check.command)
        health, output = "healthy", ""
        seconds = parse_duration(check.interval)
        if checked.exit_code:
            health = "unhealthy"
            output = b"".join(line.data for _, line in checked.prints).decode().strip()
            output = output or f"exit code {checked.exit_code}"
            seconds = seconds * check.retries + parse_duration(check.start_period)
        self.agenda.at(seconds, lambda: self._judge(container, life, health, output))

    def _judge(self, container: Simulated, life: int, health: str, output: str) -> None:
        if container.life == life:
            container.health, container.health_output = health, output
            self.publish(container)

    def _publish_ports(self, spec: ContainerSpec) -> list[PublishedPort]:
        ports = []
        for port in spec.template.ports:
            published = port.published or next(self._ports)
            if (published, port.protocol) in self._used_ports:
                raise DriverError(port_taken(published, port.protocol, "another container"))
            ports.append(
                PublishedPort(target=port.target, published=published, protocol=port.protocol)
            )
        self._used_ports.update((port.published, port.protocol) for port in ports)
        return ports
