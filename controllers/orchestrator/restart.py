"""Whether and when a task that ended by itself is replaced: the service's restart policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from api.types.quantity import parse_duration
from api.types.service import RestartPolicy
from api.types.task import Task, TaskState
from controllers.orchestrator.decision import Observed


class Policy(msgspec.Struct, frozen=True):
    """A restart policy, its durations parsed."""

    condition: str
    delay: timedelta
    max_attempts: int
    window: timedelta

    @classmethod
    def of(cls, policy: RestartPolicy) -> Policy:
        """Raises ValueError for a duration it can't read."""
        return cls(
            condition=policy.condition,
            delay=timedelta(seconds=parse_duration(policy.delay)),
            max_attempts=policy.max_attempts,
            window=timedelta(seconds=parse_duration(policy.window)),
        )


class Verdict(msgspec.Struct, frozen=True):
    """`at` None: it is not replaced, and `why` says so. `at` in the past: now."""

    at: datetime | None
    why: str = ""


def verdict(
    policy: Policy, task: Task, history: Sequence[Task], observed: Observed, now: datetime
) -> Verdict:
    """What becomes of the slot of `task`, the newest there; `history` is all of the slot."""
    state = task.status.state
    if state is TaskState.ORPHANED:
        return Verdict(now)
    if policy.condition == "none":
        return Verdict(None, "restart.condition is none")
    if policy.condition == "on-failure" and state is TaskState.COMPLETE:
        return Verdict(None, "restart.condition is on-failure")
    if policy.max_attempts and _attempts(policy, task, history, now) >= policy.max_attempts:
        return Verdict(None, f"restart.maxAttempts is {policy.max_attempts}")
    return Verdict(ended(task, observed, now) + policy.delay)


def ended(task: Task, observed: Observed, now: datetime) -> datetime:
    """When the task became terminal, never in the future and never before it was made."""
    seen = observed.ended.get(task.metadata.uid)
    if seen is not None:
        return seen
    reported = task.status.since or task.status.finished_at or now
    made = task.metadata.creation_timestamp or reported
    return min(max(reported, made), now)


def _attempts(policy: Policy, task: Task, history: Sequence[Task], now: datetime) -> int:
    """Restarts so far that count. Without a window the task carries the number itself."""
    if not policy.window:
        return task.spec.restarts
    oldest = now - policy.window
    return sum(
        other.spec.restarts > 0
        and other.spec.revision == task.spec.revision
        and other.metadata.creation_timestamp is not None
        and other.metadata.creation_timestamp >= oldest
        for other in history
    )
