"""Managers as an agent sees them, without TLS, store or sockets: for tests with a virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from api.client import ApiError, Unreachable
from api.types.assignment import (
    COMPLETE,
    INCREMENT,
    Assignments,
    Delivery,
    ImageAgreed,
    ImageFound,
    Rejection,
    SessionReply,
    SessionRequest,
    StatusReport,
    StatusResult,
)
from api.types.join import Sign
from api.types.meta import Metadata
from api.types.revision import Revision, RevisionSpec, RevisionStatus
from api.types.task import TERMINAL, Task, TaskSpec, TaskState, TaskStatus, forward
from api.types.template import TaskTemplate
from controllers.agent.agent import Agent
from controllers.agent.drivers.contract import ContainerSpec, Phase
from controllers.agent.drivers.simulated import Behaviour, SimulatedDriver, SimulatedEngine
from controllers.agent.managers import Pipe

NODE = "here"
FOREVER = "trap 'exit 0' TERM; sleep 1000000 & wait"
HEARTBEAT = 5.0


class ToyManagers:
    """`tasks` and so on are what is stored; what is changed here is sent to who listens."""

    server = "https://toy"

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.revisions: dict[str, Revision] = {}
        self.configs: dict[str, Delivery] = {}
        self.away = False
        self.ended = False  # the session, for the manager
        self.sessions: list[SessionRequest] = []
        self.beats: list[float] = []
        self.said: list[StatusReport] = []  # all reports that came
        self.rejected: list[Rejection] = []
        self.questions: list[ImageFound] = []  # about images
        self.store_down = False  # so that these can't be answered
        self.earlier = False  # of a version that knows no such question
        self.changed = asyncio.Event()  # something was said
        self._streams: set[asyncio.Queue[Assignments | None]] = set()
        self._numbers = itertools.count(1)

    # What a user and the controllers do.

    def add(
        self, script: str = FOREVER, *, revision: str = "", generic: Any = None, **template: Any
    ) -> str:
        """A task on this node; its uid. `revision`: of one that others are of, too; `generic`:
        resources that it was given."""
        number = next(self._numbers)
        name = revision or f"web-{number}"
        fields = {"image": "app:1", "command": ["sh", "-c", script], **template}
        spec = RevisionSpec(
            service="web", number=number, template=msgspec.convert(fields, TaskTemplate)
        )
        if name not in self.revisions:
            self.revisions[name] = Revision(
                metadata=Metadata(name=name, namespace="default", uid=f"r{number}"), spec=spec
            )
        uid = f"{number:08}"
        self.tasks[uid] = Task(
            metadata=Metadata(name=f"web.{number}", namespace="default", uid=uid),
            spec=TaskSpec(service="web", revision=name, slot=number, node=NODE, generic=generic),
            status=TaskStatus(state=TaskState.ASSIGNED),
        )
        self._send(tasks=[self.tasks[uid]], revisions=[self.revisions[name]])
        return uid

    def agree(self, revision: str, digest: str) -> None:
        """A node has found what the revision's image is; all hear of it."""
        known = self.revisions[revision]
        if known.status.digest != digest:
            known.status = RevisionStatus(digest=digest)
            self._send(revisions=[known])

    def unwant(self, uid: str) -> None:
        task = self.tasks[uid]
        task.spec = msgspec.structs.replace(task.spec, desired_state=TaskState.SHUTDOWN)
        self._send(tasks=[task])

    def give_up(self, uid: str) -> None:
        """Its node was silent for too long."""
        if self.tasks[uid].live:
            self.tasks[uid].status = TaskStatus(state=TaskState.ORPHANED, error="its node was lost")
            self._send(tasks=[self.tasks[uid]])

    def delete(self, uid: str) -> None:
        del self.tasks[uid]
        self._send(removed_tasks=[uid])

    def config(self, name: str) -> None:
        content = {"value": f"of {name}".encode()}
        self.configs[name] = Delivery(namespace="default", name=name, version=1, data=content)
        self._send(configs=[self.configs[name]])

    def cut(self) -> None:
        """The assignment streams break."""
        for stream in self._streams:
            stream.put_nowait(None)

    def go(self) -> None:
        self.away = True
        self.cut()

    def end_session(self) -> None:
        self.ended = True
        self.cut()

    def state(self, uid: str) -> TaskState:
        return self.tasks[uid].status.state

    def status(self, uid: str) -> TaskStatus:
        return self.tasks[uid].status

    def words(self, uid: str) -> str:
        return self.tasks[uid].status.error or self.tasks[uid].status.message

    # What an agent asks.

    async def open_session(self, node: str, request: SessionRequest) -> SessionReply:
        self._answer()
        self.sessions.append(request)
        self.changed.set()
        self.ended = False
        return SessionReply(heartbeat_seconds=HEARTBEAT, cluster="toy")

    async def heartbeat(self, node: str) -> Sign:
        self._answer()
        if self.ended:
            raise ApiError({"message": "the session has ended"}, code=410)
        self.beats.append(asyncio.get_running_loop().time())
        return Sign()

    async def assignments(self, node: str) -> AsyncGenerator[Assignments, None]:
        self._answer()
        queue: asyncio.Queue[Assignments | None] = asyncio.Queue()
        self._streams.add(queue)
        try:
            yield _copy(
                Assignments(
                    type=COMPLETE,
                    tasks=list(self.tasks.values()),
                    revisions=list(self.revisions.values()),
                    configs=list(self.configs.values()),
                )
            )
            while message := await queue.get():
                yield message
        finally:
            self._streams.discard(queue)

    async def report(self, node: str, reports: Sequence[StatusReport]) -> StatusResult:
        self._answer()
        await asyncio.sleep(0.01)
        self._answer()
        rejected = [reason for report in reports if (reason := self._take(report))]
        self.said.extend(reports)
        self.changed.set()
        self.rejected.extend(rejected)
        return StatusResult(rejected=rejected)

    async def agree_on_image(self, node: str, found: ImageFound) -> ImageAgreed:
        self._answer()
        await asyncio.sleep(0.01)
        self.questions.append(found)
        self._answer()
        if self.store_down:
            raise ApiError({"message": "the store (etcd) does not answer"}, code=503)
        revision = self.revisions.get(found.revision)
        if self.earlier or revision is None:
            code = 403 if self.earlier else 404
            raise ApiError({"message": "no"}, code=code)
        self.agree(found.revision, revision.status.digest or found.digest)
        return ImageAgreed(digest=revision.status.digest)

    async def dial_stream(self, node: str, id: str) -> Pipe:
        raise Unreachable("toy managers have no streams")

    def _take(self, report: StatusReport) -> Rejection | None:
        task = self.tasks.get(report.uid)
        reason = ""
        if task is None:
            reason = "NotFound"
        elif not forward(task.status.state, report.status.state) and (
            task.status.state != report.status.state
        ):
            reason = "Backwards"
        if task is None or reason:
            return Rejection(
                namespace=report.namespace, name=report.name, uid=report.uid, reason=reason
            )
        task.status = report.status
        return None

    def _answer(self) -> None:
        if self.away:
            raise Unreachable("no manager answers")

    def _send(self, **fields: Any) -> None:
        for stream in self._streams:
            stream.put_nowait(_copy(Assignments(type=INCREMENT, **fields)))


