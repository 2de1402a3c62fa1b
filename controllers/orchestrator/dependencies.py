"""Start order: what a service still waits for. Decided without I/O.

Only a service's first start waits, which is over with its first revision. Later restarts don't: a
database that is restarted would else hold up every service above it, just when those are needed
to come back, and clients have to bear a lost connection anyhow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from api.types.dependency import COMPLETED, STARTED, Dependency
from api.types.meta import Condition
from api.types.service import Service, ServiceStatus
from api.types.task import Task, TaskState

_UP = {TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE}


class Other(msgspec.Struct, frozen=True):
    """A service that another depends on, as it is now."""

    service: Service
    tasks: Sequence[Task]


Find = Callable[[str], Other | None]


def waits_for(dependencies: Sequence[Dependency], find: Find) -> str:
    """What does not hold yet, for people; "" where everything does."""
    return "; ".join(filter(None, (_missing(one, find(one.service)) for one in dependencies)))


def _missing(dependency: Dependency, other: Other | None) -> str:
    name = f"service {dependency.service}"
    if other is None:
        return f"{name}, which does not exist"
    if other.service.metadata.deletion_timestamp is not None:
        return f"{name}, which is being deleted"
    if dependency.condition == COMPLETED:
        return "" if _completed(other) else f"{name} to complete"
    states = _UP if dependency.condition == STARTED else {TaskState.RUNNING}
    slots = {
        task.spec.slot or task.spec.node
        for task in other.tasks
        if task.wanted and task.status.state in states
    }
    wanted = _wanted(other.service)
    if len(slots) >= wanted:
        return ""
    return f"{name} to be {dependency.condition} ({len(slots)}/{wanted} tasks are)"


def _wanted(service: Service) -> int:
    """How many tasks have to be there; one at least, for none is no service."""
    if service.spec.is_job:
        return 1
    if service.spec.mode == "global":
        return max(1, service.status.replicas)
    return max(1, service.spec.replicas)


def _completed(other: Other) -> bool:
    service = other.service
    if service.spec.is_job:
        runs = service.status.job.runs if service.status.job is not None else []
        return any(run.result == "Complete" for run in runs)
    slots = {
        task.spec.slot or task.spec.node
        for task in other.tasks
        if task.status.state is TaskState.COMPLETE
    }
    return len(slots) >= _wanted(service)


def waiting_status(service: Service, newest: Mapping[str, int]) -> ServiceStatus:
    """Of a service that waits for others, with its conditions yet to be put in."""
    replicas = service.spec.replicas if service.spec.mode == "replicated" else 0
    return msgspec.structs.replace(
        service.status,
        observed_generation=service.metadata.generation,
        observed_secrets=dict(newest),
        replicas=replicas,
        running=0,
        updated=0,
    )


def waiting_conditions(words: str) -> tuple[Condition, Condition]:
    reason, message = "WaitsForService", f"Pending: waiting for {words}"
    return (
        Condition(type="Available", status="False", reason=reason, message=message),
        Condition(type="Progressing", status="True", reason=reason, message=message),
    )
