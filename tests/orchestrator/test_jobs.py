"""Jobs: what a run of them does, told case by case; `test_job_properties` has the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.types.job import Schedule
from api.types.service import RestartPolicy
from api.types.task import TaskState
from tests.orchestrator.jobtoy import JobToy

COMPLETE, FAILED, RUNNING = TaskState.COMPLETE, TaskState.FAILED, TaskState.RUNNING


def begun(**job: object) -> JobToy:
    """A job whose first tasks run, and go on until they are ended by hand."""
    toy = JobToy(**job)  # type: ignore[arg-type]
    toy.ending = 0
    for _ in range(12):
        toy.step(0, pace=1)
    return toy


def test_a_run_is_on_record_before_it_has_a_task() -> None:
    toy = JobToy(completions=2)
    decision = toy.decide()
    assert decision.record
    assert decision.create == []
    assert decision.status is not None and decision.status.job is not None
    assert [run.number for run in decision.status.job.runs] == [1]
    toy.carry_out(decision)
    assert len(toy.decide().create) == 2


def test_all_slots_complete_once_and_stay() -> None:
    toy = JobToy(completions=5, parallelism=2)
    toy.settle()
    assert sorted(task.spec.slot for task in toy.of(1, COMPLETE)) == [1, 2, 3, 4, 5]
    assert (toy.run.result, toy.run.succeeded, toy.run.wanted) == ("Complete", 5, 5)
    assert toy.condition("Complete").status == "True"
    assert toy.condition("Complete").message == "run 1: 5/5 completed"
    assert toy.condition("Progressing").reason == "Complete"
    assert toy.run.finished_at is not None and toy.run.started_at is not None


def test_without_a_limit_all_start_at_once() -> None:
    assert len(begun(completions=7).live()) == 7


def test_what_happens_is_in_the_words_of_its_condition() -> None:
    toy = begun(completions=5, parallelism=3)
    toy.end(toy.of(1, RUNNING)[0], COMPLETE)
    toy.end(toy.of(1, RUNNING)[0], FAILED)
    toy.carry_out(toy.decide())
    toy.carry_out(toy.decide())
    said = toy.condition("Progressing")
    assert (said.status, said.reason) == ("True", "Running")
    assert said.message.startswith("run 1: 1/5 completed, ")
    assert ", 1 failed" in said.message


def test_a_failed_task_is_tried_again_after_the_delay() -> None:
    toy = begun(restart=RestartPolicy(delay="30s"))
    (task,) = toy.live()
    toy.end(task, FAILED)
    decision = toy.decide()
    assert decision.create == []
    assert decision.requeue_after == 30
    toy.now += timedelta(seconds=30)
    (again,) = toy.decide().create
    assert (again.spec.restarts, again.spec.slot, again.spec.run) == (1, 1, 1)


@pytest.mark.parametrize(("limit", "tasks"), [(0, 1), (2, 3)])
def test_the_backoff_limit_is_how_many_more_tries_there_are(limit: int, tasks: int) -> None:
    toy = JobToy(failing=1.0, backoff_limit=limit)
    toy.settle()
    assert len(toy.of(1, FAILED)) == tasks
    assert (toy.run.result, toy.run.reason) == ("Failed", "BackoffLimitExceeded")
    assert toy.condition("Failed").status == "True"
    assert f"job.backoffLimit is {limit}" in toy.condition("Failed").message


def test_failures_count_when_their_tasks_are_forgotten() -> None:
    toy = JobToy(failing=1.0, backoff_limit=12)
    toy.settle(1000)
    assert len(toy.of(1)) < 12  # history
    assert toy.run.failed == 13


def test_when_a_run_fails_the_rest_of_it_is_stopped() -> None:
    toy = begun(completions=4, backoff_limit=0)
    toy.end(toy.of(1, RUNNING)[0], FAILED)
    toy.settle()
    assert not toy.live()
    assert len(toy.of(1, TaskState.SHUTDOWN)) == 3


def test_a_slot_that_is_not_tried_again_fails_the_run() -> None:
    toy = JobToy(failing=1.0, completions=2, restart=RestartPolicy(condition="none"))
    toy.settle()
    assert toy.run.reason == "RestartsExhausted"
    assert "restart.condition is none" in toy.run.message


def test_the_deadline_ends_a_run() -> None:
    toy = begun(completions=2, deadline="1m")
    assert toy.decide().requeue_after == 60
    toy.now += timedelta(seconds=60)
    toy.settle()
    assert (toy.run.result, toy.run.reason) == ("Failed", "DeadlineExceeded")
    assert not toy.live()


def test_a_run_that_failed_stays_so_when_a_last_task_succeeds() -> None:
    toy = begun(deadline="1m")
    toy.now += timedelta(seconds=60)
    toy.carry_out(toy.decide())
    assert toy.run.reason == "DeadlineExceeded"
    toy.end(toy.live()[0], COMPLETE)
    toy.settle()
    assert toy.run.result == "Failed"
    assert toy.condition("Complete").status == "False"


def test_a_change_runs_it_again_when_the_old_tasks_have_stopped() -> None:
    toy = begun(completions=2)
    toy.image("web:2")
    toy.carry_out(toy.decide())
    assert [(run.number, run.reason) for run in toy.job.runs] == [(2, ""), (1, "Replaced")]
    assert toy.condition("Complete").status == "False"
    decision = toy.decide()
    assert len(decision.update) == 2
    assert decision.create == []
    toy.ending = 1
    toy.settle()
    assert len(toy.of(2, COMPLETE)) == 2
    assert {task.spec.revision for task in toy.of(2)} == {toy.revision}


def test_a_restart_runs_it_again() -> None:
    toy = JobToy(completions=2)
    toy.settle()
    toy.force()
    toy.settle()
    assert [run.result for run in toy.job.runs] == ["Complete", "Complete"]
    assert len(toy.of(2, COMPLETE)) == 2


def test_runs_beyond_the_history_are_forgotten_with_their_tasks() -> None:
    toy = JobToy(keep_succeeded=1, keep_failed=0)
    for _ in range(4):
        toy.settle()
        toy.force()
    toy.settle()
    assert [run.number for run in toy.job.runs] == [5, 4]
    assert {task.spec.run for task in toy.tasks.values()} == {5, 4}


def test_more_completions_are_run_while_it_is_under_way_and_fewer_end_the_rest() -> None:
    toy = begun(completions=3)
    toy.service.spec.job.completions = 5
    for _ in range(9):
        toy.step(0, pace=1)
    assert len(toy.live()) == 5
    toy.service.spec.job.completions = 2
    for _ in range(9):
        toy.step(0, pace=1)
    assert sorted(task.spec.slot for task in toy.live()) == [1, 2]


def test_a_drained_nodes_task_starts_anew_elsewhere_and_that_is_no_failure() -> None:
    toy = begun(completions=3, backoff_limit=0)
    there = {task.spec.node for task in toy.live()}
    toy.availability(there.pop(), "drain")
    toy.ending = 0.5
    toy.settle()
    assert (toy.run.result, toy.run.succeeded, toy.run.failed) == ("Complete", 3, 0)


def test_a_lost_nodes_task_is_replaced_at_once() -> None:
    toy = begun(parallelism=1)
    (task,) = toy.live()
    toy.ready(task.spec.node, "Unknown")
    decision = toy.decide()
    assert [told.metadata.name for told, _ in decision.update] == [task.metadata.name]
    assert len(decision.create) == 1


def test_a_finished_job_is_deleted_when_its_time_is_over() -> None:
    toy = JobToy(ttl_after_finish="10m")
    toy.settle()
    assert toy.decide().requeue_after is not None
    toy.now += timedelta(minutes=11)
    toy.carry_out(toy.decide())
    assert toy.service.metadata.deletion_timestamp is not None
    toy.step()
    assert not toy.tasks


# Global jobs


def test_a_global_job_runs_once_on_each_node_and_on_those_that_join() -> None:
    toy = JobToy(mode="global-job")
    toy.settle()
    assert sorted(task.spec.node for task in toy.of(1, COMPLETE)) == ["n0", "n1", "n2"]
    assert (toy.run.result, toy.run.succeeded, toy.run.wanted) == ("Complete", 3, 3)
    toy.join("n9")
    toy.settle()
    assert [task.spec.node for task in toy.of(1)].count("n9") == 1
    assert (toy.run.result, toy.run.succeeded, toy.run.wanted) == ("Complete", 4, 4)


def test_a_global_job_waits_for_its_first_node() -> None:
    toy = JobToy(mode="global-job", nodes=0)
    for _ in range(5):
        toy.step()
    assert toy.run.result == ""


def test_a_node_where_a_global_job_fails_does_not_keep_the_others_from_it() -> None:
    toy = JobToy(mode="global-job", backoff_limit=1)
    toy.ending = 0
    for _ in range(60):
        toy.step(pace=1)
        for task in toy.of(1, RUNNING):
            toy.end(task, FAILED if task.spec.node == "n1" else COMPLETE)
    toy.settle()
    assert (toy.run.reason, toy.run.succeeded, toy.run.failed) == ("BackoffLimitExceeded", 2, 2)
    assert "on node n1" in toy.run.message


def test_a_global_job_does_not_wait_for_a_lost_node_and_comes_to_it_later() -> None:
    toy = begun(mode="global-job")
    toy.ready("n1", "Unknown")
    toy.ending = 1
    toy.settle()
    assert (toy.run.result, toy.run.succeeded) == ("Complete", 2)
    toy.ready("n1", "True")
    toy.settle()
    assert toy.run.succeeded == 3
    assert len(toy.of(1)) == 3


def test_a_scheduled_global_job_leaves_a_node_that_joins_for_the_next_run() -> None:
    toy = JobToy(mode="global-job", schedule=Schedule(cron="@hourly"))
    toy.passes(4200)
    assert toy.run.result == "Complete"
    toy.join("n9")
    toy.passes(600)
    assert "n9" not in {task.spec.node for task in toy.tasks.values()}
    toy.passes(3600)
    assert "n9" in {task.spec.node for task in toy.of(2)}