def _copy(message: Assignments) -> Assignments:
    """As if it had gone through a socket."""
    return msgspec.json.decode(msgspec.json.encode(message), type=Assignments)


class Machine:
    """A node: its engine, its run directory, and at most one agent on it."""

    def __init__(self, managers: ToyManagers, run_dir: Path, behaviour: Behaviour | None = None):
        self.managers = managers
        self.engine = SimulatedEngine(behaviour=behaviour)
        self.files = run_dir / NODE / "configs"
        self._run_dir = run_dir
        self._agent: asyncio.Task[None] | None = None
        self._driver: SimulatedDriver | None = None

    def start_agent(self) -> None:
        self._driver = SimulatedDriver(cluster="toy", node=NODE, engine=self.engine)
        agent = Agent(self.managers, self._driver, NODE, self._run_dir)
        self._agent = asyncio.create_task(agent.run())

    async def kill_agent(self) -> None:
        if self._agent is not None and self._driver is not None:
            assert not self._agent.done(), self._agent
            self._agent.cancel()
            await asyncio.gather(self._agent, return_exceptions=True)
            await self._driver.close()
            self._agent = None

    async def plant(
        self, uid: str, script: str = FOREVER, *, node: str = NODE, **fields: str
    ) -> None:
        """A container that an agent of another time, or of another node, has made."""
        template = msgspec.convert(
            {"image": "app:1", "command": ["sh", "-c", script], **fields}, TaskTemplate
        )
        spec = ContainerSpec(
            task_uid=uid,
            task_name="planted",
            namespace="default",
            service="web",
            slot=1,
            hostname="planted",
            template=template,
        )
        await self.engine.start(self.engine.create(spec, ("toy", node)))

    def running(self) -> set[str]:
        """The uids of tasks whose containers run."""
        found = self.engine.containers.items()
        return {uid for uid, container in found if container.phase is Phase.RUNNING}

    def with_files(self) -> set[str]:
        return {path.name for path in self.files.iterdir()} if self.files.exists() else set()

    def check(self) -> None:
        """All is as it should be when nothing has happened for a while."""
        stored = self.managers.tasks
        assert set(self.engine.containers) <= set(stored), "containers without a task"
        for uid, task in stored.items():
            state = task.status.state
            about = (uid, task.status, self.engine.containers.get(uid))
            assert (uid in self.running()) == (state is TaskState.RUNNING), about
            assert state in TERMINAL or (task.wanted and state is TaskState.RUNNING), about
            assert state not in (TaskState.FAILED, TaskState.REJECTED) or task.status.error, about
        mine = {uid for uid, task in stored.items() if task.live}
        assert self.with_files() <= mine, f"files of tasks that are over: {self.with_files()}"
        backwards = [each for each in self.managers.rejected if each.reason == "Backwards"]
        assert all(stored[each.uid].status.state in TERMINAL for each in backwards)


@contextlib.asynccontextmanager
async def machine(
    run_dir: Path, behaviour: Behaviour | None = None, *, agent: bool = True
) -> AsyncIterator[Machine]:
    it = Machine(ToyManagers(), run_dir, behaviour)
    if agent:
        it.start_agent()
    try:
        yield it
    finally:
        await it.kill_agent()
