"""Jobs through all controllers: a run and its end, schedules, managers that come and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from api.types.job import JobPolicy, JobStatus, Schedule
from api.types.kinds import NODE, SERVICE
from api.types.meta import Object
from api.types.service import RestartPolicy, Service
from api.types.task import Task, TaskState
from tests.controllers.faulty import Faulty
from tests.controllers.world import EPOCH, World, a_world, node, service


def job(
    mode: str = "replicated-job", schedule: Schedule | None = None, **policy: object
) -> Service:
    return service(
        mode=mode,
        job=JobPolicy(**policy),  # type: ignore[arg-type]
        schedule=schedule,
        restart=RestartPolicy(delay="1s", max_delay="1s"),
    )


def status(world: World) -> JobStatus:
    return world.service().status.job or JobStatus()


def over(world: World, result: str, runs: int = 1) -> Callable[[], bool]:
    def reached() -> bool:
        job = status(world)
        return len(job.runs) == runs and [run.result for run in job.runs[:1]] == [result]

    return reached


def completes(_task: Task, _revision: str) -> TaskState:
    return TaskState.COMPLETE


def forced(found: Service) -> None:
    found.spec.template.force_update += 1


async def test_a_job_completes_and_nothing_is_left_running() -> None:
    async with a_world(3) as world:
        world.behave = completes
        await world.put(job(completions=5, parallelism=2))
        await world.until(over(world, "Complete"))
        assert len(world.tasks("web", TaskState.COMPLETE)) == 5
        await world.pause(30)
        assert len(world.tasks()) == 5
        assert world.condition("Complete") == ("True", "Succeeded", "run 1: 5/5 completed")
        assert [event.message for event in world.events("RunStarted")] == [
            "started a run: the job is new"
        ]
        assert len(world.events("RunComplete")) == 1


async def test_a_job_that_keeps_failing_says_why() -> None:
    async with a_world(1) as world:
        world.behave = lambda _task, _revision: TaskState.FAILED
        await world.put(job(backoff_limit=7))
        await world.until(over(world, "Failed"))
        failed = world.condition("Failed")
        assert failed[:2] == ("True", "BackoffLimitExceeded")
        assert "8 tasks failed" in failed[2] and "exit code 1" in failed[2]


async def test_a_restart_and_a_manager_that_dies_make_one_run() -> None:
    async with a_world(2) as world:
        world.behave = completes
        await world.put(job(completions=3))
        await world.until(over(world, "Complete"))
        await world.change(SERVICE, "web", forced)
        await world.restart()
        await world.until(over(world, "Complete", runs=2))
        await world.restart()
        await world.pause(10)
        assert len(status(world).runs) == 2
        assert len(world.tasks("web", TaskState.COMPLETE)) == 6


async def test_two_managers_start_each_time_once() -> None:
    async with a_world(2, managers=2) as world:
        world.behave = completes
        await world.put(job(schedule=Schedule(cron="* * * * *"), keep_succeeded=50))
        await world.pause(3 * 60 + 30)
        times = [run.scheduled_at for run in status(world).runs]
        assert times == [EPOCH + timedelta(minutes=minute) for minute in range(3, 0, -1)]
        assert {run.result for run in status(world).runs} == {"Complete"}


@pytest.mark.parametrize("seed", range(4))
async def test_a_store_that_fails_by_chance_makes_each_run_once(seed: int) -> None:
    async with a_world(
        2, store=lambda inner: Faulty(inner, rate=0.25, seed=seed), managers=1 + seed % 2
    ) as world:
        world.behave = completes
        await world.put(job(completions=4, parallelism=2))
        await world.until(over(world, "Complete"), 3600)
        await world.change(SERVICE, "web", forced)
        await world.until(over(world, "Complete", runs=2), 3600)
        await world.pause(60)
        assert [run.number for run in status(world).runs] == [2, 1]
        slots = sorted((task.spec.run, task.spec.slot) for task in world.tasks())
        assert slots == [(run, slot) for run in (1, 2) for slot in (1, 2, 3, 4)]


@pytest.mark.parametrize("seconds", [0.0, 0.011, 0.02, 0.05, 0.1, 0.2])
async def test_a_manager_that_dies_anywhere_is_followed_by_one_that_goes_on(
    seconds: float,
) -> None:
    async with a_world(2) as world:
        world.behave = completes
        await world.put(job(completions=6, parallelism=3))
        for _ in range(3):
            await world.pause(seconds)
            await world.restart()
        await world.until(over(world, "Complete"))
        assert len(world.tasks()) == 6


async def test_a_schedule_goes_on_after_the_manager_was_away() -> None:
    async with a_world(1) as world:
        world.behave = completes
        await world.put(job(schedule=Schedule(cron="* * * * *")))
        await world.pause(61)

        async def time_passes(world: World) -> None:
            await world.pause(300)

        await world.restart(time_passes)
        await world.until(over(world, "Complete", runs=2))
        times = [run.scheduled_at for run in status(world).runs]
        assert times == [EPOCH + timedelta(minutes=6), EPOCH + timedelta(minutes=1)]


async def test_a_global_job_comes_to_nodes_that_join() -> None:
    async with a_world(2) as world:
        world.behave = completes
        await world.put(job("global-job"))
        await world.until(over(world, "Complete"))
        joining: Object = node("n9")
        assert isinstance(joining, type(world.item(NODE, "n1").obj))
        await world.join(joining)
        await world.until(lambda: status(world).runs[0].succeeded == 3)
        assert {task.spec.node for task in world.tasks()} == {"n1", "n2", "n9"}


async def test_a_finished_job_deletes_itself() -> None:
    async with a_world(1) as world:
        world.behave = completes
        await world.put(job(completions=2, ttl_after_finish="30s"))
        await world.until(over(world, "Complete"))
        await world.pause(25)
        assert world.cache.get(SERVICE, "default", "web") is not None
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)
        assert not world.tasks()


async def test_deleting_a_job_stops_it() -> None:
    async with a_world(1) as world:
        await world.put(job(completions=2))
        await world.until(lambda: len(world.running()) == 2)
        await world.delete(SERVICE, "web")
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)
        assert not world.tasks()
