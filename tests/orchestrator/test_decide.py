"""Single decisions: what one look at a service leads to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from api.types.meta import condition
from api.types.service import Placement, RestartPolicy, UpdatePolicy
from api.types.task import Task, TaskState
from controllers.orchestrator.births import new_task
from controllers.orchestrator.decision import Decision, Observed
from controllers.orchestrator.restart import Policy, verdict
from tests.orchestrator.toy import EPOCH, Toy, service


def settled(replicas: int = 3, nodes: int = 3, **spec: Any) -> Toy:
    toy = Toy(service(replicas, **spec), nodes=nodes)
    toy.converge()
    return toy


def message(decision: Decision, kind: str) -> str:
    assert decision.status is not None
    found = condition(decision.status.conditions, kind)
    assert found is not None
    return f"{found.status} {found.reason}: {found.message}"


def test_a_new_service_gets_a_revision_and_its_slots() -> None:
    decision = Toy(service(3)).decide()
    assert decision.revision is not None
    assert decision.revision.spec.number == 1
    assert [task.spec.slot for task in decision.create] == [1, 2, 3]
    assert {task.spec.revision for task in decision.create} == {decision.revision.metadata.name}
    assert {task.status.state for task in decision.create} == {TaskState.PENDING}


def test_the_same_decision_makes_tasks_of_the_same_names() -> None:
    toy = Toy(service(3))
    first, second = toy.decide(), toy.decide()
    assert [t.metadata.name for t in first.create] == [t.metadata.name for t in second.create]
    assert first.create[0].metadata.uid != second.create[0].metadata.uid


def test_at_rest_nothing_is_decided() -> None:
    decision = settled().decide()
    assert not (decision.create or decision.update or decision.delete or decision.revision)
    assert decision.requeue_after is None
    assert message(decision, "Available") == "True TasksRunning: 3/3 running"
    assert message(decision, "Progressing").startswith("False Complete: all tasks run revision")


def test_names_are_labels_however_long_the_service() -> None:
    long = service(1)
    long.metadata.name = "w" * 63
    task = new_task(long, 12345, "r", None, EPOCH)
    assert len(task.metadata.name) == 63
    assert new_task(long, "node-1", "r", None, EPOCH).spec.node == "node-1"


def test_a_slot_stays_in_order_when_the_clock_goes_back() -> None:
    found = service(1)
    first = new_task(found, 1, "r", None, EPOCH)
    second = new_task(found, 1, "r", first, EPOCH - timedelta(hours=1))
    assert second.metadata.creation_timestamp is not None
    assert second.metadata.creation_timestamp > EPOCH
    assert first.metadata.name != second.metadata.name


def test_scaling_down_takes_what_does_not_run_first() -> None:
    toy = settled(4)
    idle = next(task for task in toy.tasks.values() if task.spec.slot == 2)
    toy.set_state(idle.metadata.name, TaskState.FAILED)
    toy.scale(3)
    decision = toy.decide()
    assert [task.spec.slot for task in decision.delete] == [2]
    assert decision.update == []


def test_scaling_down_takes_from_the_fullest_node() -> None:
    toy = Toy(service(5))
    for task in toy.decide().create:
        toy.tasks[task.metadata.name] = task
        task.spec.node = "n1" if task.spec.slot in (1, 2, 3) else "n2"
        task.status.state = TaskState.RUNNING
    toy.scale(3)
    decision = toy.decide()
    taken = [(task.spec.slot, desired) for task, desired in decision.update]
    # Node n1 has three: its highest goes; then both have two, and the higher slot is on n2.
    assert sorted(taken) == [(3, TaskState.REMOVE), (5, TaskState.REMOVE)]


def test_new_slots_take_the_lowest_free_numbers() -> None:
    toy = settled(3)
    toy.set_state(
        next(t.metadata.name for t in toy.tasks.values() if t.spec.slot == 1), TaskState.FAILED
    )
    toy.scale(2)
    toy.step()
    toy.scale(4)
    assert sorted(task.spec.slot for task in toy.decide().create) == [1, 4]


def test_an_update_does_not_exceed_its_parallelism() -> None:
    toy = settled(6, update=UpdatePolicy(parallelism=2))
    toy.image("web:2")
    decision = toy.decide()
    assert [desired for _, desired in decision.update] == [TaskState.SHUTDOWN] * 2


def test_parallelism_of_zero_is_all_at_once() -> None:
    toy = settled(6, update=UpdatePolicy(parallelism=0))
    toy.image("web:2")
    assert len(toy.decide().update) == 6


def test_a_stopping_task_is_waited_for_but_not_for_ever() -> None:
    toy = settled(1)
    toy.image("web:2")
    toy.carry_out(toy.decide())
    waiting = toy.decide()
    assert waiting.create == []
    assert waiting.requeue_after == 60
    toy.now += timedelta(seconds=60)
    assert len(toy.decide().create) == 1


def test_tasks_that_never_found_a_node_are_swapped_at_once() -> None:
    toy = Toy(service(5), nodes=0)
    toy.step()
    new = toy.image("web:2")
    decision = toy.decide()
    assert len(decision.delete) == 5
    assert [task.spec.revision for task in decision.create] == [new] * 5


def test_a_task_off_its_constraints_is_moved_a_few_at_a_time() -> None:
    toy = settled(12, nodes=3)
    toy.service.spec.placement = Placement(constraints=["node.hostname != n0"])
    there = [task for task in toy.tasks.values() if task.spec.node == "n0"]
    assert len(there) > 1
    assert len(toy.decide().update) == 1


def test_ten_revisions_are_kept_and_those_in_use() -> None:
    toy = settled(1)
    for number in range(2, 15):
        toy.image(f"web:{number}")
        toy.converge()
    numbers = sorted(revision.spec.number for revision in toy.revisions.values())
    used = {task.spec.revision for task in toy.tasks.values()}
    newest = list(range(5, 15))
    assert set(newest) <= set(numbers)
    assert {r.metadata.name for r in toy.revisions.values() if r.spec.number < 5} <= used


def test_going_back_uses_the_old_revision_again() -> None:
    toy = settled(1)
    first = toy.revision
    toy.image("web:2")
    toy.converge()
    assert toy.image("web:1") == first
    assert toy.decide().revision is None


def test_deletion_asks_all_to_go_and_finishes_when_none_is_left() -> None:
    toy = settled(3)
    toy.service.metadata.deletion_timestamp = EPOCH
    decision = toy.decide()
    assert [desired for _, desired in decision.update] == [TaskState.REMOVE] * 3
    assert not decision.finished
    toy.tasks.clear()
    decision = toy.decide()
    assert decision.finished
    assert len(decision.drop) == 1


def test_a_broken_engine_is_looked_at_again_when_its_grace_ends() -> None:
    toy = settled(4, nodes=2)
    node = next(iter(toy.tasks.values())).spec.node
    there = [task for task in toy.tasks.values() if task.spec.node == node]
    toy.ready(node, "False")
    toy.now += timedelta(seconds=10)
    decision = toy.decide()
    assert decision.update == []
    assert decision.requeue_after == 20
    toy.now += timedelta(seconds=20)
    decision = toy.decide()
    assert len(decision.update) == len(decision.create) == len(there)


@pytest.mark.parametrize("ready", ["False", "Unknown"])
def test_tasks_of_a_lost_node_stay_where_no_other_could_take_them(ready: str) -> None:
    toy = settled(3, nodes=1)
    toy.ready("n0", ready)
    toy.now += timedelta(hours=1)
    decision = toy.decide()
    assert (decision.update, decision.create, decision.requeue_after) == ([], [], None)
    toy.scale(1)
    assert len(toy.decide().update) == 2, "who wants fewer need not wait for it"


# The restart policy


def ended(state: TaskState = TaskState.FAILED, *, restarts: int = 0, ago: float = 0.0) -> Task:
    made = EPOCH - timedelta(seconds=ago)
    task = new_task(service(1), 1, "web-1", None, made, restarts=restarts)
    task.status.state = state
    task.status.since = EPOCH
    return task


def judge(task: Task, history: tuple[Task, ...] = (), **policy: Any) -> Any:
    parsed = Policy.of(RestartPolicy(**policy))
    return verdict(parsed, task, (*history, task), Observed(), EPOCH)


@pytest.mark.parametrize(
    ("state", "condition", "replaced"),
    [
        (TaskState.FAILED, "any", True),
        (TaskState.COMPLETE, "any", True),
        (TaskState.FAILED, "on-failure", True),
        (TaskState.REJECTED, "on-failure", True),
        (TaskState.COMPLETE, "on-failure", False),
        (TaskState.FAILED, "none", False),
        (TaskState.ORPHANED, "none", True),
    ],
)
def test_the_condition(state: TaskState, condition: str, replaced: bool) -> None:
    assert (judge(ended(state), condition=condition).at is not None) is replaced


def test_the_delay_counts_from_the_end() -> None:
    assert judge(ended(), delay="7s").at == EPOCH + timedelta(seconds=7)


def test_an_agents_wrong_clock_neither_skips_the_delay_nor_draws_it_out() -> None:
    policy = Policy.of(RestartPolicy(delay="5s"))
    for wrong in (timedelta(hours=-3), timedelta(hours=3)):
        task = ended()
        task.status.since = EPOCH + wrong
        observed = Observed(ended={task.metadata.uid: EPOCH})
        at = verdict(policy, task, (task,), observed, EPOCH).at
        assert at == EPOCH + timedelta(seconds=5)
        unseen = verdict(policy, task, (task,), Observed(), EPOCH).at
        assert unseen == EPOCH + timedelta(seconds=5)


def test_attempts_are_counted_beyond_what_history_keeps() -> None:
    assert judge(ended(restarts=19), max_attempts=20).at is not None
    gone = judge(ended(restarts=20), max_attempts=20)
    assert (gone.at, gone.why) == (None, "restart.maxAttempts is 20")


def test_attempts_outside_the_window_do_not_count() -> None:
    history = tuple(ended(restarts=n, ago=100) for n in (1, 2, 3))
    assert judge(ended(restarts=4), history, max_attempts=2, window="1m").at is not None
    assert judge(ended(restarts=4), history, max_attempts=2, window="2m").at is None


def test_a_slot_that_gave_up_says_so_and_a_new_revision_tries_again() -> None:
    toy = Toy(service(1, restart=RestartPolicy(delay="1s", max_attempts=2)))
    toy.bad.add(toy.revision)
    for _ in range(40):
        toy.step()
    decision = toy.decide()
    assert decision.create == []
    assert "RestartsExhausted" in message(decision, "Progressing")
    assert "not started again: restart.maxAttempts is 2" in message(decision, "Available")
    toy.image("web:2")
    toy.converge()
    assert len(toy.running()) == 1
