"""The node's tasks: brings each one's container to what its task wants, and says how it is.

The model. A `Known` a task holds what was last heard from the manager and from the engine.
Whatever changes it (an assignment, an engine event, the engine coming back) kicks it. A kicked
task gets a worker, a coroutine that asks `states.decide`, reports, acts, and asks again until
there is nothing to do. So there is at most one worker a task, none while nothing happens, and
tasks don't wait for each other; how much goes on at once in the engine is the driver's business.

Nothing is judged while the engine is away: no workers start. When it is back all containers are
listed and every task is looked at anew. Containers of ours that belong to no task here are taken
up as tasks that are gone, which ends and removes them; but only after a complete set of
assignments has said which tasks there are.

A task that is gone (deleted) is stopped, removed and forgotten. A task that is over keeps its
container, for its output, but not its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import structlog

from api.rendering import followed_secrets
from api.types.assignment import COMPLETE, Assignments, StatusReport
from api.types.quantity import parse_duration
from api.types.revision import RevisionSpec
from api.types.task import TERMINAL, Task, TaskState, TaskStatus, forward
from controllers.agent import leaving
from controllers.agent.checks import Checks
from controllers.agent.claims import Claims
from controllers.agent.drivers.contract import (
    Driver,
    DriverError,
    EngineDown,
    EngineInfo,
    NotFound,
    Phase,
    Refused,
)
from controllers.agent.following import Unfinished
from controllers.agent.images import Images
from controllers.agent.known import RETRY_FIRST, Known
from controllers.agent.making import Maker
from controllers.agent.materials import Materials
from controllers.agent.reporter import Reporter
from controllers.agent.states import Do, Failure, Sight, decide, status_of
from controllers.agent.swaps import Swaps

log = structlog.get_logger("skep.agent")

_FIRST_WAIT, _LAST_WAIT = 0.2, 5.0  # seconds between tries to reach the engine
_RETRY_LAST = 30.0  # seconds between tries to stop or remove a container
_GRACE = 10.0  # seconds, of containers that don't say theirs

EngineListener = Callable[[EngineInfo | None, str], None]


class Tasks:
    def __init__(
        self,
        driver: Driver,
        materials: Materials,
        reporter: Reporter,
        images: Images,
        *,
        on_engine: EngineListener,
    ) -> None:
        """`on_engine` hears how the engine is: its info, or None and why it is away."""
        self._driver = driver
        self._materials = materials
        self._reporter = reporter
        self._images = images
        self._on_engine = on_engine
        self._known: dict[str, Known] = {}
        self._checks = Checks(driver, self._checked)
        self._swaps = Swaps(driver, materials, self._report)
        self._revisions: dict[str, RevisionSpec] = {}  # namespace/revision
        self._claims = Claims()
        self._maker = Maker(
            driver, materials, images, self._claims, find=self._known.get, say=self._say
        )
        self._waiting: set[str] = set()  # uids of tasks that wait for something to be delivered
        self._complete = False  # a complete set of assignments has come
        self._listed = False  # the engine is there, and its containers are known
        self._following: asyncio.Timeout | None = None
        self._away = ""  # why the engine is given up though its events still flow

    # What the manager wants.

    def assign(self, message: Assignments) -> None:
        """Take in a complete set, or changes to it."""
        complete = message.type == COMPLETE
        self._take_revisions(message, complete)
        self._materials.take(message, complete)
        if complete:
            there = {task.metadata.uid for task in message.tasks}
            removed = [uid for uid in self._known if uid not in there]
            self._complete = True
        else:
            removed = message.removed_tasks
        for uid in removed:
            self._removed(uid)
        for task in message.tasks:
            self._assigned(task, complete)
        if complete:
            self._sweep()
            for known in self._known.values():  # what an agent that was killed has left
                if known.template is not None and followed_secrets(known.template):
                    self._swaps.tidy_soon(known)
        for uid in list(self._waiting):
            self._kick(self._known[uid])
        if message.secrets and not complete:
            self._follow({delivery.name for delivery in message.secrets})

    def _follow(self, names: set[str]) -> None:
        """Look at the tasks that may be given new versions of these secrets."""
        for known in self._known.values():
            if known.template is not None and names & followed_secrets(known.template):
                self._kick(known)

    def _sweep(self) -> None:
        try:
            self._materials.sweep(self._known)
        except OSError as error:  # the next complete set brings another try
            log.warning("files of tasks that are gone can't be removed", why=str(error))

    def _take_revisions(self, message: Assignments, complete: bool) -> None:
        if complete:
            self._revisions.clear()
            self._images.clear()
        for id in message.removed_revisions:
            self._revisions.pop(id, None)
            self._images.forget(id)
        self._images.take(message.revisions)
        for revision in message.revisions:
            id = f"{revision.metadata.namespace}/{revision.metadata.name}"
            self._revisions[id] = revision.spec

    def _removed(self, uid: str) -> None:
        known = self._known.get(uid)
        if known is None:
            return
        known.gone = True
        self._reporter.forget(uid)
        self._kick(known)

    def _assigned(self, task: Task, complete: bool) -> None:
        uid = task.metadata.uid
        known = self._known.get(uid)
        if known is None:
            known = self._known[uid] = Known(uid)
            known.status = task.status
        elif known.task is None or known.gone:  # its container was found before, or it is back
            known.status = task.status
            known.gone = False
        elif complete or task.status.state is TaskState.ORPHANED:
            self._settle_views(known, task)
        known.task = task
        revision = self._revisions.get(f"{task.metadata.namespace}/{task.spec.revision}")
        if revision is not None:
            known.template, known.secrets = revision.template, revision.secrets
        self._kick(known)

    def _settle_views(self, known: Known, task: Task) -> None:
        """The manager's word on a task that we know, against ours: the one further on holds."""
        theirs, ours = task.status, known.status
        if theirs == ours:
            return
        if theirs.state in TERMINAL or not forward(theirs.state, ours.state):
            known.status = theirs
        else:
            self._report(known)

    # What the engine says.

    async def run(self) -> None:
        """Follow the engine, for ever."""
        wait = _FIRST_WAIT
        try:
            while True:
                try:
                    async with asyncio.timeout(None) as self._following:
                        async with contextlib.aclosing(self._driver.events()) as events:
                            async for uid in events:
                                if uid:
                                    self._changed(uid)
                                else:
                                    await self._list()
                                    wait = _FIRST_WAIT
                    reason = "the container engine ended its events"
                except TimeoutError:
                    reason = self._away
                except DriverError as error:
                    reason = str(error)
                self._lost(reason)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LAST_WAIT)
        finally:
            await self._end()

    def _changed(self, uid: str) -> None:
        known = self._known.get(uid)
        if known is not None:
            known.stale = True
            self._kick(known)

    def _checked(self, uid: str) -> None:
        if known := self._known.get(uid):
            self._kick(known)

    async def _list(self) -> None:
        """Begin anew from what the engine has. Raises EngineDown."""
        info = await self._driver.info()
        found = {container.task_uid: container for container in await self._driver.containers()}
        for uid in found:
            if uid not in self._known:
                known = self._known[uid] = Known(uid)
                known.gone = True
        for uid, container in found.items():
            if container.phase is not Phase.EXITED:
                self._claims.take(uid, container.claims)
        self._listed = True
        self._away = ""
        self._on_engine(info, "")
        for known in list(self._known.values()):
            known.stale = known.worker is not None
            if known.worker is None:
                known.container = found.get(known.uid)
            self._kick(known)

    def _lost(self, reason: str) -> None:
        if self._listed:
            log.warning("the container engine is away", reason=reason)
        self._listed = False
        self._on_engine(None, reason)

    def _give_up(self, error: EngineDown) -> None:
        """A call found the engine away: follow it anew, though its events may still flow."""
        self._away = str(error)
        if self._listed and self._following is not None:
            self._listed = False
            self._following.reschedule(asyncio.get_running_loop().time())

    async def _end(self) -> None:
        workers = [known.worker for known in self._known.values() if known.worker is not None]
        for known in self._known.values():
            if known.retry is not None:
                known.retry.cancel()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self._checks.close()  # after the workers, who begin new ones
        await self._materials.close()

    # Working on a task.

    def _kick(self, known: Known) -> None:
        if known.worker is not None:
            known.again = True
            pulling = known.pulling
            if pulling is not None and not known.wanted and not pulling.expired():
                pulling.reschedule(asyncio.get_running_loop().time())
        elif self._listed and (known.task is not None or self._complete):
            known.worker = asyncio.create_task(self._work(known))

    async def _work(self, known: Known) -> None:
        try:
            while self._listed:
                known.again = False
                if known.stale:
                    await self._look(known)
                if known.gone:
                    await self._clear(known)
                    return
                acted = await self._step(known)
                if not acted and not known.again and not known.stale:
                    known.retry_wait = RETRY_FIRST
                    return
        except EngineDown as error:
            known.stale = True
            self._give_up(error)
        except Unfinished as error:
            known.behind = str(error)
            self._retry_later(known, known.behind)
        except DriverError as error:
            self._retry_later(known, f"it can't be stopped or removed: {error}")
        except OSError as error:
            self._retry_later(known, f"its secrets or configs can't be removed: {error}")
        except Exception:
            log.exception("a step of a task failed", task=known.uid)
            self._retry_later(known, "the agent failed; see its log on the node")
        finally:
            known.worker = None

    async def _look(self, known: Known) -> None:
        known.stale = False
        try:
            known.container = await self._driver.inspect(known.uid)
        except NotFound:
            known.container = None

    async def _step(self, known: Known) -> bool:
        """One decision, said and done. False: there was nothing to do. Raises DriverError."""
        sight = self._sight(known)
        step = decide(sight)
        status = status_of(step, sight, datetime.now(UTC))
        status = self._serve(known, status)
        if known.behind and step.do is Do.NOTHING and not status.message:
            status = msgspec.structs.replace(status, message=f"{known.behind}; trying again")
        if status != known.status:
            known.status = status
            self._report(known)
        if status.state in TERMINAL and step.do is Do.NOTHING:
            self._withdraw(known)
            self._release(known.uid)
        if sight.waits_for and step.do is Do.NOTHING and status.state not in TERMINAL:
            self._waiting.add(known.uid)
        else:
            self._waiting.discard(known.uid)
        match step.do:
            case Do.NOTHING:
                return await self._swaps.renew(known)
            case Do.MAKE:
                await self._maker.make(known)
            case Do.START:
                await self._start(known)
            case Do.STOP:
                ill = bool(status.error) or status.state in TERMINAL
                await self._stop(known, sight.grace, leave=not ill)
        return True

    def _serve(self, known: Known, status: TaskStatus) -> TaskStatus:
        """Give it traffic, or take it away, before that is said."""
        if known.container is None:
            return status
        try:
            self._driver.serve(known.uid, status.ready)
        except DriverError as error:
            self._retry_later(known, f"its service's name can't lead to it: {error}")
            return msgspec.structs.replace(status, ready=False, message=known.status.message)
        return status

    def _sight(self, known: Known) -> Sight:
        template = known.template
        waits_for, grace, limit = "", _GRACE, ""
        if known.container is not None and known.container.grace is not None:
            grace = known.container.grace
        if template is not None:
            grace = _seconds(template.stop_grace_period)
            limit = str(template.resources.limits.memory or "")
        if known.wanted and known.container is None and known.status.state not in TERMINAL:
            waits_for = self._maker.waits_for(known)
        seen = self._checks.see(known.uid, known.container, template, known.status)
        return Sight(
            status=known.status,
            wanted=known.wanted,
            container=seen.container,
            waits_for=waits_for,
            failure=known.failure,
            ready=seen.ready,
            unready=seen.unready,
            grace=grace,
            memory_limit=limit,
            parting=known.parting,
        )

    async def _start(self, known: Known) -> None:
        await self._swaps.freshen(known)
        try:
            known.container = await self._driver.start(known.uid)
        except NotFound:
            known.container = None
        except EngineDown:
            raise
        except Refused as error:
            known.failure = Failure(TaskState.REJECTED, f"it can't be started: {error}")
        except DriverError as error:
            known.failure = Failure(TaskState.FAILED, f"it could not be started: {error}")

    async def _stop(self, known: Known, grace: float, *, leave: bool = True) -> None:
        try:
            self._driver.serve(known.uid, False)
            if leave and known.template is not None:
                say = functools.partial(self._say, known)
                grace, known.parting = await leaving.leave(
                    self._driver, known.uid, known.template, grace, say
                )
            known.container = await self._driver.stop(known.uid, grace=grace)
        except NotFound:
            known.container = None

    async def _clear(self, known: Known) -> None:
        """End what is gone, and forget it. Raises DriverError."""
        if known.container is not None:
            if known.container.phase is Phase.RUNNING:
                await self._stop(known, self._sight(known).grace)
            if known.gone:
                await self._driver.remove(known.uid)
        self._withdraw(known)
        self._release(known.uid)
        self._checks.end(known.uid)
        self._waiting.discard(known.uid)
        if known.gone:  # else it was assigned again meanwhile
            self._known.pop(known.uid, None)
            self._reporter.forget(known.uid)
        else:
            known.stale = True

    def _release(self, uid: str) -> None:
        if self._claims.release(uid):
            for waiting in list(self._waiting):
                self._kick(self._known[waiting])

    def _withdraw(self, known: Known) -> None:
        if known.files:
            self._materials.withdraw(known.uid)
            known.files = False

    def _retry_later(self, known: Known, reason: str) -> None:
        log.warning("trying again later", task=known.uid, reason=reason, after=known.retry_wait)
        self._say(known, f"{reason}; trying again")
        known.stale = True
        if known.retry is not None:
            known.retry.cancel()

        def again() -> None:
            known.retry = None
            self._kick(known)

        known.retry = asyncio.get_running_loop().call_later(known.retry_wait, again)
        known.retry_wait = min(2 * known.retry_wait, _RETRY_LAST)

    # Saying.

    def _say(self, known: Known, words: str) -> None:
        if known.status.message != words:
            known.status = msgspec.structs.replace(known.status, message=words)
            self._report(known)

    def _report(self, known: Known) -> None:
        if known.task is None or known.gone:
            return
        metadata = known.task.metadata
        self._reporter.report(
            StatusReport(
                namespace=metadata.namespace,
                name=metadata.name,
                uid=known.uid,
                status=known.status,
            )
        )


def _seconds(duration: str) -> float:
    try:
        return parse_duration(duration)
    except ValueError:
        return _GRACE
