"""Schedules: each time has one run, whatever becomes of managers and clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.cron import Cron
from api.types.job import Schedule
from api.types.task import TaskState
from controllers.orchestrator.agenda import MOST_RUNS
from tests.orchestrator.jobtoy import JobToy
from tests.orchestrator.toy import EPOCH


def scheduled(expression: str = "*/10 * * * *", *, seed: int = 0, **job: Any) -> JobToy:
    names = ("time_zone", "concurrency", "starting_deadline", "suspend")
    schedule = Schedule(cron=expression, **{key: job.pop(key) for key in names if key in job})
    job = {"keep_succeeded": 100, "keep_failed": 100, **job}
    toy = JobToy(schedule=schedule, seed=seed, **job)
    toy.service.metadata.creation_timestamp = EPOCH
    return toy


def at(hour: int, minute: int = 0, *, day: int = 1) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def times(toy: JobToy) -> list[datetime | None]:
    """What runs were for, the oldest first."""
    return [run.scheduled_at for run in reversed(toy.job.runs)]


def minutes(toy: JobToy, count: float) -> None:
    toy.passes(count * 60)


def hold(toy: JobToy) -> None:
    """From now on, tasks go on for ever."""
    toy.ending = 0


def test_it_runs_at_its_times_and_not_before() -> None:
    toy = scheduled()
    minutes(toy, 9)
    assert toy.job.runs == []
    assert toy.job.next_schedule_time == at(0, 10)
    assert toy.condition("Progressing").message == "the next run is at 2026-01-01T00:10:00Z"
    assert toy.condition("Complete").reason == "NoRun"
    minutes(toy, 22)
    assert times(toy) == [at(0, 10), at(0, 20), at(0, 30)]
    assert toy.job.last_schedule_time == at(0, 30)
    assert toy.job.next_schedule_time == at(0, 40)
    assert {run.cause for run in toy.job.runs} == {"Schedule"}
    starts = [run.started_at for run in reversed(toy.job.runs)]
    assert starts[0] is not None and starts[0] - at(0, 10) < timedelta(seconds=1)


def test_a_time_right_after_its_creation_is_not_missed() -> None:
    toy = scheduled()
    toy.service.metadata.creation_timestamp = at(0, 9)
    toy.now = at(0, 10) + timedelta(seconds=2)
    minutes(toy, 1)
    assert times(toy) == [at(0, 10)]


def test_a_manager_that_was_away_makes_up_for_the_latest_time_alone() -> None:
    toy = scheduled()
    minutes(toy, 11)
    toy.now = at(5, 3)
    toy.another_manager()
    minutes(toy, 1)
    assert times(toy) == [at(0, 10), at(5, 0)]


def test_but_not_later_than_its_starting_deadline() -> None:
    toy = scheduled(starting_deadline="2m")
    minutes(toy, 11)
    toy.now = at(5, 3)
    minutes(toy, 1)
    assert times(toy) == [at(0, 10)]
    assert toy.notes.count("RunMissed") == 1
    toy.now = at(6, 1)
    minutes(toy, 1)
    assert times(toy) == [at(0, 10), at(6, 0)]


def test_allow_runs_both() -> None:
    toy = scheduled()
    hold(toy)
    minutes(toy, 35)
    assert [run.active for run in toy.job.runs] == [1, 1, 1]


def test_a_job_that_hangs_does_not_fill_its_status_with_runs() -> None:
    toy = scheduled("* * * * *")
    hold(toy)
    minutes(toy, MOST_RUNS + 20)
    assert len(toy.job.runs) == MOST_RUNS
    for task in toy.of(1):
        toy.end(task, TaskState.COMPLETE)
    minutes(toy, 2)
    assert toy.job.last_run == MOST_RUNS + 1


def test_forbid_waits_and_makes_up_for_the_latest_time() -> None:
    toy = scheduled(concurrency="forbid")
    hold(toy)
    minutes(toy, 35)
    assert times(toy) == [at(0, 10)]
    toy.ending = 1
    minutes(toy, 4)
    assert times(toy) == [at(0, 10), at(0, 30)]


def test_forbid_leaves_out_what_its_deadline_is_over_for() -> None:
    toy = scheduled(concurrency="forbid", starting_deadline="1m")
    hold(toy)
    minutes(toy, 35)
    toy.ending = 1
    minutes(toy, 10)
    assert times(toy) == [at(0, 10), at(0, 40)]
    assert toy.notes.count("RunMissed") == 2


def test_replace_ends_the_earlier_run_first() -> None:
    toy = scheduled(concurrency="replace")
    hold(toy)
    minutes(toy, 11)
    toy.now = at(0, 20)
    toy.carry_out(toy.decide())
    assert [(run.number, run.reason) for run in toy.job.runs] == [(2, ""), (1, "Replaced")]
    toy.carry_out(toy.decide())
    assert [task.spec.run for task in toy.live()] == [1]
    minutes(toy, 2)
    assert [task.spec.run for task in toy.live()] == [2]


def test_suspended_it_starts_nothing_and_makes_up_for_nothing() -> None:
    toy = scheduled()
    minutes(toy, 11)
    assert toy.service.spec.schedule is not None
    toy.service.spec.schedule.suspend = True
    minutes(toy, 60)
    assert toy.job.next_schedule_time is None
    assert toy.condition("Progressing").reason == "Suspended"
    toy.service.spec.schedule.suspend = False
    minutes(toy, 3)
    assert times(toy) == [at(0, 10)]
    minutes(toy, 10)
    assert times(toy) == [at(0, 10), at(1, 20)]


def test_a_new_schedule_counts_from_when_it_is_given() -> None:
    toy = scheduled("0 12 * * *")
    minutes(toy, 60)
    toy.service.spec.schedule = Schedule(cron="30 0 * * *")
    minutes(toy, 10)
    assert toy.job.runs == []
    assert toy.job.next_schedule_time == at(0, 30, day=2)


def test_a_restart_runs_it_now_and_the_schedule_goes_on() -> None:
    toy = scheduled()
    minutes(toy, 3)
    toy.force()
    minutes(toy, 2)
    assert [run.cause for run in toy.job.runs] == ["Restart"]
    minutes(toy, 6)
    assert [run.cause for run in toy.job.runs] == ["Schedule", "Restart"]


def test_a_restart_runs_it_while_it_is_suspended() -> None:
    toy = scheduled(suspend=True)
    minutes(toy, 3)
    toy.force()
    minutes(toy, 30)
    assert [run.cause for run in toy.job.runs] == ["Restart"]


def test_a_request_waits_for_the_run_under_way_with_forbid() -> None:
    toy = scheduled("@daily", concurrency="forbid")
    hold(toy)
    minutes(toy, 1)
    toy.force()
    minutes(toy, 1)
    toy.force()
    minutes(toy, 1)
    assert len(toy.job.runs) == 1
    toy.ending = 1
    minutes(toy, 3)
    assert [run.result for run in toy.job.runs] == ["Complete", "Complete"]


def test_what_a_new_manifest_says_of_force_update_is_no_request() -> None:
    toy = scheduled()
    toy.force()
    toy.force()
    minutes(toy, 5)
    assert toy.job.runs == []


def test_a_change_of_the_template_waits_for_the_next_time() -> None:
    toy = scheduled()
    minutes(toy, 11)
    toy.image("web:2")
    minutes(toy, 5)
    assert len(toy.job.runs) == 1
    minutes(toy, 6)
    assert toy.run.revision == toy.revision != toy.job.runs[1].revision


def test_finished_runs_of_a_schedule_go_when_their_time_is_over_and_the_job_stays() -> None:
    toy = scheduled("@daily", ttl_after_finish="1h")
    toy.now = at(23, 59)
    minutes(toy, 5)
    assert toy.run.result == "Complete"
    minutes(toy, 70)
    assert toy.job.runs == [] and not toy.tasks
    assert toy.condition("Complete").status == "True"
    assert toy.service.metadata.deletion_timestamp is None
    toy.now = at(0, 0, day=3)
    minutes(toy, 1)
    assert toy.run.number == 2


def test_a_clock_that_is_set_back_runs_nothing_again() -> None:
    toy = scheduled()
    minutes(toy, 21)
    toy.now = at(0, 5)
    minutes(toy, 20)
    assert times(toy) == [at(0, 10), at(0, 20)]
    minutes(toy, 6)
    assert times(toy) == [at(0, 10), at(0, 20), at(0, 30)]


def test_a_clock_that_was_years_ahead_does_not_stop_the_schedule() -> None:
    toy = scheduled()
    toy.now = datetime(2036, 1, 1, 0, 1, tzinfo=UTC)
    minutes(toy, 5)
    assert len(toy.job.runs) == 1
    toy.now = at(3)
    minutes(toy, 11)
    assert times(toy)[1:] == [at(3, 10)]


stories = st.lists(
    st.tuples(
        st.sampled_from(["pass", "pass", "away", "ahead", "back", "manager", "crash"]),
        st.integers(1, 4000),  # seconds
    ),
    min_size=1,
    max_size=8,
)
expressions = st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "13,44 */2 * * *"])
deadlines = st.sampled_from(["", "1m", "10m"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), stories, expressions, deadlines)
def test_no_time_has_two_runs_and_none_is_missed(
    seed: int, story: list[tuple[str, int]], expression: str, deadline: str
) -> None:
    toy = scheduled(expression, seed=seed, starting_deadline=deadline)
    toy.ending = 1
    cron = Cron(expression)
    allowed = {"": None, "1m": 60, "10m": 600}[deadline]
    furthest = EPOCH  # where the clock has been
    fired: list[datetime] = []
    expected: list[datetime] = []
    recorded = 0

    def look(share: float = 1.0) -> float:
        """A manager's look; what it has to have begun goes by a model that remembers all."""
        nonlocal furthest, recorded
        wait = 1.0
        for _ in range(20):  # all the crashes that there may be
            decision = toy.step(0, share=share, pace=1)
            wait = decision.requeue_after or 60.0
            if toy.job.last_run > recorded:
                recorded = toy.job.last_run
                assert toy.run.scheduled_at is not None and toy.run.started_at is not None
                fired.append(toy.run.scheduled_at)
            if not decision.record:
                break
        due = cron.latest(furthest, toy.now)
        if due is not None and (allowed is None or (toy.now - due).total_seconds() <= allowed):
            expected.append(due)
        furthest = max(furthest, toy.now)
        return wait

    look()
    for what, seconds in story:
        if what in ("away", "ahead"):
            toy.now += timedelta(seconds=seconds)
        elif what == "back":
            toy.now -= timedelta(seconds=seconds)
        elif what == "manager":
            toy.another_manager()
        else:
            end = toy.now + timedelta(seconds=seconds)
            while toy.now < end:
                wait = look(0.4 if what == "crash" else 1.0)
                toy.now = min(end, toy.now + timedelta(seconds=max(wait, 0.001)))
        look()
    assert fired == expected
    assert fired == sorted(set(fired))


@pytest.mark.parametrize("stride", [1, 7, 61, 3601])
def test_a_decision_says_when_to_look_again_so_that_none_is_late(stride: int) -> None:
    toy = scheduled("*/10 * * * *")
    toy.passes(3 * 3600, stride)
    late = [
        (run.started_at - run.scheduled_at).total_seconds()
        for run in toy.job.runs
        if run.started_at is not None and run.scheduled_at is not None
    ]
    assert len(late) == 17
    assert max(late) < 1
