"""When a secret's versions go, and what a new one sets off: a whole cluster in virtual time."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.server.versions import new_version
from api.store.contract import Conflict, Write
from api.store.holders import held
from api.store.keys import payload_key
from api.types.kinds import REVISION, SECRET, SERVICE
from api.types.meta import Metadata
from api.types.revision import Revision, revision_name
from api.types.secret import Payload, Secret, SecretStatus
from api.types.service import UpdatePolicy
from api.types.task import Task, TaskState
from api.types.template import SecretMount, TaskTemplate
from tests.controllers.world import World, a_world, loop_clock, service

pytestmark = pytest.mark.looptime

QUICK = UpdatePolicy(parallelism=1, monitor="2s", failure_action="rollback")


def with_secret(on_change: str = "restart") -> TaskTemplate:
    return TaskTemplate(image="web:1", secrets=[SecretMount(name="db", on_change=on_change)])


async def put(world: World, value: str, *, keep: int = 1) -> None:
    """As the API's handlers and controllers do."""
    if world.cache.get(SECRET, "default", "db") is None:
        await world.put(
            Secret(metadata=Metadata(name="db", namespace="default", uid="s"), keep=keep)
        )
    while True:
        await world.caught_up()
        with contextlib.suppress(Conflict):  # a controller counted its users just now
            await world.truth.commit(await _writes(world, value))
            break
    await world.caught_up()


async def _writes(world: World, value: str) -> list[Write]:
    item = world.item(SECRET, "db")
    version = item.obj.status.version
    stored = await world.truth.get(payload_key("default", "db", version)) if version else None
    stored = stored or await world.truth.get(payload_key("default", "db"))
    old = None if stored is None else msgspec.json.decode(stored.value, type=Payload).data
    using = held(world.cache, "default", "db")
    return new_version(item, {"v": value.encode()}, old, loop_clock(), held=using)


async def kept(world: World) -> list[int]:
    """The versions whose bytes are there; they are those that the status says."""
    page = await world.truth.list("/skep/v1/payloads/default/db/")
    versions = [msgspec.json.decode(kv.value, type=Payload).version for kv in page.items]
    secret: Secret = world.item(SECRET, "db").obj
    assert versions == [known.version for known in secret.status.versions if known.kept]
    return versions


def given_to(world: World, task: Task) -> int:
    revision: Revision = world.item(REVISION, task.spec.revision).obj
    return revision.spec.version_of("db", world.item(SECRET, "db").obj.status.oldest)


def by_version(world: World) -> list[int]:
    return sorted(given_to(world, task) for task in world.running())


async def test_a_new_version_rolls_and_the_old_one_goes_with_its_last_task() -> None:
    async with a_world(2) as world:
        await put(world, "one")
        await world.put(service(replicas=3, template=with_secret(), update=QUICK))
        await world.steady(3)
        await put(world, "two")
        assert await kept(world) == [1, 2], "tasks hold the first"
        await world.until(lambda: by_version(world) == [1, 1, 2])
        assert await kept(world) == [1, 2]
        await world.until(lambda: by_version(world) == [2, 2, 2])
        await world.until(lambda: world.update_state() == "completed")
        await world.pause(5)
        assert await kept(world) == [2]
        assert world.item(SECRET, "db").obj.status.used_by == 1


async def test_a_version_that_fails_goes_back_to_one_that_stays_for_it() -> None:
    async with a_world(2) as world:
        await put(world, "one")
        await world.put(service(replicas=2, template=with_secret(), update=QUICK))
        await world.steady(2)

        def fails_with_two(task: Task, _revision: str) -> TaskState:
            return TaskState.FAILED if given_to(world, task) == 2 else TaskState.RUNNING

        world.behave = fails_with_two
        await put(world, "bad")
        await world.until(lambda: world.update_state() == "rollback_completed")
        assert by_version(world) == [1, 1]
        await world.pause(60)
        assert await kept(world) == [1, 2]
        await put(world, "good")
        await world.until(lambda: by_version(world) == [3, 3])
        await world.until(lambda: world.update_state() == "completed")
        await world.pause(5)
        assert await kept(world) == [3]


