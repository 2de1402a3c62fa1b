"""Whether a container works: the decision, exhaustively, on a clock of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.types.template import Healthcheck
from controllers.agent.health import Health, Plan, State, judged, plan_of, wait

plans = st.builds(
    Plan,
    interval=st.sampled_from([1.0, 10.0, 30.0]),
    timeout=st.just(5.0),
    retries=st.integers(1, 5),
    start_period=st.sampled_from([0.0, 5.0, 60.0]),
    start_interval=st.sampled_from([0.5, 1.0]),
)
results = st.lists(st.booleans(), max_size=60)


def course(plan: Plan, passes: list[bool]) -> list[tuple[float, bool, Health]]:
    """Each check: the container's age at it, its result, and what was thought after it."""
    age, health, found = 0.0, Health(), []
    for passed in passes:
        age += wait(plan, health, age)
        health = judged(plan, health, age, passed)
        found.append((age, passed, health))
    return found


@given(plans, results)
def test_one_that_passes_is_healthy_at_once(plan: Plan, passes: list[bool]) -> None:
    for _, passed, health in course(plan, passes):
        assert not passed or health == Health(State.HEALTHY)


@given(plans, results)
def test_unhealthy_needs_so_many_failures_in_a_row(plan: Plan, passes: list[bool]) -> None:
    row, before = 0, State.STARTING
    for _, passed, health in course(plan, passes):
        row = 0 if passed else row + 1
        if health.state is State.UNHEALTHY:
            assert row >= plan.retries
        elif before is State.HEALTHY:
            assert row < plan.retries, "once it was healthy every failure counts"
        before = health.state


@given(plans, st.integers(1, 200))
def test_who_never_passes_is_unhealthy_when_docker_says_so(plan: Plan, checks: int) -> None:
    """Not before its start period and so many intervals, and never later than one more."""
    for age, _, health in course(plan, [False] * checks):
        if age < plan.start_period or age < plan.interval * plan.retries:
            assert health.state is State.STARTING
        young = max(plan.start_period, plan.interval) + plan.start_interval
        if age >= young + plan.interval * plan.retries:
            assert health.state is State.UNHEALTHY


@given(plans, results)
def test_checks_come_at_their_pace(plan: Plan, passes: list[bool]) -> None:
    before, last = State.STARTING, 0.0
    for age, _, health in course(plan, passes):
        assert 0 < age - last <= plan.interval
        if before is not State.STARTING:
            assert age - last == plan.interval
        before, last = health.state, age


@given(plans)
def test_a_quick_one_is_healthy_within_a_second(plan: Plan) -> None:
    ((age, _, health),) = course(plan, [True])
    assert (health.state, age <= 1.0) == (State.HEALTHY, True)


@given(plans, results, st.integers(0, 60))
def test_an_agent_that_comes_back_does_not_doubt_the_healthy(
    plan: Plan, passes: list[bool], cut: int
) -> None:
    for age, _, health in course(plan, passes)[:cut]:
        if health.state is State.HEALTHY:
            again = judged(plan, Health(State.HEALTHY), age + wait(plan, health, age), False)
            assert again.state is (State.UNHEALTHY if plan.retries == 1 else State.HEALTHY)


def test_a_plan_is_read_from_a_template() -> None:
    plan = plan_of(Healthcheck(interval="2s", start_period="1m"))
    assert (plan.interval, plan.start_period, plan.start_interval) == (2, 60, 2)
    with pytest.raises(ValueError, match="soon"):
        plan_of(Healthcheck(interval="soon"))
