"""What a runtime driver must do. `docker` and `simulated` pass one test-suite.

A driver knows containers, not tasks: the agent decides, the driver does. It owns exactly the
containers that it made for its cluster and node, and must never touch another, however much that
looks like one of its own. Every method may be called again after a crash with the same arguments,
also while the first call is still under way in the engine, and then finds the work done.

Errors:

    DriverError         says in words what went wrong; the agent puts it in the task's status
    ├── EngineDown      the engine doesn't answer; nothing can be said about any container
    ├── Refused         the engine will never accept this: a bad mount, an unknown user, no image
    └── NotFound        there is no such container
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Protocol

import msgspec

from api.types.generic import Amount, Claim
from api.types.node import Engine, NodeResources
from api.types.task import CheckFailure, PublishedPort
from api.types.template import HttpCheck, TaskTemplate, TcpCheck


class DriverError(Exception):
    """Base of what a driver raises; its text is for people."""


class EngineDown(DriverError):
    """The engine does not answer."""


class Refused(DriverError):
    """Trying again won't help."""


class NotFound(DriverError):
    """No such container."""


class BoundFile(msgspec.Struct, frozen=True):
    """A file or directory of the agent's (a secret, a config) seen read-only in the container."""

    source: str  # on the node
    target: str  # in the container, absolute


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to make one task's container."""

    task_uid: str
    task_name: str
    namespace: str
    service: str
    slot: int
    hostname: str
    template: TaskTemplate
    generic: dict[str, Amount] = {}  # of the node's generic resources, the task's own
    files: list[BoundFile] = []
    login: bytes = b""  # as for `pull`


class Phase(enum.Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A container as the engine has it now."""

    id: str
    task_uid: str
    task_name: str
    namespace: str
    phase: Phase
    digest: str = ""  # of its image, where it was made by that
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    health: str = ""  # "" | starting | healthy | unhealthy
    health_output: str = ""  # of the last failed check
    check_failures: list[CheckFailure] = []  # the engine's, the newest last
    address: str = ""  # where it is reached from its node; empty when it doesn't run
    error: str = ""  # the engine's own words where it could not start
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ports: list[PublishedPort] = []
    grace: float | None = None  # seconds that it was made to have for its end
    claims: list[Claim] = []  # generic resources with names that it was made with


class Outcome(msgspec.Struct, frozen=True):
    """Of one check."""

    passed: bool
    output: str = ""  # why not, for people


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    engine: Engine
    resources: NodeResources
    os: str
    architecture: str
    kernel: str


class LogLine(msgspec.Struct, frozen=True):
    stream: int  # 1 stdout, 2 stderr
    data: bytes  # as it came: usually a line with its end


class Terminal(Protocol):
    """A process running inside a container, its ends in our hand."""

    def output(self) -> AsyncGenerator[LogLine, None]:
        """What it prints, until it ends. On a terminal, all of it is stream 1."""

    async def send(self, data: bytes) -> None:
        """To a process that has ended: nothing happens."""

    async def end_input(self) -> None:
        """The process finds its input at its end, also on a terminal. Its output still comes."""

    async def resize(self, width: int, height: int) -> None: ...
    async def exit_code(self) -> int:
        """Call when `output` has ended."""

    async def kill(self) -> None:
        """End it and what it started, at once. Ended already: nothing. Raises DriverError where
        that can't be done from here."""


class Driver(Protocol):
    name: str

    async def info(self) -> EngineInfo:
        """The engine and the machine. Raises EngineDown."""

    async def containers(self) -> list[Container]:
        """Every container of this cluster and node, whatever its phase."""

    def events(self) -> AsyncGenerator[str, None]:
        """Task uids whose container changed (started, died, removed, health, OOM), whoever did it.

        The first thing it yields is "" once the subscription stands: list after that, and no
        change is missed. Another "": the engine is another than `info` said; ask anew. What this
        driver was asked to do itself may be left out, as its caller gets the outcome. Raises
        EngineDown when the stream breaks, or the engine hangs; the caller subscribes anew.
        """

    async def pull(
        self,
        image: str,
        progress: Callable[[str], None],
        policy: str = "ifNotPresent",
        login: bytes = b"",
    ) -> str:
        """Make the image present, and say which it is: the digest that its registry knows it by,
        `sha256:…`, or "" where it has none (made or loaded here). `name:tag@digest` names one whose
        digest is known. Present already: nothing happens, unless `policy` is `always`,
        which asks the registry what the name stands for now. `progress` takes words, none twice in
        a row. Cancelled, it goes on for others who want the same image. Raises Refused, with what
        to do where the registry has no such image or wants a login, or where `policy` is `never`
        and the image is not here. `login` is a Docker configuration, which comes before the
        node's own."""

    async def create(self, spec: ContainerSpec) -> Container:
        """The task's container, made or found. Raises Refused where a stranger has its name."""

    async def start(self, task_uid: str) -> Container:
        """Start it; started already: nothing happens. Raises Refused for a command that is not in
        the image, DriverError for a port that is taken, which is named."""

    async def inspect(self, task_uid: str) -> Container:
        """Raises NotFound."""

    async def stop(self, task_uid: str, *, grace: float) -> Container:
        """The container's stop signal, at least `grace` seconds, then SIGKILL; returns when it is
        over. It goes on though the caller is gone. Not running: nothing happens."""

    async def signal(self, task_uid: str, signal: str) -> None:
        """Send a signal, by name or number, to its first process. Raises NotFound, Refused when
        the container does not run or there is no such signal."""

    async def remove(self, task_uid: str) -> None:
        """Kill it if it runs, remove it with its anonymous volumes; gone already: nothing."""

    def serve(self, task_uid: str, serving: bool) -> None:
        """Whether others find it by its service's name; at first they don't. It goes on as it was
        when the driver is made anew, and ends with its container. Raises DriverError."""

    async def probe(
        self, container: Container, check: HttpCheck | TcpCheck, seconds: float
    ) -> Outcome:
        """One check from outside, at its address. Nothing that the container does is raised."""

    def logs(
        self, task_uid: str, *, follow: bool, tail: int | None, since: datetime | None,
        timestamps: bool,
    ) -> AsyncGenerator[LogLine, None]:  # fmt: skip
        """What the container printed, from `since` on, the last `tail` lines of it. With `follow`,
        until it ends or is removed. `timestamps` put RFC 3339 in UTC (…Z) and a space first."""

    async def exec(self, task_uid: str, command: list[str], *, tty: bool, stdin: bool) -> Terminal:
        """Start a process inside. Raises NotFound, Refused when the container does not run. A
        command that is not there ends with 126 or 127, and its output says so."""

    async def close(self) -> None: ...
