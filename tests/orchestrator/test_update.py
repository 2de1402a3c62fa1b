"""Updates: how far they go, what ends them, and where they go back to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.meta import condition
from api.types.service import UNDONE_TO, Placement, RestartPolicy, UpdatePolicy
from api.types.task import TaskState
from controllers.orchestrator.decide import KEPT_REVISIONS
from tests.orchestrator.toy import Toy, service

seeds = st.integers(0, 10_000)
shares = st.sampled_from([1.0, 0.4])
DELAY = RestartPolicy(delay="2s", max_delay="20s")


def settled(replicas: int = 3, *, seed: int = 0, **update: Any) -> Toy:
    spec = service(replicas, restart=DELAY, update=UpdatePolicy(**update))
    toy = Toy(spec, seed=seed)
    toy.converge()
    return toy


def run(toy: Toy, steps: int, *, share: float = 1.0) -> None:
    for _ in range(steps):
        toy.step(share=share)


def revisions(toy: Toy) -> list[str]:
    return [task.spec.revision for task in toy.running()]


def progressing(toy: Toy) -> tuple[str, str, str]:
    decision = toy.decide()
    assert decision.status is not None
    found = condition(decision.status.conditions, "Progressing")
    assert found is not None
    return found.status, found.reason, found.message


# What begins one, and what does not


def test_a_first_rollout_is_no_update() -> None:
    assert settled().update is None


def test_only_what_affects_tasks_makes_an_update() -> None:
    toy = settled(3)
    before = set(toy.tasks)
    toy.service.metadata.labels["team"] = "shop"
    toy.service.spec.update = UpdatePolicy(parallelism=2)
    toy.service.spec.placement = Placement(constraints=["node.hostname != n9"])
    toy.service.metadata.generation += 1
    toy.scale(4)
    toy.converge()
    assert toy.update is None
    assert before < set(toy.tasks)


def test_a_placement_change_moves_only_what_no_longer_fits() -> None:
    toy = settled(6)
    kept = {task.metadata.name for task in toy.running() if task.spec.node != "n0"}
    toy.service.spec.placement = Placement(constraints=["node.hostname != n0"])
    toy.converge()
    assert kept <= {task.metadata.name for task in toy.running()}
    assert {task.spec.node for task in toy.running()} == {"n1", "n2"}


def test_an_update_is_on_record_before_any_task_is_touched() -> None:
    toy = settled(3)
    first = toy.revision
    new = toy.image("web:2")
    decision = toy.look()
    assert decision.record
    assert not (decision.create or decision.update or decision.delete)
    toy.record(decision)
    assert toy.update is not None
    assert (toy.state, toy.update.revision, toy.update.previous) == ("updating", new, first)
    assert len(toy.decide().update) == 1


def test_an_update_completes_and_says_so() -> None:
    toy = settled(3)
    new = toy.image("web:2")
    toy.converge()
    assert toy.update is not None
    assert (toy.state, toy.update.updated, toy.update.replicas) == ("completed", 3, 3)
    assert toy.update.completed is not None
    assert toy.update.message == f"all tasks run revision {new}"
    assert progressing(toy)[:2] == ("False", "Complete")


# Its pace


@pytest.mark.parametrize(
    ("parallelism", "replicas", "at_once"),
    [("25%", 8, 2), ("25%", 3, 1), ("100%", 5, 5), ("50%", 5, 2), (3, 8, 3), (0, 5, 5)],
)
def test_parallelism_is_a_number_or_a_share(
    parallelism: int | str, replicas: int, at_once: int
) -> None:
    toy = settled(replicas, parallelism=parallelism)
    toy.image("web:2")
    assert len(toy.decide().update) == at_once


@pytest.mark.parametrize(("monitor", "delay"), [("30s", "0s"), ("0s", "30s"), ("30s", "10s")])
def test_the_next_task_waits_until_the_last_one_ran_for_long_enough(
    monitor: str, delay: str
) -> None:
    toy = settled(2, monitor=monitor, delay=delay)
    new = toy.image("web:2")
    while new not in revisions(toy):
        toy.step()
    began = toy.now
    decision = toy.decide()
    assert decision.update == []
    assert decision.requeue_after == 30
    while not toy.step().update:
        assert toy.now < began + timedelta(seconds=31)
    assert toy.now == began + timedelta(seconds=30)


def test_it_is_not_complete_before_the_last_task_was_watched() -> None:
    toy = settled(1, monitor="20s")
    new = toy.image("web:2")
    while revisions(toy) != [new]:
        toy.step()
    run(toy, 19)
    assert toy.state == "updating"
    run(toy, 2)
    assert toy.state == "completed"


def test_one_that_begins_supersedes_the_one_that_runs() -> None:
    toy = settled(4)
    first = toy.revision
    toy.bad.add(toy.image("web:2"))
    run(toy, 3)
    third = toy.image("web:3")
    toy.step()
    assert toy.update is not None
    assert (toy.update.revision, toy.update.previous) == (third, first)
    toy.converge()
    assert revisions(toy) == [third] * 4
    assert toy.state == "completed"


# Failures


def test_a_failing_update_pauses_at_its_first_failure() -> None:
    toy = settled(4)
    first = toy.revision
    bad = toy.image("web:bad")
    toy.bad.add(bad)
    run(toy, 200)
    assert toy.state == "paused"
    assert revisions(toy) == [first] * 3
    status, reason, message = progressing(toy)
    assert (status, reason) == ("False", "UpdatePaused")
    assert "new tasks of 1 of 4 replicas failed" in message
    toy.image("web:3")
    toy.converge()
    assert toy.state == "completed"


def test_a_task_that_fails_while_it_is_watched_counts() -> None:
    toy = settled(2, monitor="20s")
    new = toy.image("web:2")
    while new not in revisions(toy):
        toy.step()
    run(toy, 15)
    task = next(task for task in toy.running() if task.spec.revision == new)
    toy.set_state(task.metadata.name, TaskState.FAILED)
    toy.decide()
    assert toy.state == "paused"


def test_a_task_that_fails_later_is_the_restart_policys_matter() -> None:
    toy = settled(2, monitor="5s")
    new = toy.image("web:2")
    while new not in revisions(toy):
        toy.step()
    name = next(task.metadata.name for task in toy.running() if task.spec.revision == new)
    run(toy, 7)
    toy.set_state(name, TaskState.FAILED)
    toy.converge()
    assert toy.state == "completed"


def test_failures_within_the_ratio_are_borne() -> None:
    toy = settled(4, max_failure_ratio=0.25)
    new = toy.image("web:2")
    while new not in revisions(toy):
        toy.step()
    victim = next(task for task in toy.running() if task.spec.revision == new)
    toy.set_state(victim.metadata.name, TaskState.FAILED)
    toy.converge()
    assert toy.state == "completed"
    assert toy.update is not None
    assert toy.update.failed == 1
    assert revisions(toy) == [new] * 4


def test_one_failure_more_than_the_ratio_pauses() -> None:
    toy = settled(4, max_failure_ratio=0.25)
    toy.bad.add(toy.image("web:bad"))
    run(toy, 100)
    assert toy.state == "paused"
    assert toy.update is not None
    assert toy.update.failed == 2
    assert len(toy.running()) == 2


def test_continue_goes_on_whatever_fails() -> None:
    toy = settled(3, failure_action="continue")
    toy.bad.add(toy.image("web:bad"))
    run(toy, 100)
    assert toy.state == "completed"
    assert toy.update is not None
    assert toy.update.failed == 3
    assert revisions(toy) == []


def test_no_progress_within_the_deadline_is_a_failure() -> None:
    toy = settled(2, deadline="60s")
    toy.image("web:2")
    toy.step()
    for name in list(toy.nodes):
        toy.availability(name, "pause")  # nobody takes the new task
    run(toy, 55)
    assert toy.state == "updating"
    run(toy, 15)
    assert toy.state == "paused"
    assert "no progress for 60 s" in progressing(toy)[2]


def test_a_node_that_takes_no_task_keeps_no_update_of_a_global_service_from_its_end() -> None:
    toy = Toy(service(mode="global", update=UpdatePolicy(deadline="60s", monitor="0s")))
    toy.converge()
    toy.availability("n1", "pause")
    new = toy.image("web:2")
    toy.converge()
    assert toy.state == "completed"
    assert revisions(toy).count(new) == 2
    toy.availability("n1", "active")
    toy.converge()
    assert revisions(toy) == [new] * 3


# Rollback


def test_a_failing_update_goes_back_by_itself() -> None:
    toy = settled(3, failure_action="rollback")
    first = toy.revision
    bad = toy.image("web:bad")
    toy.bad.add(bad)
    toy.converge()
    assert toy.state == "rollback_completed"
    assert revisions(toy) == [first] * 3
    decision = toy.decide()
    assert decision.status is not None
    assert decision.status.revision == first
    status, reason, message = progressing(toy)
    assert (status, reason) == ("False", "RolledBack")
    assert f"all tasks run revision {first} again; {bad} failed" in message
    # The same manifest, applied again, changes nothing; another one does.
    toy.service.metadata.generation += 1
    run(toy, 10)
    assert revisions(toy) == [first] * 3
    third = toy.image("web:3")
    toy.converge()
    assert revisions(toy) == [third] * 3
    assert toy.update is not None
    assert (toy.state, toy.update.previous) == ("completed", first)


def test_what_was_rolled_back_can_be_tried_again() -> None:
    toy = settled(3, failure_action="rollback")
    bad = toy.image("web:2")
    toy.bad.add(bad)
    toy.converge()
    toy.bad.clear()
    toy.resume()
    toy.converge()
    assert toy.state == "completed"
    assert revisions(toy) == [bad] * 3


def test_a_failing_rollback_pauses() -> None:
    toy = settled(3, failure_action="rollback")
    toy.bad |= {toy.revision, toy.image("web:bad")}
    run(toy, 200)
    assert toy.state == "rollback_paused"
    assert progressing(toy)[1] == "RollbackPaused"
    assert len(toy.running()) == 2
    toy.bad.clear()
    toy.resume()
    toy.converge()
    assert toy.state == "rollback_completed"


def test_without_a_revision_to_go_back_to_it_pauses() -> None:
    toy = settled(2, failure_action="rollback")
    first = toy.revision
    toy.image("web:2")
    toy.bad.add(toy.revision)
    toy.step()
    del toy.revisions[first]
    run(toy, 30)
    assert toy.state == "paused"
    assert "there is no revision to go back to" in progressing(toy)[2]


def test_a_rollback_has_its_own_pace() -> None:
    toy = settled(6, failure_action="rollback", parallelism=6, max_failure_ratio=0.9)
    toy.service.spec.rollback = UpdatePolicy(parallelism=2)
    toy.bad.add(toy.image("web:bad"))
    while toy.state != "rollback_started":
        toy.step(pace=1.0)
    toy.bad.clear()
    back = toy.decide()
    assert len(back.create) + len(back.update) <= 2


def test_going_back_by_hand_is_a_rollback() -> None:
    toy = settled(3)
    first = toy.revision
    toy.image("web:2")
    toy.converge()
    toy.image("web:1")
    toy.service.metadata.annotations[UNDONE_TO] = first
    toy.step()
    assert toy.state == "rollback_started"
    toy.converge()
    assert toy.state == "rollback_completed"
    assert revisions(toy) == [first] * 3
    assert progressing(toy)[1] == "Complete"
    # The mark is of that one change.
    toy.image("web:3")
    toy.step()
    assert toy.state == "updating"


def test_the_revision_to_go_back_to_is_kept_however_many_fail() -> None:
    toy = settled(1)
    first = toy.revision
    for number in range(KEPT_REVISIONS + 3):
        toy.bad.add(toy.image(f"web:bad{number}"))
        run(toy, 10)
    assert first in toy.revisions


# Pause


def test_spec_paused_holds_updates_and_nothing_else() -> None:
    toy = settled(3)
    first = toy.revision
    toy.hold(True)
    new = toy.image("web:2")
    toy.fail()
    toy.scale(4)
    run(toy, 60)
    assert toy.state == "paused"
    assert revisions(toy) == [first] * 4
    assert "spec.paused is true" in progressing(toy)[2]
    toy.hold(False)
    toy.converge()
    assert toy.state == "completed"
    assert revisions(toy) == [new] * 4


def test_resuming_ends_one_halt_not_the_next() -> None:
    toy = settled(4)
    toy.bad.add(toy.image("web:bad"))
    run(toy, 60)
    assert toy.state == "paused"
    toy.resume()
    toy.step()
    assert toy.state == "updating"
    run(toy, 400)
    assert toy.state == "paused"
    run(toy, 100)
    assert toy.state == "paused"
    toy.bad.clear()
    toy.resume()
    toy.converge()
    assert toy.state == "completed"


def test_resuming_does_not_wait_for_the_next_try() -> None:
    toy = settled(2)
    toy.service.spec.restart = RestartPolicy(delay="1h")
    bad = toy.image("web:bad")
    toy.bad.add(bad)
    run(toy, 60)
    assert toy.state == "paused"
    assert toy.decide().create == []
    toy.resume()
    assert [task.spec.revision for task in toy.decide().create] == [bad]


# Whatever happens


@settings(max_examples=60, deadline=None)
@given(
    seeds, st.integers(1, 8), st.sampled_from([1, 2, 4, "25%"]), st.booleans(), shares,
    st.sampled_from(["pause", "rollback"]), st.sampled_from(["0s", "10s"]),
)  # fmt: skip
def test_stop_first_keeps_all_but_its_parallelism_up(
    seed: int, replicas: int, parallelism: int | str, bad: bool, share: float, action: str,
    monitor: str,
) -> None:  # fmt: skip
    toy = settled(
        replicas, seed=seed, parallelism=parallelism, failure_action=action, monitor=monitor
    )
    toy.service.spec.rollback = UpdatePolicy(parallelism=parallelism)
    first = toy.revision
    if bad:
        toy.bad.add(toy.image("web:2"))
    else:
        toy.image("web:2")
    at_once = parallelism if isinstance(parallelism, int) else max(1, replicas // 4)
    for _ in range(120):
        toy.step(share=share)
        assert toy.slots_up() >= replicas - at_once
    if bad and action == "pause":
        assert toy.state == "paused"
        return
    toy.converge(1000)
    assert toy.state == ("rollback_completed" if bad else "completed")
    assert revisions(toy) == [first if bad else toy.revision] * replicas


@settings(max_examples=60, deadline=None)
@given(
    seeds, st.integers(1, 6), st.integers(0, 4), st.booleans(), shares,
    st.sampled_from(["pause", "rollback", "continue"]), st.booleans(),
)  # fmt: skip
def test_start_first_keeps_all_up(
    seed: int, replicas: int, parallelism: int, bad: bool, share: float, action: str, undo: bool
) -> None:  # fmt: skip
    policy = UpdatePolicy(order="start-first", parallelism=parallelism, failure_action=action)
    toy = Toy(service(replicas, restart=DELAY, update=policy), seed=seed)
    back = "pause" if action == "rollback" else action
    toy.service.spec.rollback = UpdatePolicy(order="start-first", failure_action=back)
    toy.converge()
    first = toy.revision
    if bad:
        toy.bad.add(toy.image("web:2"))
    else:
        toy.image("web:2")
    for step in range(100):
        if undo and step == 20:
            toy.image("web:1")
            toy.service.metadata.annotations[UNDONE_TO] = first
        toy.step(share=share)
        assert toy.slots_up() == replicas


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 6), st.integers(0, 12), st.booleans(), shares)
def test_a_pause_really_pauses(
    seed: int, replicas: int, when: int, by_hand: bool, share: float
) -> None:
    toy = settled(replicas, seed=seed, parallelism=1)
    first = toy.revision
    new = toy.image("web:2")
    if by_hand:
        run(toy, when, share=share)
        toy.hold(True)
    else:
        toy.bad.add(new)
        while toy.state != "paused":
            toy.step(share=share)
    run(toy, 30)  # what was under way comes to an end
    old = {task.metadata.name for task in toy.running() if task.spec.revision == first}
    run(toy, 200, share=share)
    assert old == {task.metadata.name for task in toy.running() if task.spec.revision == first}
    assert not by_hand or toy.slots_up() == replicas
    toy.bad.clear()
    toy.resume()
    toy.converge_on()
    assert revisions(toy) == [new] * replicas


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(0, 3), st.sampled_from(["stop-first", "start-first"]))
def test_a_rollback_ends_in_the_old_revision(
    seed: int, replicas: int, parallelism: int, order: str
) -> None:
    toy = settled(
        replicas, seed=seed, failure_action="rollback", parallelism=parallelism, order=order
    )
    first = toy.revision
    toy.bad.add(toy.image("web:bad"))
    for _ in range(30):
        toy.step(share=toy.chance.choice([0.0, 0.3, 1.0]))
    toy.converge(1000)
    assert toy.state == "rollback_completed"
    assert revisions(toy) == [first] * replicas


@settings(max_examples=60, deadline=None)
@given(
    seeds, st.integers(1, 6), st.integers(1, 3), shares,
    st.sampled_from(["pause", "rollback", "continue"]), st.lists(st.integers(0, 40), max_size=5),
)  # fmt: skip
def test_whoever_leads_goes_on_where_it_was_left(
    seed: int, replicas: int, parallelism: int, share: float, action: str, changes: list[int]
) -> None:  # fmt: skip
    toy = settled(replicas, seed=seed, parallelism=parallelism, failure_action=action, monitor="3s")
    toy.service.spec.rollback = UpdatePolicy(parallelism=parallelism)
    first = toy.revision
    bad = toy.image("web:bad")
    toy.bad.add(bad)
    for step in range(150):
        if step in changes:
            toy.lead()
        toy.step(share=share)
        assert action == "continue" or toy.slots_up() >= replicas - parallelism
    run(toy, 200)
    expected = {"pause": "paused", "rollback": "rollback_completed", "continue": "completed"}
    assert toy.state == expected[action]
    if action == "rollback":
        assert revisions(toy) == [first] * replicas
    if action == "pause":
        assert set(revisions(toy)) <= {first}


def test_a_service_whose_tasks_come_to_an_end_is_updated_too() -> None:
    policy = RestartPolicy(condition="on-failure")
    toy = Toy(service(3, restart=policy))
    toy.converge()
    new = toy.image("web:2")
    for _ in range(100):
        toy.step()
        for task in toy.running():
            if task.spec.revision == new:
                toy.set_state(task.metadata.name, TaskState.COMPLETE)
    assert toy.state == "completed"
    assert toy.running() == []
