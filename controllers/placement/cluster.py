"""The nodes as placement sees them: what each has, and what the tasks on it hold.

Kept up incrementally: `hold` when a task is placed or seen on a node, `release` when it has ended.
Both are idempotent by the task's uid, so a placement that was assumed before its write and is
then seen in the store counts once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from api.types.generic import Amount
from api.types.meta import condition
from api.types.node import Node
from api.types.quantity import parse_bytes, parse_cpus
from api.types.template import TaskTemplate
from controllers.placement.stock import Stock

FAILURES_WINDOW = timedelta(minutes=5)
FAILURES_COUNT = 5  # SwarmKit's figures: that many within the window make a node the last choice

HostPort = tuple[int, str]  # published port, protocol
Given = Mapping[str, Amount]  # of a node's generic resources, to one task


class Demand(msgspec.Struct, frozen=True):
    """What one task of a revision takes from its node."""

    cpus: int = 0  # thousandths of a core
    memory: int = 0  # bytes
    ports: tuple[HostPort, ...] = ()  # on the node's own address
    generic: tuple[tuple[str, int], ...] = ()  # kind and number
    devices: frozenset[str] = frozenset()  # kinds handed over as devices, which takes names


def demand_of(template: TaskTemplate) -> Demand:
    """Only reservations count, not limits. Raises ValueError for a quantity it can't read."""
    reserved = template.resources.reservations
    return Demand(
        cpus=round(parse_cpus(reserved.cpus) * 1000),
        memory=parse_bytes(reserved.memory),
        ports=tuple((p.published, p.protocol) for p in template.ports if p.published),
        generic=tuple(sorted(reserved.generic.items())),
        devices=frozenset(device.resource for device in template.devices if device.resource),
    )


