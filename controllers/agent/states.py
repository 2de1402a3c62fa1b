"""What to do next for one task, and what to say of it: decided here, without I/O.

    Assigned → Accepted → Preparing ──make──► Ready ──start──► Starting → Running
                              │                 │                 │          │
                              └── Rejected ◄────┘                 └► Failed ◄┤ Complete, Shutdown

`decide` looks at the task as it is wanted, at its container as the engine has it, and at what was
last said, and answers with one `Step`. It may be asked at any moment and after any crash; the
same sight gives the same step. What holds, whatever happens in between:

- a state never goes backwards, and a final one stays;
- a task that is not wanted, or whose state is final, ends without a running container;
- a wanted task whose container runs is Starting or Running, never made anew;
- every end that was not asked for says why in `error`.
"""

from __future__ import annotations

import enum
import signal
from datetime import datetime

import msgspec

from api.types.task import RANK, TERMINAL, ContainerStatus, TaskState, TaskStatus
from controllers.agent.drivers.contract import Container, Phase


class Do(enum.Enum):
    NOTHING = "nothing"
    MAKE = "make"  # pull, mount, create
    START = "start"
    STOP = "stop"


class Failure(msgspec.Struct, frozen=True):
    """What ended the task from outside its process: the agent's last action, or a check."""

    state: TaskState  # Rejected | Failed
    error: str


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a decision depends on."""

    status: TaskStatus  # the newest that this agent has said or was told
    wanted: bool
    container: Container | None
    waits_for: str = ""  # what it can't be made without, and which is not here
    failure: Failure | None = None
    ready: bool = True  # its readiness check passes, or it has none
    unready: str = ""  # what the last failed readiness check said
    grace: float = 10.0  # seconds
    memory_limit: str = ""  # as the user wrote it
    parting: str = ""  # what went wrong before it was told to stop


class Step(msgspec.Struct, frozen=True):
    do: Do
    state: TaskState
    message: str = ""
    error: str = ""


def decide(sight: Sight) -> Step:
    status, container = sight.status, sight.container
    running = container is not None and container.phase is Phase.RUNNING
    if status.state in TERMINAL:
        do = Do.STOP if running else Do.NOTHING
        return Step(do, status.state, status.message, status.error)
    if running and sight.wanted and sight.failure is None:
        return _runs(sight, container)
    if running:
        message = f"stopping; it has {sight.grace:g} s to end"
        error = sight.failure.error if sight.failure and sight.wanted else status.error
        return Step(Do.STOP, status.state, message, error)
    if not sight.wanted:
        return _shut_down(sight)
    if sight.failure is not None:
        return Step(Do.NOTHING, sight.failure.state, "", sight.failure.error)
    if container is None:
        return _absent(sight)
    if container.phase is Phase.CREATED:
        if status.state is TaskState.RUNNING:
            return Step(Do.NOTHING, TaskState.FAILED, "", "its container was replaced by another")
        return Step(Do.START, _at_least(status, TaskState.READY), "starting")
    return _exited(sight, container)


def _runs(sight: Sight, container: Container | None) -> Step:
    status = sight.status
    if container is not None and container.health == "unhealthy":
        error = "health check failed"
        if container.health_output:
            error += f": {container.health_output}"
        return Step(Do.STOP, _at_least(status, TaskState.STARTING), "unhealthy; stopping", error)
    if container is not None and container.health == "starting":
        if status.state is TaskState.RUNNING:  # somebody restarted its container
            return Step(Do.NOTHING, status.state, "waiting for its health check")
        return Step(Do.NOTHING, TaskState.STARTING, "waiting for its health check")
    if not sight.ready:
        said = f": {sight.unready}" if sight.unready else ""
        if status.state is TaskState.RUNNING:
            return Step(Do.NOTHING, status.state, f"not ready, gets no traffic{said}")
        return Step(Do.NOTHING, TaskState.STARTING, f"waiting for its readiness check{said}")
    return Step(Do.NOTHING, TaskState.RUNNING)


def _absent(sight: Sight) -> Step:
    status = sight.status
    if RANK[status.state] >= RANK[TaskState.STARTING]:
        error = status.error or "its container is gone: somebody or something else removed it"
        return Step(Do.NOTHING, TaskState.FAILED, "", error)
    state = _at_least(status, TaskState.PREPARING)
    if sight.waits_for:
        return Step(Do.NOTHING, state, f"waiting for {sight.waits_for}")
    return Step(Do.MAKE, state, "preparing")


def _exited(sight: Sight, container: Container) -> Step:
    if sight.status.error:  # said when it was stopped for it, maybe by an earlier agent
        return Step(Do.NOTHING, TaskState.FAILED, "", sight.status.error)
    if container.exit_code == 0 and not container.error and not container.oom_killed:
        return Step(Do.NOTHING, TaskState.COMPLETE, "ended by itself, exit code 0")
    return Step(Do.NOTHING, TaskState.FAILED, "", exit_words(container, sight.memory_limit))


def _shut_down(sight: Sight) -> Step:
    container = sight.container
    message = "stopped"
    if container is None:
        message = "never started"
        if RANK[sight.status.state] >= RANK[TaskState.STARTING]:
            message = "its container is gone"
    elif container.phase is Phase.CREATED:
        message = "never started"
    elif container.exit_code == 128 + signal.SIGKILL and not container.oom_killed:
        message = f"killed: it did not end within its {sight.grace:g} s of grace"
    elif container.exit_code:
        message = f"stopped; {exit_words(container, sight.memory_limit)}"
    if sight.parting:
        message += f"; {sight.parting}"
    return Step(Do.NOTHING, TaskState.SHUTDOWN, message, sight.status.error)


def _gets_traffic(step: Step, sight: Sight) -> bool:
    container = sight.container
    return (
        step.state is TaskState.RUNNING
        and step.do is Do.NOTHING
        and sight.ready
        and container is not None
        and container.health in ("", "healthy")
    )


def _at_least(status: TaskStatus, state: TaskState) -> TaskState:
    return status.state if RANK[status.state] > RANK[state] else state


def exit_words(container: Container, memory_limit: str = "") -> str:
    """Why a process ended, for people."""
    code = container.exit_code or 0
    if container.oom_killed:
        limit = f" of {memory_limit}" if memory_limit else ""
        return (
            f"out of memory: killed at its limit{limit} (exit code {code}); "
            "raise resources.limits.memory, or use less"
        )
    if container.error:
        return f"{container.error} (exit code {code})"
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name} (exit code {code})"
        except ValueError:
            return f"exit code {code}"
    if code == 127:
        return "exit code 127: usually a command that is not in the image"
    if code == 126:
        return "exit code 126: usually a command that may not be run"
    return f"exit code {code}"


def status_of(step: Step, sight: Sight, now: datetime) -> TaskStatus:
    """The status to report; equal to the last one where nothing has changed."""
    old, container = sight.status, sight.container
    seen = old.container
    started, finished, ports = old.started_at, old.finished_at, old.ports
    if container is not None:
        seen = ContainerStatus(
            id=container.id,
            digest=container.digest,
            pid=container.pid,
            exit_code=container.exit_code,
            oom_killed=container.oom_killed,
            health=container.health,
            check_failures=container.check_failures
            or (seen.check_failures if seen is not None and seen.id == container.id else []),
        )
        started = container.started_at or started
        finished = container.finished_at
        ports = container.ports
    if step.state in TERMINAL and finished is None:
        finished = old.finished_at or now
    return TaskStatus(
        state=step.state,
        message=step.message,
        error=step.error,
        ready=_gets_traffic(step, sight),
        since=old.since if old.state == step.state and old.since is not None else now,
        started_at=started,
        finished_at=finished,
        container=seen,
        ports=ports,
        secrets=old.secrets,
    )