async def test_a_status_says_which_versions_it_is_about() -> None:
    """A secret's new version leaves the service's generation: who waits can't tell by that."""
    async with a_world(2) as world:
        await put(world, "one")
        await world.put(service(replicas=2, template=with_secret(), update=QUICK))
        await world.steady(2)
        assert world.service("web").status.observed_secrets == {"db": 1}
        await put(world, "two")
        await world.until(lambda: world.service("web").status.observed_secrets == {"db": 2})
        assert world.update_state() == "updating", "nothing that is said is of the version before"
        await world.until(lambda: world.update_state() == "completed")
        assert by_version(world) == [2, 2]
        assert world.service("web").status.observed_secrets == {"db": 2}


async def test_what_follows_its_secret_is_not_replaced() -> None:
    async with a_world(1) as world:
        await put(world, "one")
        await world.put(service(replicas=2, template=with_secret("none")))
        await world.steady(2)
        before = {task.metadata.uid for task in world.running()}
        await put(world, "two")
        await world.pause(30)
        assert {task.metadata.uid for task in world.running()} == before


async def test_a_new_version_during_a_roll_supersedes_it_and_controllers_may_die() -> None:
    async with a_world(2) as world:
        await put(world, "one")
        await world.put(service(replicas=3, template=with_secret(), update=QUICK))
        await world.steady(3)
        await put(world, "two")
        await world.until(lambda: 2 in by_version(world))
        await world.restart()
        await put(world, "three")
        await world.restart()
        await world.until(lambda: by_version(world) == [3, 3, 3])
        await world.steady(3)
        await world.pause(5)
        assert await kept(world) == [3]


async def test_an_upgrade_restarts_nothing() -> None:
    """What an earlier skep stored: one payload without a version's key, tasks that say none."""
    async with a_world(1) as world:
        was = SecretStatus(version=4, sizes={"v": 1})
        await world.put(
            Secret(metadata=Metadata(name="db", namespace="default", uid="s"), status=was)
        )
        payload = msgspec.json.encode(Payload(data={"v": b"4"}, version=4))
        await world.truth.commit([Write(payload_key("default", "db"), payload)])
        await world.put(service(replicas=2, template=with_secret(), update=QUICK))
        await world.steady(2)
        before = {task.metadata.uid for task in world.running()}
        assert {task.spec.revision for task in world.running()} == {
            revision_name("web", with_secret())
        }
        await world.restart()
        await world.pause(30)
        assert {task.metadata.uid for task in world.running()} == before
        await put(world, "5")
        await world.until(lambda: by_version(world) == [5, 5])
        assert await kept(world) == [4, 5]


async def test_a_deleted_service_lets_go() -> None:
    async with a_world(1) as world:
        await put(world, "one")
        await world.put(service(template=with_secret()))
        await world.steady(1)
        await put(world, "two")
        await world.delete(SERVICE, "web")
        await world.until(lambda: world.cache.get(SERVICE, "default", "web") is None)
        await world.pause(5)
        assert await kept(world) == [2]
        assert world.item(SECRET, "db").obj.status.used_by == 0


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["set", "restart"]), st.floats(0, 8)), max_size=6),
    keep=st.integers(1, 3),
)
async def test_no_task_is_ever_without_its_version(
    steps: list[tuple[str, float]], keep: int
) -> None:
    """Whatever is set when, and whoever dies: what live tasks were given is there."""
    async with a_world(2) as world:
        await put(world, "0", keep=keep)
        await world.put(service(replicas=2, template=with_secret(), update=QUICK))
        await world.steady(2)
        for number, (step, seconds) in enumerate(steps, 1):
            if step == "set":
                await put(world, str(number))
            else:
                await world.restart()
            await world.pause(seconds)
            there = await kept(world)
            assert {given_to(world, task) for task in world.tasks() if task.live} <= set(there)
        newest = world.item(SECRET, "db").obj.status.version
        await world.until(lambda: by_version(world) == [newest, newest])
        await world.until(lambda: world.update_state() in ("", "completed"))
        await world.pause(5)
        newest = world.item(SECRET, "db").obj.status.version
        assert await kept(world) == list(range(max(1, newest - keep + 1), newest + 1))
