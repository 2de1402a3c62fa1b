"""Whether and when a task that ended by itself is replaced: the service's restart policy.

A slot's first restart comes after `delay`. As long as its tasks end before they ran for
`resetAfter`, each wait is twice the one before, and a second at least, up to `maxDelay`: a broken
service takes less and less of its node, and one that fell over once is back at once. With a
`maxDelay` of no more than `delay` all waits are the same: that is Swarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from api.types.quantity import parse_duration
from api.types.service import RestartPolicy
from api.types.task import Task, TaskState
from controllers.orchestrator.decision import Observed

_LEAST = timedelta(seconds=1)  # of the second wait, which with no delay would be none
_MOST_DOUBLINGS = 30  # of a second are 34 years


class Policy(msgspec.Struct, frozen=True):
    """A restart policy, its durations parsed."""

    condition: str
    delay: timedelta
    max_attempts: int
    window: timedelta
    max_delay: timedelta
    reset_after: timedelta

    @classmethod
    def of(cls, policy: RestartPolicy) -> Policy:
        """Raises ValueError for a duration it can't read."""
        return cls(
            condition=policy.condition,
            delay=timedelta(seconds=parse_duration(policy.delay)),
            max_attempts=policy.max_attempts,
            window=timedelta(seconds=parse_duration(policy.window)),
            max_delay=timedelta(seconds=parse_duration(policy.max_delay)),
            reset_after=timedelta(seconds=parse_duration(policy.reset_after)),
        )

    def wait(self, failures: int) -> timedelta:
        """How long the slot waits after that many tasks in a row that ended too soon."""
        if failures < 2 or self.max_delay <= self.delay:
            return self.delay
        first = max(2 * self.delay, _LEAST)
        doublings = min(failures - 2, _MOST_DOUBLINGS)
        return min(self.max_delay, first * (1 << doublings))


class Verdict(msgspec.Struct, frozen=True):
    """`at` None: it is not replaced, and `why` says so. `at` in the past: now."""

    at: datetime | None
    why: str = ""
    failures: int = 0  # tasks in a row that ended too soon, with this one


def verdict(
    policy: Policy, task: Task, history: Sequence[Task], observed: Observed, now: datetime
) -> Verdict:
    """What becomes of the slot of `task`, the newest there; `history` is all of the slot."""
    state = task.status.state
    if state is TaskState.ORPHANED:
        return Verdict(now, failures=task.spec.failures)
    failures = 1 if ran(task) >= policy.reset_after else task.spec.failures + 1
    if policy.condition == "none":
        return Verdict(None, "restart.condition is none", failures)
    if policy.condition == "on-failure" and state is TaskState.COMPLETE:
        return Verdict(None, "restart.condition is on-failure", failures)
    if policy.max_attempts and _attempts(policy, task, history, now) >= policy.max_attempts:
        return Verdict(None, f"restart.maxAttempts is {policy.max_attempts}", failures)
    return Verdict(ended(task, observed, now) + policy.wait(failures), failures=failures)


def ran(task: Task) -> timedelta:
    """How long its container ran: both times are its agent's, so its clock may be wrong."""
    status = task.status
    finished = status.finished_at or status.since
    if status.started_at is None or finished is None:
        return timedelta(0)
    return max(finished - status.started_at, timedelta(0))


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