def is_ready(node: Node) -> bool:
    """Whether its agent and its engine answer."""
    ready = condition(node.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


class NodeInfo:
    """One node. `node` is None while tasks hold on to a node whose object is gone."""

    __slots__ = (
        "cpus", "cpus_held", "failures", "memory", "memory_held", "name", "node", "ports", "ready",
        "services", "stocks", "tasks",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Node | None = None
        self.ready = False
        self.cpus = 0
        self.memory = 0
        self.cpus_held = 0
        self.memory_held = 0
        self.tasks = 0
        self.services: dict[str, int] = {}  # live tasks of each service
        self.ports: dict[HostPort, int] = {}
        self.stocks: dict[str, Stock] = {}  # by kind of generic resource
        self.failures: dict[str, deque[datetime]] = {}  # by revision

    def recent_failures(self, revision: str, now: datetime) -> int:
        """How often the revision failed here lately; 0 below the count that matters."""
        times = self.failures.get(revision)
        if times is None:
            return 0
        while times and times[0] < now - FAILURES_WINDOW:
            times.popleft()
        if not times:
            del self.failures[revision]
        return len(times) if len(times) >= FAILURES_COUNT else 0

    def stock(self, kind: str) -> Stock:
        found = self.stocks.get(kind)
        if found is None:
            found = self.stocks[kind] = Stock()
        return found

    def offer_generic(self, generic: Mapping[str, Amount]) -> None:
        for kind, amount in generic.items():
            self.stock(kind).offer(amount)
        for kind in self.stocks.keys() - generic.keys():
            self.stocks[kind].offer(0)
            self._tidy(kind)

    def take(self, given: Given) -> None:
        for kind, amount in given.items():
            self.stock(kind).take(amount)

    def give_back(self, given: Given) -> None:
        for kind, amount in given.items():
            self.stocks[kind].give_back(amount)
            self._tidy(kind)

    def _tidy(self, kind: str) -> None:
        stock = self.stocks[kind]
        if not stock.amount and not stock.used:
            del self.stocks[kind]


class _Hold(NamedTuple):
    info: NodeInfo
    service: str
    demand: Demand
    given: Given


_NOTHING: Given = {}


class Cluster:
    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}
        self._holds: dict[str, _Hold] = {}
        self.offers = 0  # counts the changes of what nodes there are and what they are

    def __iter__(self) -> Iterator[NodeInfo]:
        """The nodes there are."""
        return (info for info in self._infos.values() if info.node is not None)

    def get(self, name: str) -> NodeInfo | None:
        info = self._infos.get(name)
        return info if info is not None and info.node is not None else None

    def put_node(self, node: Node) -> bool:
        """A node came or changed; whether it may now take tasks that it did not take before."""
        info = self._info(node.metadata.name)
        before = info.node
        new = before is None or offer(before) != offer(node)
        self.offers += new
        info.node = node
        info.ready = is_ready(node)
        info.cpus = round(node.status.resources.cpus * 1000)
        info.memory = node.status.resources.memory
        if info.stocks or node.status.resources.generic:
            info.offer_generic(node.status.resources.generic)
        return new

    def drop_node(self, name: str) -> None:
        info = self._infos.get(name)
        if info is not None:
            self.offers += 1
            info.node, info.ready = None, False
            info.offer_generic(_NOTHING)
            self._forget(info)

    def holds(self, uid: str) -> str | None:
        """The node on which the task holds its share."""
        hold = self._holds.get(uid)
        return hold.info.name if hold is not None else None

    def given(self, uid: str) -> Given:
        """What the task holds of its node's generic resources."""
        hold = self._holds.get(uid)
        return hold.given if hold is not None else _NOTHING

    def choose(self, node: str, demand: Demand) -> Given:
        """What a task that is placed there is to be given. It has to be held at once."""
        if not demand.generic:
            return _NOTHING
        info = self._info(node)
        return {kind: info.stock(kind).choose(wanted) for kind, wanted in demand.generic}

    def hold(
        self, uid: str, node: str, service: str, demand: Demand, given: Given = _NOTHING
    ) -> None:
        """`given`: what was chosen for it; it is what it says, whatever the demand."""
        if uid in self._holds:
            held = self._holds[uid]
            if held.info.name == node and held.given == given:
                return
            self.release(uid)
        info = self._info(node)
        self._holds[uid] = _Hold(info, service, demand, given)
        if given:
            info.take(given)
        info.tasks += 1
        info.services[service] = info.services.get(service, 0) + 1
        info.cpus_held += demand.cpus
        info.memory_held += demand.memory
        for port in demand.ports:
            info.ports[port] = info.ports.get(port, 0) + 1

    def release(self, uid: str) -> bool:
        """The task has ended; whether it held anything."""
        hold = self._holds.pop(uid, None)
        if hold is None:
            return False
        info, service, demand, given = hold
        if given:
            info.give_back(given)
        info.tasks -= 1
        info.cpus_held -= demand.cpus
        info.memory_held -= demand.memory
        _less(info.services, service)
        for port in demand.ports:
            _less(info.ports, port)
        self._forget(info)
        return True

    def failed(self, node: str, revision: str, when: datetime) -> None:
        """A task of the revision failed there."""
        info = self._infos.get(node)
        if info is not None:
            # Bounded: more than this says nothing new.
            info.failures.setdefault(revision, deque(maxlen=64)).append(when)

    def _info(self, name: str) -> NodeInfo:
        info = self._infos.get(name)
        if info is None:
            info = self._infos[name] = NodeInfo(name)
        return info

    def _forget(self, info: NodeInfo) -> None:
        if info.node is None and not info.tasks:
            self._infos.pop(info.name, None)


def _less(counts: dict[str, int] | dict[HostPort, int], key: object) -> None:
    left = counts[key] - 1  # type: ignore[index]
    if left:
        counts[key] = left  # type: ignore[index]
    else:
        del counts[key]  # type: ignore[arg-type]


def offer(node: Node) -> tuple[object, ...]:
    """All of a node that a placement depends on."""
    status = node.status
    return (
        node.spec.availability, node.spec.role, is_ready(node), node.metadata.labels,
        status.engine.labels, status.hostname, status.address, status.os, status.architecture,
        status.resources.cpus, status.resources.memory, status.resources.generic,
    )  # fmt: skip
