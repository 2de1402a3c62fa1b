"""The node's session with the managers: who it is, that it lives, what it is to do.

Three loops that share only what the node is and whether the session stands. One says what the
machine and its engine are, whenever that changes; one sends heartbeats, which keep the session;
one reads the assignment stream, which brings work. Any of them loses its connection, waits a
little longer each time, and goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from api.client import ApiError, ClientError
from api.types.assignment import Assignments, SessionRequest
from api.types.join import Sign
from api.types.node import NodeStatus
from controllers.agent.managers import Managers

_GONE = 410
_RETRY_FIRST, _RETRY_LAST = 0.2, 5.0  # seconds
_JITTER = 0.1  # of the heartbeat's period, as SwarmKit's 5 s ± 0.5 s

_log = structlog.get_logger("skep.agent.session")


class Session:
    def __init__(
        self,
        client: Managers,
        node: str,
        labels: dict[str, str],
        take: Callable[[Assignments], None],
        heard: Callable[[Sign], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._node = node
        self._labels = labels
        self._take = take
        self._heard = heard
        self._status: NodeStatus | None = None
        self._changed = asyncio.Event()
        self._open = asyncio.Event()
        self._period = 5.0
        self._listening: asyncio.Timeout | None = None

    def say(self, status: NodeStatus) -> None:
        """What the node is now; managers hear of it when it differs from what they know."""
        if status != self._status:
            self._status = status
            self._changed.set()

    def begin_again(self) -> None:
        """Over new connections, as there is a new certificate: what was begun with the old one
        ends when that does."""
        self._changed.set()
        if self._listening is not None and not self._listening.expired():
            self._listening.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._register(), name="session")
            group.create_task(self._beat(), name="heartbeat")
            group.create_task(self._listen(), name="assignments")

    async def _register(self) -> None:
        retry = _Retry()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._status is None:
                continue
            request = SessionRequest(status=self._status, labels=self._labels)
            try:
                reply = await self._client.open_session(self._node, request)
            except ClientError as error:
                _log.warning("not registered yet", server=self._client.server, error=str(error))
                self._changed.set()
                await retry.wait()
                continue
            retry.reset()
            self._period = reply.heartbeat_seconds
            if not self._open.is_set():
                _log.info("registered", server=self._client.server, cluster=reply.cluster)
            self._open.set()

    async def _beat(self) -> None:
        while True:
            await self._open.wait()
            await asyncio.sleep(self._period * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
            try:
                self._heard(await self._client.heartbeat(self._node))
            except ApiError as error:
                if error.code == _GONE:
                    self._open.clear()
                    self._changed.set()
                _log.warning("heartbeat refused", error=str(error))
            except ClientError as error:
                _log.warning("heartbeat not delivered", error=str(error))

    async def _listen(self) -> None:
        retry = _Retry()
        while True:
            await self._open.wait()
            try:
                async with asyncio.timeout(None) as self._listening:
                    async for message in self._client.assignments(self._node):
                        retry.reset()
                        self._take(message)
                _log.info("the assignment stream ended; opening it again")
            except TimeoutError:  # it is to begin again
                retry.reset()
            except ClientError as error:
                _log.warning("no assignments for now", error=str(error))
            finally:
                self._listening = None
            await retry.wait()


class _Retry:
    """Waits that double, with jitter, until something works."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._delay = _RETRY_FIRST

    async def wait(self) -> None:
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))  # noqa: S311
        self._delay = min(2 * self._delay, _RETRY_LAST)
