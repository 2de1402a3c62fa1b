"""What every driver promises of containers: one suite, each driver. The contract is in
`controllers/agent/drivers/contract.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from api.types.template import TcpCheck
from controllers.agent.drivers.contract import DriverError, NotFound, Phase, Refused
from tests.agent.ground import (
    ABSENT_COMMAND,
    ABSENT_IMAGE,
    FOREVER,
    IMAGE,
    Ground,
    changes,
    docker,
    until,
)

SOON = 10.0  # seconds; a clock that is shared may be read a little apart


async def test_it_knows_its_engine_and_machine(ground: Ground) -> None:
    info = await ground.driver.info()
    assert info.engine.driver == ground.kind == ground.driver.name
    assert info.engine.ready
    assert info.engine.version
    assert info.resources.cpus > 0
    assert info.resources.memory > 2**28
    assert (info.os, bool(info.architecture), bool(info.kernel)) == ("linux", True, True)


async def test_a_container_s_life(ground: Ground) -> None:
    spec = ground.spec(FOREVER)
    made = await ground.driver.create(spec)
    assert (made.task_uid, made.task_name) == (spec.task_uid, spec.task_name)
    assert (made.namespace, made.phase, made.pid) == ("default", Phase.CREATED, 0)
    assert made.started_at is None

    started = await ground.driver.start(spec.task_uid)
    assert (started.id, started.phase, started.exit_code) == (made.id, Phase.RUNNING, None)
    assert started.pid > 0
    assert started.finished_at is None
    assert started.started_at is not None
    assert abs(started.started_at - datetime.now(UTC)) < timedelta(seconds=SOON)

    assert await ground.driver.inspect(spec.task_uid) == started
    assert await ground.driver.containers() == [started]

    stopped = await ground.driver.stop(spec.task_uid, grace=SOON)
    assert (stopped.phase, stopped.exit_code, stopped.pid) == (Phase.EXITED, 0, 0)
    assert not stopped.oom_killed
    assert stopped.finished_at is not None
    assert stopped.finished_at >= started.started_at
    assert await ground.driver.containers() == [stopped]

    await ground.driver.remove(spec.task_uid)
    assert await ground.driver.containers() == []


async def test_everything_may_be_done_twice(ground: Ground) -> None:
    spec = ground.spec(FOREVER)
    made = await ground.driver.create(spec)
    assert await ground.driver.create(spec) == made
    started = await ground.driver.start(spec.task_uid)
    assert await ground.driver.start(spec.task_uid) == started
    assert await ground.driver.create(spec) == started, "made and running: found as it is"
    stopped = await ground.driver.stop(spec.task_uid, grace=1)
    assert await ground.driver.stop(spec.task_uid, grace=1) == stopped
    await ground.driver.remove(spec.task_uid)
    await ground.driver.remove(spec.task_uid)
    assert await ground.driver.containers() == []


async def test_everything_may_be_done_twice_at_once(ground: Ground) -> None:
    """An agent that was cut off may not know what is still under way."""
    spec = ground.spec(FOREVER)
    made = await asyncio.gather(*(ground.driver.create(spec) for _ in range(3)))
    assert len({container.id for container in made}) == 1
    started = await asyncio.gather(*(ground.driver.start(spec.task_uid) for _ in range(3)))
    assert len({container.pid for container in started}) == 1
    stopped = await asyncio.gather(*(ground.driver.stop(spec.task_uid, grace=5) for _ in range(3)))
    assert all(container.phase is Phase.EXITED for container in stopped)
    await asyncio.gather(*(ground.driver.remove(spec.task_uid) for _ in range(3)))
    assert await ground.driver.containers() == []


async def test_another_driver_goes_on_where_one_was_cut_off(ground: Ground) -> None:
    spec = ground.spec(FOREVER)
    made = await ground.driver.create(spec)
    await ground.driver.close()

    second = ground.peer()
    assert await second.containers() == [made]
    assert await second.create(spec) == made
    started = await second.start(spec.task_uid)
    await second.close()

    third = ground.peer()
    assert await third.inspect(spec.task_uid) == started, "found without having listed first"
    assert await third.start(spec.task_uid) == started
    await third.close()

    fourth = ground.peer()
    stopped = await fourth.stop(spec.task_uid, grace=5)
    assert (stopped.id, stopped.phase) == (made.id, Phase.EXITED)
    await fourth.remove(spec.task_uid)
    assert await fourth.containers() == []


async def test_what_is_not_there_is_not_found(ground: Ground) -> None:
    driver = ground.driver
    asked: list[Callable[[str], Awaitable[object]]] = [
        driver.inspect,
        driver.start,
        lambda uid: driver.stop(uid, grace=1),
        lambda uid: driver.signal(uid, "SIGHUP"),
        lambda uid: driver.exec(uid, ["true"], tty=False, stdin=False),
        lambda uid: anext(driver.logs(uid, follow=False, tail=None, since=None, timestamps=False)),
    ]
    for ask in asked:
        with pytest.raises(NotFound, match="no-such-task"):
            await ask("no-such-task")
    await driver.remove("no-such-task")


async def test_what_was_removed_behind_our_back_is_not_found(ground: Ground) -> None:
    uid = await ground.start()
    await ground.peer().remove(uid)
    with pytest.raises(NotFound):
        await ground.driver.start(uid)
    with pytest.raises(NotFound):
        await ground.driver.stop(uid, grace=1)
    with pytest.raises(NotFound):
        await ground.driver.inspect(uid)
    await ground.driver.remove(uid)


async def test_a_running_container_is_removed_at_once(ground: Ground) -> None:
    uid = await ground.start("trap '' TERM; sleep 100000")
    start = time.monotonic()
    await ground.driver.remove(uid)
    assert time.monotonic() - start < SOON
    assert await ground.driver.containers() == []


async def test_a_container_that_was_never_started_can_be_stopped_and_removed(
    ground: Ground,
) -> None:
    spec = ground.spec()
    await ground.driver.create(spec)
    assert (await ground.driver.stop(spec.task_uid, grace=1)).phase is not Phase.RUNNING
    await ground.driver.remove(spec.task_uid)
    assert await ground.driver.containers() == []


# Ends.


async def test_the_grace_it_was_made_with_is_known_to_whoever_finds_it(ground: Ground) -> None:
    """Its task may be forgotten when it is to be ended: the agent was away."""
    uid = await ground.start(stopGracePeriod="1m30s")
    (found,) = await ground.peer().containers()
    assert (found.task_uid, found.grace) == (uid, 90)


async def test_the_stop_signal_is_obeyed(ground: Ground) -> None:
    uid = await ground.start("trap 'exit 7' TERM; sleep 100000 & wait")
    start = time.monotonic()
    stopped = await ground.driver.stop(uid, grace=60)
    assert time.monotonic() - start < SOON
    assert stopped.exit_code == 7


@pytest.mark.parametrize("grace", [0.0, 0.3, 1.0])
async def test_what_does_not_obey_is_killed_after_its_grace(ground: Ground, grace: float) -> None:
    uid = await ground.start("trap '' TERM; sleep 100000")
    start = time.monotonic()
    stopped = await ground.driver.stop(uid, grace=grace)
    assert grace <= time.monotonic() - start < grace + SOON
    assert (stopped.phase, stopped.exit_code, stopped.oom_killed) == (Phase.EXITED, 137, False)


async def test_a_stop_goes_on_though_who_asked_for_it_is_gone(ground: Ground) -> None:
    uid = await ground.start("trap '' TERM; sleep 100000")
    async with changes(ground.peer()) as events:
        stopping = asyncio.create_task(ground.driver.stop(uid, grace=1))
        await asyncio.sleep(0.4)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        assert (await ground.driver.inspect(uid)).phase is Phase.RUNNING
        async with asyncio.timeout(30):
            while (await ground.driver.inspect(uid)).phase is Phase.RUNNING:
                await until(events, uid)
    assert (await ground.driver.inspect(uid)).exit_code == 137


async def test_a_little_grace_is_not_none(ground: Ground) -> None:
    """Engines that count in whole seconds must not round it away."""
    uid = await ground.start("trap 'exit 0' TERM; sleep 100000 & wait")
    assert (await ground.driver.stop(uid, grace=0.4)).exit_code == 0


@pytest.mark.parametrize("code", [0, 1, 77])
async def test_exit_codes(ground: Ground, code: int) -> None:
    uid = await ground.start(f"exit {code}")
    over = await ground.until_over(uid)
    assert (over.phase, over.exit_code, over.oom_killed) == (Phase.EXITED, code, False)
    assert over.finished_at is not None
    assert over.started_at is not None
    assert over.finished_at >= over.started_at


async def test_out_of_memory(ground: Ground) -> None:
    limits = {"limits": {"memory": "16Mi"}}
    uid = await ground.start("tail", "/dev/zero", resources=limits)
    over = await ground.until_over(uid)
    assert (over.exit_code, over.oom_killed) == (137, True)


async def test_health(ground: Ground) -> None:
    def check(command: list[str]) -> dict[str, object]:
        return {"command": command, "interval": "300ms", "timeout": "10s", "retries": 2}

    well = ground.spec(healthcheck=check(["true"]))
    ill = ground.spec(healthcheck=check(["sh", "-c", "echo it aches; exit 1"]))
    mute = ground.spec(healthcheck=check(["false"]))
    none = ground.spec(healthcheck={**check(["false"]), "disable": True})
    wanted = {well.task_uid: "healthy", ill.task_uid: "unhealthy", mute.task_uid: "unhealthy"}
    async with changes(ground.driver) as events, asyncio.timeout(60):
        for spec in (well, ill, mute, none):
            await ground.driver.create(spec)
            started = await ground.driver.start(spec.task_uid)
            if spec is not none:
                assert started.health in ("starting", wanted[spec.task_uid])
        while wanted:
            uid = await anext(events)
            seen = await ground.driver.inspect(uid)
            if seen.health == wanted.get(uid):
                del wanted[uid]
    assert (await ground.driver.inspect(well.task_uid)).health_output == ""
    assert (await ground.driver.inspect(ill.task_uid)).health_output == "it aches"
    assert (await ground.driver.inspect(mute.task_uid)).health_output == "exit code 1"
    assert (await ground.driver.inspect(none.task_uid)).health == ""


# Refusals.


async def test_an_image_that_is_nowhere_is_refused(ground: Ground) -> None:
    with pytest.raises(Refused, match=ABSENT_IMAGE):
        await ground.driver.pull(ABSENT_IMAGE, lambda words: None)
    with pytest.raises(Refused, match=ABSENT_IMAGE):
        await ground.driver.create(ground.spec(image=ABSENT_IMAGE))
    assert await ground.driver.containers() == []


async def test_a_command_that_is_not_in_the_image_is_refused_in_words(ground: Ground) -> None:
    spec = ground.spec(ABSENT_COMMAND, "--at", "all")
    await ground.driver.create(spec)
    with pytest.raises(Refused) as refused:
        await ground.driver.start(spec.task_uid)
    text = str(refused.value)
    assert f"has no command {ABSENT_COMMAND}" in text
    assert spec.template.image in text
    assert "check `command`" in text
    assert "OCI" not in text
    seen = await ground.driver.inspect(spec.task_uid)
    assert (seen.phase is not Phase.RUNNING, bool(seen.error)) == (True, True)


async def test_a_port_that_another_container_has_is_named(ground: Ground, port: int) -> None:
    published = [{"target": 80, "published": port}]
    uid = await ground.start(ports=published)
    (has,) = (await ground.driver.inspect(uid)).ports
    assert (has.target, has.published, has.protocol) == (80, port, "tcp")

    second = ground.spec(ports=published)
    await ground.driver.create(second)
    with pytest.raises(DriverError) as taken:
        await ground.driver.start(second.task_uid)
    assert f"port {port}/tcp" in str(taken.value)
    assert "another container" in str(taken.value)

    await ground.driver.stop(uid, grace=1)
    assert (await ground.driver.start(second.task_uid)).phase is Phase.RUNNING, "it is free again"


async def test_a_port_that_is_not_given_is_chosen(ground: Ground) -> None:
    uid = await ground.start(ports=[{"target": 80}, {"target": 80, "protocol": "udp"}])
    ports = (await ground.driver.inspect(uid)).ports
    assert [(port.target, port.protocol) for port in ports] == [(80, "tcp"), (80, "udp")]
    assert all(port.published >= 1024 for port in ports)


# Whose they are.


async def test_it_lists_only_its_own_cluster_s_and_node_s(ground: Ground) -> None:
    mine = await ground.start()
    drivers = [ground.peer(node="there"), ground.peer(cluster="0" * 32)]
    for driver in drivers:
        assert await driver.containers() == []
        with pytest.raises(NotFound):
            await driver.inspect(mine)
        with pytest.raises(NotFound):
            await driver.stop(mine, grace=0)
        await driver.remove(mine)
    (left,) = await ground.driver.containers()
    assert (left.task_uid, left.phase) == (mine, Phase.RUNNING)


async def test_an_image_that_must_not_be_pulled_has_to_be_there(ground: Ground) -> None:
    with pytest.raises(Refused, match=r"skep/absent:1 is not on .*node.*imagePull is never"):
        await ground.driver.pull("skep/absent:1", lambda words: None, "never")
    await ground.driver.pull(IMAGE, lambda words: None)
    await ground.driver.pull(IMAGE, lambda words: None, "never")


# Checks from outside, and who gets traffic.


async def test_a_probe_finds_who_listens_and_never_raises_for_who_does_not(ground: Ground) -> None:
    uid = await ground.start()
    running = await ground.driver.inspect(uid)
    if ground.kind == "simulated":
        ground.engine.silence(uid, "connection refused: nothing listens there")
    refused = await ground.driver.probe(running, TcpCheck(port=80), 10)
    assert not refused.passed
    assert "nothing listens there" in refused.output
    if ground.kind == "simulated":
        ground.engine.silence(uid, "")
    else:
        docker("exec", running.id, "httpd", "-p", "80", "-h", "/tmp")
    assert (await ground.driver.probe(running, TcpCheck(port=80), 10)).passed
    over = await ground.driver.stop(uid, grace=0)
    assert not (await ground.driver.probe(over, TcpCheck(port=80), 10)).passed


async def test_traffic_may_be_given_and_taken_at_any_time(ground: Ground) -> None:
    """Before it is there, twice, and after its end: nothing happens."""
    uid = await ground.start()
    for serving in (False, True, True, False):
        ground.driver.serve(uid, serving)
    ground.driver.serve("nobody", True)
    await ground.driver.stop(uid, grace=0)
    ground.driver.serve(uid, False)
    await ground.driver.remove(uid)
    ground.driver.serve(uid, False)
