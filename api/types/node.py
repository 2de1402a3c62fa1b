"""A node: a machine that runs containers."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from api.types.generic import Amount
from api.types.meta import Condition, Object, Struct


class NodeSpec(Struct, kw_only=True):
    availability: str = "active"  # active | pause | drain
    role: str = "worker"  # worker | manager


class NodeResources(Struct, kw_only=True):
    cpus: float = 0.0  # cores
    memory: int = 0  # bytes
    generic: dict[str, Amount] = {}  # kind → names, or how many


class Engine(Struct, kw_only=True):
    """The container engine as the agent last saw it."""

    driver: str = ""  # docker | simulated
    version: str = ""
    ready: bool = False
    message: str = ""  # why it is not ready
    network: str = ""  # whose the containers' networks are; where the engine's, why
    labels: dict[str, str] = {}


class NodeCertificate(Struct, kw_only=True):
    """What the agent showed when it last said who it is: seen by a manager, not told by it."""

    authority: str = ""  # the id of the root that signed it
    expires: datetime | None = None


class NodeStatus(Struct, kw_only=True):
    """The agent's to write, but for `certificate`, which is the API server's, and `conditions`,
    which is the node controller's."""

    hostname: str = ""
    address: str = ""  # the IP address that managers see it under
    os: str = ""  # linux
    architecture: str = ""  # amd64 | arm64 | …, Go's names, as images use them
    kernel: str = ""
    agent_version: str = ""
    resources: NodeResources = msgspec.field(default_factory=NodeResources)
    engine: Engine = msgspec.field(default_factory=Engine)
    certificate: NodeCertificate = msgspec.field(default_factory=NodeCertificate)
    conditions: list[Condition] = []  # Ready


class Node(Object, kw_only=True):
    kind: ClassVar[str] = "Node"
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)
