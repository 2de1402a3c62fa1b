"""A service: what a user wants run, how many, where, and how it changes."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from api.types.meta import Condition, Object, Struct
from api.types.template import TaskTemplate

TASKS_FINALIZER = "skep.dev/tasks"


class SpreadPreference(Struct, kw_only=True):
    spread: str  # e.g. node.labels.zone


class Platform(Struct, kw_only=True):
    os: str = ""
    architecture: str = ""


class Placement(Struct, kw_only=True):
    constraints: list[str] = []  # AND-ed
    preferences: list[SpreadPreference] = []
    max_replicas_per_node: int = 0  # 0: no limit
    platforms: list[Platform] = []  # any of; empty: all


class UpdatePolicy(Struct, kw_only=True):
    """SwarmKit's defaults; each field has its own, also when others are given."""

    parallelism: int = 1  # 0: all at once
    delay: str = "0s"
    failure_action: str = "pause"  # pause | continue | rollback
    monitor: str = "5s"
    max_failure_ratio: float = 0.0
    order: str = "stop-first"  # stop-first | start-first


class RestartPolicy(Struct, kw_only=True):
    condition: str = "any"  # any | on-failure | none
    delay: str = "5s"
    max_delay: str = "5m"  # the delay doubles up to this; at most `delay`: it stays the same
    reset_after: str = "1m"  # a task that ran for this long is no failure in a row
    max_attempts: int = 0  # 0: no limit
    window: str = "0s"  # attempts older than this don't count; 0: all count


class ServiceSpec(Struct, kw_only=True):
    mode: str = "replicated"  # replicated | global
    replicas: int = 1
    template: TaskTemplate
    placement: Placement = msgspec.field(default_factory=Placement)
    update: UpdatePolicy = msgspec.field(default_factory=UpdatePolicy)
    rollback: UpdatePolicy = msgspec.field(default_factory=UpdatePolicy)
    restart: RestartPolicy = msgspec.field(default_factory=RestartPolicy)


class ServiceStatus(Struct, kw_only=True):
    observed_generation: int = 0
    revision: str = ""  # the name of the current revision
    replicas: int = 0  # desired tasks: for a global service, one a suitable node
    running: int = 0  # tasks in state Running, of any revision
    updated: int = 0  # tasks in state Running, of the current revision
    conditions: list[Condition] = []  # Available, Progressing


class Service(Object, kw_only=True):
    kind: ClassVar[str] = "Service"
    spec: ServiceSpec
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)
