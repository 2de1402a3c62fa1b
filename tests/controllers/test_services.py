"""A service's life through all controllers: made, scaled, updated, broken, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from api.store.cache import CacheEvent
from api.types.kinds import REVISION, SERVICE, TASK
from api.types.service import RestartPolicy, Service, ServiceStatus, UpdatePolicy
from api.types.task import Task, TaskState
from controllers.orchestrator.services import COUNTS_GAP, TURN_GAP
from tests.controllers.world import a_world, service


async def test_replicas_run_and_are_spread() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=6))
        await world.steady(6)
        assert [world.on(f"n{number}") for number in (1, 2, 3)] == [2, 2, 2]
        assert sorted(task.spec.slot for task in world.tasks()) == [1, 2, 3, 4, 5, 6]
        assert world.condition("Available") == ("True", "TasksRunning", "6/6 running")
        assert len(world.cache.by(REVISION, "service", "default/web")) == 1


async def test_a_killed_task_is_replaced_after_the_delay() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=2, restart=RestartPolicy(delay="3s")))
        await world.steady(2)
        victim = world.running()[0]
        await world.kill(victim)
        await world.until(lambda: "137" in world.condition("Available")[2], 2)
        await world.until(lambda: len(world.running()) == 2, 5)
        new = next(t for t in world.running() if t.spec.slot == victim.spec.slot)
        old = next(t for t in world.tasks() if t.metadata.uid == victim.metadata.uid)
        assert new.spec.restarts == 1
        assert old.status.since and new.metadata.creation_timestamp
        waited = (new.metadata.creation_timestamp - old.status.since).total_seconds()
        assert 3 <= waited < 3.5


async def test_what_tasks_wait_for_is_said() -> None:
    async with a_world(2) as world:
        world.alive.clear()
        await world.put(service(replicas=1))
        await world.pause(5)
        name = world.tasks()[0].metadata.name
        words = "waiting for secret default/door, which does not exist"
        report = world.report(world.item(TASK, name), TaskState.PREPARING, message=words)
        await world.truth.commit([report])
        await world.pause(5)
        assert world.condition("Available")[2] == f"0/1 running; {name}: {words}"


async def test_scaling_down_and_up() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=5))
        await world.steady(5)

        def replicas(count: int) -> Callable[[Service], None]:
            def change(found: Service) -> None:
                found.spec.replicas = count

            return change

        await world.change(SERVICE, "web", replicas(2))
        await world.steady(2)
        assert len(world.tasks()) == 2
        await world.change(SERVICE, "web", replicas(4))
        await world.steady(4)
        await world.change(SERVICE, "web", replicas(0))
        await world.steady(0)
        assert world.condition("Available")[0] == "True"


async def test_an_update_replaces_every_task_one_at_a_time() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=4))
        await world.steady(4)
        fewest = 4

        def look(_events: object) -> None:
            nonlocal fewest
            fewest = min(fewest, len(world.running()))

        world.cache.listen(look, kinds={TASK})

        def new_image(found: Service) -> None:
            found.spec.template.image = "web:2"

        await world.change(SERVICE, "web", new_image)
        await world.steady(4)
        assert fewest == 3
        revision = world.service().status.revision
        assert {task.spec.revision for task in world.running()} == {revision}


async def test_a_broken_revision_stops_at_the_first_task() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=4, restart=RestartPolicy(delay="1s")))
        await world.steady(4)
        good = world.service().status.revision
        world.behave = lambda _task, revision: (
            TaskState.RUNNING if revision == good else TaskState.FAILED
        )

        def new_image(found: Service) -> None:
            found.spec.template.image = "web:broken"

        await world.change(SERVICE, "web", new_image)
        await world.until(lambda: len(world.tasks("web", TaskState.FAILED)) >= 4)
        assert sum(task.spec.revision == good for task in world.running()) == 3
        assert "exit code 1" in world.condition("Available")[2]

        def back(found: Service) -> None:
            found.spec.template.image = "web:1"

        await world.change(SERVICE, "web", back)
        await world.steady(4)


async def test_start_first_never_goes_below() -> None:
    async with a_world(3) as world:
        await world.put(
            service(replicas=3, update=UpdatePolicy(order="start-first", parallelism=0))
        )
        await world.steady(3)
        fewest = 3

        def look(_events: object) -> None:
            nonlocal fewest
            slots = {t.spec.slot for t in world.running()}
            fewest = min(fewest, len(slots))

        world.cache.listen(look, kinds={TASK})

        def new_image(found: Service) -> None:
            found.spec.template.image = "web:2"

        await world.change(SERVICE, "web", new_image)
        await world.steady(3)
        assert fewest == 3


async def test_max_attempts_are_kept_and_said() -> None:
    async with a_world(1) as world:
        world.behave = lambda _task, _revision: TaskState.FAILED
        await world.put(service(replicas=1, restart=RestartPolicy(delay="1s", max_attempts=7)))
        await world.until(lambda: world.condition("Progressing")[1] == "CrashLoop")
        assert "in a row ended so, the next try is at 2026-" in world.condition("Available")[2]
        await world.until(lambda: world.condition("Progressing")[1] == "RestartsExhausted", 200)
        newest = max(world.tasks(), key=lambda task: task.spec.restarts)
        assert newest.spec.restarts == 7
        assert "restart.maxAttempts is 7" in world.condition("Available")[2]


async def test_history_is_five_tasks_a_slot() -> None:
    async with a_world(1) as world:
        world.behave = lambda _task, _revision: TaskState.FAILED
        await world.put(service(replicas=2, restart=RestartPolicy(delay="1s")))
        await world.until(
            lambda: all(t.spec.restarts > 2 for t in world.tasks()) and bool(world.tasks()), 300
        )

        def over(slot: int) -> list[Task]:
            return [t for t in world.tasks() if t.spec.slot == slot and not t.live]

        await world.until(lambda: len(over(1)) <= 5 and len(over(2)) <= 5)
        assert len(over(1)) >= 4


async def test_on_failure_leaves_a_completed_task() -> None:
    async with a_world(1) as world:
        world.behave = lambda _task, _revision: TaskState.COMPLETE
        await world.put(service(replicas=1, restart=RestartPolicy(condition="on-failure")))
        await world.until(lambda: world.condition("Progressing")[1] == "RestartsExhausted")
        assert len(world.tasks()) == 1


async def test_counts_are_told_seldom_and_a_turn_at_once() -> None:
    """A hundred replicas that come up one after the other are not a hundred statuses."""
    async with a_world(3) as world:
        world.alive.clear()  # it is said below when they run
        told: list[tuple[float, ServiceStatus]] = []
        loop = asyncio.get_running_loop()

        def heard(events: Sequence[CacheEvent]) -> None:
            statuses = [event.item.obj.status for event in events]
            told.extend((loop.time(), status) for status in statuses)

        world.cache.listen(heard, kinds={SERVICE})
        await world.put(service(replicas=100))
        await world.until(lambda: len(world.tasks("web", TaskState.ASSIGNED)) == 100)
        await world.pause(1)
        told.clear()
        for task in world.tasks():
            item = world.item(TASK, task.metadata.name)
            await world.truth.commit([world.report(item, TaskState.RUNNING)])
            await world.pause(0.05)
        ended = loop.time()
        await world.steady(100)
        times = [at for at, _ in told]
        assert len(times) <= 100 * 0.05 / COUNTS_GAP + 2
        complete = next(at for at, status in told if status.running == 100)
        assert complete <= ended + TURN_GAP


async def test_deleting_leaves_nothing() -> None:
    async with a_world(2) as world:
        await world.put(service(replicas=4))
        await world.steady(4)
        await world.delete(SERVICE, "web")
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)
        assert world.tasks() == []
        assert world.cache.items(REVISION) == []


async def test_a_global_service_has_a_task_a_node() -> None:
    async with a_world(3) as world:
        await world.put(service(mode="global"))
        await world.steady(3)
        assert [world.on(f"n{number}") for number in (1, 2, 3)] == [1, 1, 1]


async def test_two_managers_do_no_harm() -> None:
    async with a_world(3, managers=2) as world:
        await world.put(service(replicas=10))
        await world.steady(10)
        await world.kill(world.running()[0])

        def new_image(found: Service) -> None:
            found.spec.template.image = "web:2"
            found.spec.replicas = 6

        await world.change(SERVICE, "web", new_image)
        await world.steady(6, seconds=200)
        await world.delete(SERVICE, "web")
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)


async def test_a_failing_update_goes_back_by_itself_whoever_leads() -> None:
    async with a_world(3) as world:
        update = UpdatePolicy(failure_action="rollback", parallelism="50%", monitor="2s")
        await world.put(service(replicas=4, update=update))
        await world.steady(4)
        good = world.service().status.revision
        world.behave = lambda _task, revision: (
            TaskState.RUNNING if revision == good else TaskState.FAILED
        )

        def new_image(found: Service) -> None:
            found.spec.template.image = "web:2"

        await world.change(SERVICE, "web", new_image)
        await world.until(lambda: world.update_state() == "updating")
        await world.restart()
        await world.until(lambda: world.update_state() == "rollback_started")
        await world.restart()
        await world.until(lambda: world.update_state() == "rollback_completed")
        assert [task.spec.revision for task in world.running()] == [good] * 4
        assert world.service().spec.template.image == "web:2"
        status, reason, message = world.condition("Progressing")
        assert (status, reason) == ("False", "RolledBack")
        assert f"all tasks run revision {good} again" in message
        await world.until(lambda: bool(world.events("RollbackCompleted")))
        assert [event.count for event in world.events("RollbackCompleted")] == [1]


async def test_paused_and_resumed_by_the_spec() -> None:
    async with a_world(3) as world:
        await world.put(service(replicas=2, update=UpdatePolicy(monitor="0s")))
        await world.steady(2)
        good = world.service().status.revision

        def change(found: Service) -> None:
            found.spec.template.image = "web:2"
            found.spec.paused = True

        await world.change(SERVICE, "web", change)
        await world.until(lambda: world.update_state() == "paused")
        await world.pause(120)
        assert [task.spec.revision for task in world.running()] == [good] * 2

        def resume(found: Service) -> None:
            found.spec.paused = False

        await world.change(SERVICE, "web", resume)
        await world.until(lambda: world.update_state() == "completed")
        assert good not in {task.spec.revision for task in world.running()}
