"""Whether a container works, from the results of its checks: decided here, without I/O.

    starting ──passes──► healthy ◄──passes── unhealthy
        └── fails `retries` times in a row ──►──┘   (from healthy too)

As in Docker, failures within `start_period` don't count until the first success. Beyond Docker,
checks come every `start_interval` for at least the first `interval`, and their failures don't count
either: who starts quickly is found healthy in a second instead of after half a minute, and nobody
is unhealthy sooner than in Docker.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from api.types.quantity import parse_duration
from api.types.template import Healthcheck, Readiness

_FIRST_LOOK = 1.0  # seconds


class State(StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """When to check, in seconds, and how many failures count."""

    interval: float
    timeout: float
    retries: int
    start_period: float
    start_interval: float


class Health(msgspec.Struct, frozen=True):
    state: State = State.STARTING
    failures: int = 0  # in a row, those that count


def plan_of(check: Healthcheck | Readiness) -> Plan:
    """Raises ValueError for a duration that can't be read."""
    interval = parse_duration(check.interval)
    return Plan(
        interval=interval,
        timeout=parse_duration(check.timeout),
        retries=check.retries,
        start_period=parse_duration(check.start_period),
        start_interval=min(parse_duration(check.start_interval), interval),
    )


def judged(plan: Plan, health: Health, age: float, passed: bool) -> Health:
    """What to think after one more check, begun `age` seconds after the container's start."""
    if passed:
        return Health(State.HEALTHY)
    if health.state is State.STARTING and _young(plan, age):
        return health
    failures = min(health.failures + 1, plan.retries)
    state = State.UNHEALTHY if failures >= plan.retries else health.state
    return Health(state, failures)


def wait(plan: Plan, health: Health, age: float) -> float:
    """Seconds until the next check, `age` seconds after the container's start."""
    if health.state is State.STARTING and _young(plan, age):
        return min(_FIRST_LOOK, plan.start_interval) if age < _FIRST_LOOK else plan.start_interval
    return plan.interval


def _young(plan: Plan, age: float) -> bool:
    return age < max(plan.start_period, plan.interval)
