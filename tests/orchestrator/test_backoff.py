"""How long a slot waits between its tasks, and how that shows."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.meta import condition
from api.types.service import RestartPolicy
from api.types.task import Task, TaskState
from controllers.orchestrator.births import new_task
from controllers.orchestrator.decision import Observed
from controllers.orchestrator.restart import Policy, verdict
from tests.orchestrator.toy import EPOCH, Toy, service


def waits(count: int, **policy: Any) -> list[float]:
    parsed = Policy.of(RestartPolicy(**policy))
    return [parsed.wait(failures).total_seconds() for failures in range(1, count + 1)]


def ended(ran: float, *, failures: int = 0, state: TaskState = TaskState.FAILED) -> Task:
    task = new_task(service(1), 1, "web-1", None, EPOCH, failures=failures)
    task.status.state = state
    task.status.started_at = EPOCH
    task.status.finished_at = task.status.since = EPOCH + timedelta(seconds=ran)
    return task


def failures_after(task: Task, **policy: Any) -> int:
    parsed = Policy.of(RestartPolicy(**policy))
    return verdict(parsed, task, (task,), Observed(), EPOCH + timedelta(days=1)).failures


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, [5, 10, 20, 40, 80, 160, 300, 300]),
        ({"delay": "0s"}, [0, 1, 2, 4, 8, 16, 32, 64]),
        ({"delay": "100ms", "max_delay": "3s"}, [0.1, 1, 2, 3, 3, 3, 3, 3]),
        ({"delay": "5s", "max_delay": "0s"}, [5] * 8),  # as in Swarm
        ({"delay": "5s", "max_delay": "5s"}, [5] * 8),
        ({"delay": "0s", "max_delay": "0s"}, [0] * 8),
    ],
)
def test_waits_double_up_to_the_cap(policy: dict[str, str], expected: list[float]) -> None:
    assert waits(8, **policy) == expected


def test_a_slot_that_failed_for_years_still_has_a_next_try() -> None:
    assert waits(5000, max_delay="24h")[-1] == 86400


@given(st.floats(0, 60), st.floats(0, 600), st.integers(1, 100))
def test_waits_never_shrink_and_stay_between_delay_and_cap(
    delay: float, cap: float, failures: int
) -> None:
    policy = Policy.of(RestartPolicy(delay=f"{delay:.3f}s", max_delay=f"{cap:.3f}s"))
    assert policy.wait(failures) <= policy.wait(failures + 1)
    assert policy.delay <= policy.wait(failures) <= max(policy.delay, policy.max_delay)


def test_a_task_that_ran_long_enough_begins_a_new_row() -> None:
    assert failures_after(ended(10, failures=4)) == 5
    assert failures_after(ended(60, failures=4)) == 1
    assert failures_after(ended(10, failures=4), reset_after="5s") == 1
    # One that always exits with 0 keeps its node just as busy.
    assert failures_after(ended(1, failures=4, state=TaskState.COMPLETE)) == 5


def test_a_lost_node_is_no_failure() -> None:
    assert failures_after(ended(1, failures=2, state=TaskState.ORPHANED)) == 2


def test_a_task_that_dies_once_is_replaced_at_once_where_there_is_no_delay() -> None:
    toy = Toy(service(1, restart=RestartPolicy(delay="0s")))
    toy.converge()
    toy.fail()
    assert len(toy.decide().create) == 1


def test_a_broken_service_is_tried_less_and_less() -> None:
    toy = Toy(service(1, restart=RestartPolicy(delay="1s", max_delay="1m")))
    toy.bad.add(toy.revision)
    made = []
    for _ in range(600):
        for task in toy.step(pace=1.0).create:
            made.append(task.metadata.creation_timestamp or EPOCH)
    gaps = [(after - before).total_seconds() for before, after in pairwise(made)]
    starting = 2  # steps until it fails
    assert gaps[:4] == [starting + wait for wait in (1, 2, 4, 8)]
    assert gaps[-1] == starting + 60


def test_a_crash_loop_says_how_it_ended_and_when_it_tries_again() -> None:
    toy = Toy(service(1, restart=RestartPolicy(delay="10s")))
    toy.bad.add(toy.revision)
    for _ in range(60):
        decision = toy.step(pace=1.0)
        if decision.create and decision.create[0].spec.failures == 2:
            break
    for _ in range(5):
        toy.step(pace=1.0)
    failed = next(task for task in toy.tasks.values() if task.wanted)
    failed.status.error = "exited with code 3"
    decision = toy.decide()
    assert decision.status is not None
    assert failed.status.since is not None
    again = failed.status.since + timedelta(seconds=40)
    for kind in ("Available", "Progressing"):
        found = condition(decision.status.conditions, kind)
        assert found is not None
        assert found.reason == "CrashLoop"
        assert (
            f"{failed.metadata.name}: exited with code 3; 3 in a row ended so, "
            f"the next try is at {again:%Y-%m-%dT%H:%M:%SZ}"
        ) in found.message
    assert decision.requeue_after == (again - toy.now).total_seconds()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_what_is_mended_runs_and_nothing_is_said_of_the_loop(seed: int, replicas: int) -> None:
    toy = Toy(service(replicas, restart=RestartPolicy(delay="1s", max_delay="20s")), seed=seed)
    toy.bad.add(toy.revision)
    for _ in range(60):
        toy.step()
    toy.bad.clear()
    toy.converge()
    assert toy.slots_up() == replicas
    decision = toy.decide()
    assert decision.status is not None
    assert {found.reason for found in decision.status.conditions} == {"TasksRunning", "Complete"}
