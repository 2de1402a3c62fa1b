"""The node controller: says in each node's Ready condition whether its agent and engine answer.

    True     EngineReady      the agent has a session and its engine answers
    False    EngineDown       the agent has a session; the engine's words follow
    Unknown  HeartbeatMissed  there is no session: three heartbeats were missed
             NeverConnected   nor was there ever one: it has only been declared, or just joined

A session is a key on a lease, so a node without one has been silent for three periods already.
Two cases are not the nodes' fault, and get one period of grace more, so that agents can renew
their sessions before anything is replaced:

- this process has just begun to look and found no session: the agents may have been without a
  manager to talk to;
- more than half of the nodes, and at least two, fell silent within one period: more likely the
  managers were cut off or the store stood still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from api.store.cache import DELETED, Cache, CacheEvent, Item
from api.store.contract import Store, Write
from api.types import codec
from api.types.kinds import NODE
from api.types.meta import Condition, condition, set_condition
from api.types.node import Node
from controllers.reconcile.controller import DONE, After, Controller, Outcome
from controllers.reconcile.recorder import Recorder

READY = "Ready"
HEARTBEAT = 5.0  # seconds
PERIODS = 3


class NodeController:
    name = "nodes"

    def __init__(
        self,
        cache: Cache,
        store: Store,
        recorder: Recorder,
        clock: Callable[[], datetime],
        *,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._cache = cache
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._silence = heartbeat * PERIODS
        self._start_grace_ends = 0.0  # loop's time; of nodes that had no session then
        self._grace_ends = 0.0  # of the others
        self._fell_silent: dict[str, float] = {}  # when, by node; loop's time
        self._controller = Controller(self.name, self._reconcile)

    async def run(self) -> None:
        await self._cache.synced()
        stop = self._cache.listen(self._heard, kinds={NODE})
        stop_sessions = self._cache.listen_sessions(self._session_heard)
        try:
            self._start_grace_ends = self._now() + self._silence
            self._grace_ends = 0.0
            self._fell_silent.clear()
            for item in self._cache.items(NODE):
                self._controller.queue.add(item.name)
            await self._controller.run()
        finally:
            stop()
            stop_sessions()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            if event.type == DELETED:
                self._fell_silent.pop(event.item.name, None)
            else:
                self._controller.queue.add(event.item.name)

    def _session_heard(self, node: str, alive: bool) -> None:
        if alive:
            self._fell_silent.pop(node, None)
        else:
            self._fell_silent[node] = self._now()
            self._extend_grace()
        self._controller.queue.add(node)

    def _extend_grace(self) -> None:
        start = self._now() - self._silence
        lately = [since for since in self._fell_silent.values() if since > start]
        if len(lately) >= 2 and 2 * len(lately) > len(self._cache.items(NODE)):
            self._grace_ends = max(self._grace_ends, min(lately) + self._silence)

    async def _reconcile(self, name: str) -> Outcome:
        item = self._cache.get(NODE, "", name)
        if item is None:
            return DONE
        if name not in self._cache.sessions:
            seen = name in self._fell_silent
            left = (self._grace_ends if seen else self._start_grace_ends) - self._now()
            if left > 0:
                return After(left)
        node: Node = item.obj
        wanted = self._condition(node, name in self._cache.sessions)
        found = condition(node.status.conditions, READY)
        if found is not None and _same(found, wanted):
            return DONE
        await self._write(item, wanted)
        if found is None or found.status != wanted.status or found.reason != wanted.reason:
            kind = "Normal" if wanted.status == "True" else "Warning"
            self._recorder.note(node, kind, wanted.reason, wanted.message, component=self.name)
        return DONE

    def _condition(self, node: Node, alive: bool) -> Condition:
        said = node.status.agent_version or node.status.engine.driver
        if not alive and not said:
            status, reason = "Unknown", "NeverConnected"
            message = "no agent has connected yet: join the machine, or start its agent"
        elif not alive:
            status, reason = "Unknown", "HeartbeatMissed"
            message = (
                f"no heartbeat for {self._silence:g} s or more: see whether the machine runs, "
                "its agent runs, and a manager can be reached from it"
            )
        elif not node.status.engine.ready:
            status, reason = "False", "EngineDown"
            words = node.status.engine.message or "it does not answer"
            message = f"the container engine is down: {words}"
        else:
            status, reason, message = "True", "EngineReady", "the agent and its engine answer"
        return Condition(type=READY, status=status, reason=reason, message=message)

    async def _write(self, item: Item, wanted: Condition) -> None:
        node: Node = item.obj
        conditions = set_condition(node.status.conditions, wanted, now=self._clock())
        status = msgspec.structs.replace(node.status, conditions=conditions)
        value = codec.amended(NODE, item.value, status=status)
        revision = await self._store.commit([Write(item.key, value, item.revision)])
        await self._cache.caught_up(revision)


def _same(one: Condition, other: Condition) -> bool:
    return (one.status, one.reason, one.message) == (other.status, other.reason, other.message)
