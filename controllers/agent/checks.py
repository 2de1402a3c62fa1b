"""The checks that the agent makes itself: HTTP and TCP for health, and readiness of any kind.

A task whose container runs has one `_Watch` for each such check, with one coroutine that waits,
looks and judges; what to think of a result is `health`'s. A watch belongs to one life of one
container: another life begins anew. An agent that comes back goes on from what the last one said,
so that a healthy task isn't taken out of service to be checked again.

A check that could not be made (the engine is away) is no result: health stays as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from api.types.task import CheckFailure, TaskStatus
from api.types.template import HttpCheck, Readiness, TaskTemplate, TcpCheck
from controllers.agent.drivers.contract import (
    Container,
    Driver,
    DriverError,
    Outcome,
    Phase,
    Terminal,
)
from controllers.agent.health import Health, Plan, State, judged, plan_of, wait

log = structlog.get_logger("skep.agent")

KEPT_FAILURES = 3  # of one task; each is at most as long as the next number
_OUTPUT_LIMIT = 500  # characters
_KILL_SECONDS = 10.0  # to end what took too long

Test = HttpCheck | TcpCheck | list[str]


class Seen(msgspec.Struct, frozen=True):
    """A container as the engine has it and the agent's checks found it."""

    container: Container | None
    ready: bool = True
    unready: str = ""  # what the last failed readiness check said


class _Watch:
    def __init__(self, name: str, test: Test, plan: Plan, health: Health) -> None:
        self.name = name
        self.test = test
        self.plan = plan
        self.health = health
        self.output = ""  # of the last failure
        self.loop: asyncio.Task[None] | None = None


class _Life:
    """One container from its start to its end."""

    def __init__(self, container: Container, failures: list[CheckFailure]) -> None:
        self.key = (container.id, container.started_at)
        self.container = container
        self.watches: dict[str, _Watch] = {}
        self.failures = failures

    def age(self) -> float:
        started = self.container.started_at
        return 0.0 if started is None else (datetime.now(UTC) - started).total_seconds()


class Checks:
    def __init__(self, driver: Driver, changed: Callable[[str], None]) -> None:
        """`changed` hears the uid of a task of which something is thought that was not before."""
        self._driver = driver
        self._changed = changed
        self._lives: dict[str, _Life] = {}

    def see(
        self,
        uid: str,
        container: Container | None,
        template: TaskTemplate | None,
        status: TaskStatus,
    ) -> Seen:
        """What is known of a task now. Its checks go on from here while its container runs."""
        if container is None or container.phase is not Phase.RUNNING or template is None:
            self.end(uid)
            return Seen(container)
        life = self._lives.get(uid)
        if life is None or life.key != (container.id, container.started_at):
            self.end(uid)
            life = self._begin(uid, container, template, status)
        life.container = container
        failures = [*life.failures, *container.check_failures]
        failures = sorted(failures, key=lambda failure: failure.at)[-KEPT_FAILURES:]
        container = msgspec.structs.replace(container, check_failures=failures)
        if (health := life.watches.get("health")) is not None:
            container = msgspec.structs.replace(
                container, health=str(health.health.state), health_output=health.output
            )
        if (ready := life.watches.get("readiness")) is None:
            return Seen(container)
        return Seen(container, ready.health.state is State.HEALTHY, ready.output)

    def end(self, uid: str) -> None:
        life = self._lives.pop(uid, None)
        if life is not None:
            for watch in life.watches.values():
                if watch.loop is not None:
                    watch.loop.cancel()

    async def close(self) -> None:
        loops = [w.loop for life in self._lives.values() for w in life.watches.values() if w.loop]
        for uid in list(self._lives):
            self.end(uid)
        await asyncio.gather(*loops, return_exceptions=True)

    def _begin(
        self, uid: str, container: Container, template: TaskTemplate, status: TaskStatus
    ) -> _Life:
        said = status.container
        same = (
            said is not None
            and said.id == container.id
            and status.started_at == container.started_at
        )
        earlier = said.check_failures if same and said is not None else []
        life = self._lives[uid] = _Life(container, list(earlier))
        for name, test, plan in _wanted(template):
            well = (
                status.ready
                if name == "readiness"
                else said is not None and said.health == (State.HEALTHY)
            )
            health = Health(State.HEALTHY if same and well else State.STARTING)
            watch = life.watches[name] = _Watch(name, test, plan, health)
            watch.loop = asyncio.create_task(self._follow(uid, life, watch))
        return life

    async def _follow(self, uid: str, life: _Life, watch: _Watch) -> None:
        while True:
            await asyncio.sleep(wait(watch.plan, watch.health, life.age()))
            age = life.age()
            try:
                outcome = await self._look(uid, life.container, watch)
            except DriverError as error:
                log.debug("a check could not be made", task=uid, reason=str(error))
                continue
            before = (watch.health.state, len(life.failures))
            watch.health = judged(watch.plan, watch.health, age, outcome.passed)
            if not outcome.passed:
                watch.output = outcome.output[-_OUTPUT_LIMIT:]
                failure = CheckFailure(check=watch.name, at=datetime.now(UTC), output=watch.output)
                life.failures = [*life.failures, failure][-KEPT_FAILURES:]
            if not outcome.passed or watch.health.state != before[0]:
                self._changed(uid)

    async def _look(self, uid: str, container: Container, watch: _Watch) -> Outcome:
        if not isinstance(watch.test, list):
            return await self._driver.probe(container, watch.test, watch.plan.timeout)
        return await run(self._driver, uid, watch.test, watch.plan.timeout)


async def run(driver: Driver, uid: str, command: list[str], seconds: float) -> Outcome:
    """A command in the container, and how it went; one that takes longer is killed. Raises
    DriverError where it can't be tried."""
    said = bytearray()
    terminal: Terminal | None = None
    try:
        async with asyncio.timeout(seconds):
            terminal = await driver.exec(uid, command, tty=False, stdin=False)
            async with contextlib.aclosing(terminal.output()) as lines:
                async for line in lines:
                    said = (said + line.data)[-4 * _OUTPUT_LIMIT :]
            code = await terminal.exit_code()
    except TimeoutError:
        if terminal is not None:
            await _kill(terminal, uid)
        return Outcome(False, f"{command[0]} did not end within {seconds:g} s")
    output = said.decode(errors="replace").strip()[-_OUTPUT_LIMIT:]
    return Outcome(code == 0, output or f"exit code {code}")


async def _kill(terminal: Terminal, uid: str) -> None:
    try:
        async with asyncio.timeout(_KILL_SECONDS):
            await terminal.kill()
    except (DriverError, TimeoutError) as error:
        log.warning("a command that takes too long runs on", task=uid, why=str(error) or "timeout")


def _wanted(template: TaskTemplate) -> list[tuple[str, Test, Plan]]:
    """The template's checks that are the agent's to make."""
    found: list[tuple[str, Test, Plan]] = []
    check = template.healthcheck
    if check is not None and not check.disable:
        test = check.http or check.tcp
        if test is not None:
            found.append(("health", test, plan_of(check)))
    if (readiness := template.readiness) is not None:
        found.append(("readiness", _test(readiness), plan_of(readiness)))
    return found


def _test(check: Readiness) -> Test:
    return check.http or check.tcp or check.command
