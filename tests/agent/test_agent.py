"""The agent on a simulated engine, with managers that come and go, and hours that pass at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.types.task import TERMINAL, TaskState
from controllers.agent.drivers.contract import Phase
from controllers.agent.drivers.simulated import Behaviour
from tests.agent.managers import FOREVER, HEARTBEAT, Machine, machine

pytestmark = pytest.mark.looptime

QUIET = 120.0  # seconds in which all that can happen has
SLOW = Behaviour(pull_seconds=0.5, start_seconds=0.3, stop_seconds=0.2)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine(tmp_path) as it:
        yield it


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine(tmp_path, SLOW) as it:
        yield it


def states(node: Machine, uid: str) -> list[str]:
    """All states that were said of a task, in order."""
    said = [report.status.state for report in node.managers.said if report.uid == uid]
    return [state for number, state in enumerate(said) if said[:number][-1:] != [state]]


# A task's life.


async def test_a_task_runs_until_it_is_not_wanted(slow: Machine) -> None:
    uid = slow.managers.add()
    await asyncio.sleep(QUIET)
    assert states(slow, uid) == ["Preparing", "Ready", "Running"]
    status = slow.managers.tasks[uid].status
    assert status.container is not None
    assert status.container.id == slow.engine.containers[uid].id
    assert status.started_at is not None

    slow.managers.unwant(uid)
    await asyncio.sleep(QUIET)
    status = slow.managers.tasks[uid].status
    assert (status.state, status.message) == (TaskState.SHUTDOWN, "stopped")
    assert status.finished_at is not None
    assert slow.engine.containers[uid].phase is Phase.EXITED, "it is kept, for its output"
    slow.managers.delete(uid)
    await asyncio.sleep(QUIET)
    assert slow.engine.containers == {}


async def test_a_pull_is_said_while_it_goes_on(slow: Machine) -> None:
    uid = slow.managers.add()
    await asyncio.sleep(0.3)
    assert slow.managers.state(uid) is TaskState.PREPARING
    assert slow.managers.words(uid) == "pulling app:1"


@pytest.mark.parametrize(
    ("script", "template", "state", "words"),
    [
        ("sleep 1; exit 0", {}, TaskState.COMPLETE, "ended by itself, exit code 0"),
        ("sleep 1; exit 3", {}, TaskState.FAILED, "exit code 3"),
        (
            "tail /dev/zero",
            {"resources": {"limits": {"memory": "8Mi"}}},
            TaskState.FAILED,
            "out of memory: killed at its limit of 8Mi (exit code 137); "
            "raise resources.limits.memory, or use less",
        ),
        (
            FOREVER,
            {"healthcheck": {"command": ["sh", "-c", "echo it aches; exit 1"]}},
            TaskState.FAILED,
            "health check failed: it aches",
        ),
        (
            FOREVER,
            {"image": "absent:1"},
            TaskState.REJECTED,
            "no such image: absent:1; check the name",
        ),
        (
            FOREVER,
            {"command": ["no-such-command"]},
            TaskState.REJECTED,
            "it can't be started: image app:1 has no command no-such-command; "
            "check `command` and `args`, and that the program is in the image and on its PATH",
        ),
        (
            FOREVER,
            {"configs": [{"name": "there", "target": "../etc/passwd"}]},
            TaskState.REJECTED,
            "target '../etc/passwd' of config there is not a path for it",
        ),
    ],
)
async def test_why_a_task_ended(
    tmp_path: Path, script: str, template: dict[str, Any], state: TaskState, words: str
) -> None:
    behaviour = Behaviour(
        unknown_images=frozenset({"absent:1"}), unknown_commands=frozenset({"no-such-command"})
    )
    async with machine(tmp_path, behaviour) as node:
        node.managers.config("there")
        uid = node.managers.add(script, **template)
        await asyncio.sleep(QUIET)
        assert (node.managers.state(uid), node.managers.words(uid)) == (state, words)
        node.check()


async def test_a_port_of_another_task_is_named(node: Machine) -> None:
    ports = [{"target": 80, "published": 8080}]
    first = node.managers.add(ports=ports)
    await asyncio.sleep(1)
    second = node.managers.add(ports=ports)
    await asyncio.sleep(QUIET)
    assert node.managers.state(first) is TaskState.RUNNING
    assert node.managers.state(second) is TaskState.FAILED
    assert "port 8080/tcp of the node is taken by another container" in node.managers.words(second)


async def test_health_comes_before_running(node: Machine) -> None:
    uid = node.managers.add(healthcheck={"command": ["true"], "interval": "10s"})
    await asyncio.sleep(5)
    assert node.managers.state(uid) is TaskState.STARTING
    assert node.managers.words(uid) == "waiting for its health check"
    await asyncio.sleep(QUIET)
    assert node.managers.state(uid) is TaskState.RUNNING
    node.engine.sicken(uid, "it is tired")
    await asyncio.sleep(QUIET)
    assert node.managers.state(uid) is TaskState.FAILED
    assert node.managers.words(uid) == "health check failed: it is tired"


async def test_a_check_over_the_network_is_the_agents(node: Machine) -> None:
    uid = node.managers.add(healthcheck={"http": {"port": 80}, "interval": "10s", "retries": 2})
    await asyncio.sleep(0.5)
    assert node.managers.words(uid) == "waiting for its health check"
    assert not node.engine.containers[uid].serving
    await asyncio.sleep(QUIET)
    assert node.managers.state(uid) is TaskState.RUNNING
    assert node.engine.containers[uid].serving
    node.engine.silence(uid, "status 503")
    await asyncio.sleep(30)
    assert node.managers.state(uid) is TaskState.FAILED
    assert node.managers.words(uid) == "health check failed: status 503"
    container = node.managers.status(uid).container
    assert container is not None
    assert {(f.check, f.output) for f in container.check_failures} == {("health", "status 503")}


async def test_readiness_takes_traffic_away_and_nothing_else(node: Machine) -> None:
    uid = node.managers.add(readiness={"tcp": {"port": 80}, "interval": "5s", "retries": 2})
    await asyncio.sleep(0.5)
    assert node.managers.state(uid) is TaskState.STARTING
    await asyncio.sleep(QUIET)
    assert (node.managers.state(uid), node.managers.status(uid).ready) == (TaskState.RUNNING, True)
    node.engine.silence(uid, "too busy")
    await asyncio.sleep(30)
    assert (node.managers.state(uid), node.managers.status(uid).ready) == (TaskState.RUNNING, False)
    assert node.managers.words(uid) == "not ready, gets no traffic: too busy"
    assert not node.engine.containers[uid].serving
    node.engine.silence(uid, "")
    await asyncio.sleep(QUIET)
    assert node.managers.status(uid).ready
    assert node.engine.containers[uid].serving


async def test_a_task_leaves_before_it_is_stopped(node: Machine) -> None:
    """No traffic, a delay of 5 s, a command of 2 s, then the signal."""
    uid = node.managers.add(stopDelay="5s", preStop=["sleep", "2"], stopGracePeriod="20s")
    await asyncio.sleep(QUIET)
    assert node.engine.containers[uid].serving
    node.managers.unwant(uid)
    await asyncio.sleep(4)
    assert node.engine.containers[uid].phase is Phase.RUNNING
    assert not node.engine.containers[uid].serving
    assert not node.managers.status(uid).ready
    assert node.managers.words(uid).startswith("leaving: it gets no traffic, and 5 s")
    await node.kill_agent()
    node.start_agent()
    await asyncio.sleep(6.5)
    assert node.engine.containers[uid].phase is Phase.RUNNING, "the delay began anew"
    await asyncio.sleep(2)
    assert node.managers.state(uid) is TaskState.SHUTDOWN


async def test_a_command_before_the_signal_has_half_the_grace(node: Machine) -> None:
    uid = node.managers.add(preStop=["sleep", "100"], stopGracePeriod="10s")
    await asyncio.sleep(QUIET)
    node.managers.unwant(uid)
    await asyncio.sleep(4)
    assert node.engine.containers[uid].phase is Phase.RUNNING
    await asyncio.sleep(2)
    assert node.managers.state(uid) is TaskState.SHUTDOWN
    assert node.managers.words(uid) == (
        "stopped; its preStop command failed: sleep did not end within 5 s"
    )


async def test_a_command_may_say_who_is_ready(node: Machine) -> None:
    never = node.managers.add(readiness={"command": ["sh", "-c", "echo not yet; exit 1"]})
    soon = node.managers.add(readiness={"command": ["true"]})
    await asyncio.sleep(60)
    assert node.managers.state(never) is TaskState.STARTING
    assert node.managers.words(never) == "waiting for its readiness check: not yet"
    assert node.managers.status(soon).ready


async def test_a_task_waits_for_its_config_and_loses_it_at_its_end(node: Machine) -> None:
    uid = node.managers.add("sleep 60; exit 0", configs=[{"name": "late"}])
    await asyncio.sleep(QUIET)
    assert node.managers.state(uid) is TaskState.PREPARING
    assert node.managers.words(uid) == "waiting for config default/late, which does not exist"
    assert node.engine.containers == {}
    node.managers.config("late")
    await asyncio.sleep(30)
    assert node.managers.state(uid) is TaskState.RUNNING
    assert node.with_files() == {uid}
    await asyncio.sleep(QUIET)
    assert node.managers.state(uid) is TaskState.COMPLETE
    assert node.with_files() == set()


async def test_an_image_that_is_not_wanted_any_more_is_not_waited_for(tmp_path: Path) -> None:
    async with machine(tmp_path, Behaviour(pull_seconds=3600)) as node:
        uid = node.managers.add()
        await asyncio.sleep(10)
        node.managers.unwant(uid)
        await asyncio.sleep(1)
        assert node.managers.state(uid) is TaskState.SHUTDOWN
        assert node.managers.words(uid) == "never started"


async def test_an_image_is_given_up_once_however_often_it_is_said(tmp_path: Path) -> None:
    async with machine(tmp_path, Behaviour(pull_seconds=3600)) as node:
        uid = node.managers.add()
        await asyncio.sleep(10)
        node.managers.unwant(uid)
        node.managers.unwant(uid)
        node.managers.delete(uid)
        await asyncio.sleep(10)
        assert node.engine.containers == {}


async def test_somebody_removes_and_stops_containers(node: Machine) -> None:
    removed, killed, ended = (node.managers.add() for _ in range(3))
    await asyncio.sleep(1)
    node.engine.vanish(removed)
    node.engine.crash(killed, 137)
    node.engine.crash(ended, 0)
    await asyncio.sleep(1)
    assert node.managers.state(removed) is TaskState.FAILED
    words = "its container is gone: somebody or something else removed it"
    assert node.managers.words(removed) == words
    assert node.managers.words(killed) == "killed by SIGKILL (exit code 137)"
    assert node.managers.state(ended) is TaskState.COMPLETE
    node.check()


async def test_what_is_over_is_not_run_again_by_hand(node: Machine) -> None:
    """Its successor may run already."""
    uid = node.managers.add("exit 0")
    await asyncio.sleep(1)
    assert node.managers.state(uid) is TaskState.COMPLETE
    container = node.engine.containers[uid]
    container.course = node.engine.containers[uid].course.__class__((), None, 0, 0)
    await node.engine.start(container)
    assert uid in node.running()
    await asyncio.sleep(QUIET)
    assert uid not in node.running()
    node.check()


# Managers that go away.


async def test_without_managers_containers_run_on_and_ends_are_told_later(node: Machine) -> None:
    stays, ends = node.managers.add(), node.managers.add("sleep 60; exit 4")
    await asyncio.sleep(1)
    before = {uid: container.id for uid, container in node.engine.containers.items()}
    node.managers.go()
    await asyncio.sleep(3600)
    assert node.running() == {stays}
    node.managers.away = False
    await asyncio.sleep(10)
    assert node.managers.words(ends) == "exit code 4"
    assert node.managers.state(stays) is TaskState.RUNNING
    assert {uid: container.id for uid, container in node.engine.containers.items()} == before


async def test_what_was_decided_while_the_agent_heard_nothing_is_done(node: Machine) -> None:
    keep, stop, gone = (node.managers.add() for _ in range(3))
    await asyncio.sleep(1)
    node.managers.go()
    node.managers.unwant(stop)
    node.managers.delete(gone)
    new = node.managers.add()
    await asyncio.sleep(600)
    assert node.running() == {keep, stop, gone}
    node.managers.away = False
    await asyncio.sleep(10)
    assert node.running() == {keep, new}
    assert set(node.engine.containers) == {keep, stop, new}
    node.check()


async def test_a_task_that_was_given_up_is_ended_though_it_ran_well(node: Machine) -> None:
    uid = node.managers.add()
    await asyncio.sleep(1)
    node.managers.go()
    node.managers.give_up(uid)
    await asyncio.sleep(60)
    node.managers.away = False
    await asyncio.sleep(60)
    assert node.running() == set()
    assert node.managers.state(uid) is TaskState.ORPHANED


async def test_a_task_that_was_taken_away_and_comes_back(slow: Machine) -> None:
    """A manager that lags behind another sends less than there is, and then the rest."""
    uid = slow.managers.add("trap '' TERM; sleep 1000000", stopGracePeriod="20s")
    await asyncio.sleep(5)
    task = slow.managers.tasks[uid]
    slow.managers.delete(uid)
    await asyncio.sleep(5)  # it is being stopped
    slow.managers.tasks[uid] = task
    slow.managers._send(tasks=[task])
    await asyncio.sleep(QUIET)
    slow.check()
    assert slow.managers.state(uid) in TERMINAL, "the agent did not forget it"
    slow.managers.delete(uid)
    await asyncio.sleep(QUIET)
    assert slow.engine.containers == {}


async def test_heartbeats_go_on_at_the_pace_that_was_told(node: Machine) -> None:
    await asyncio.sleep(100)
    beats = node.managers.beats
    gaps = [later - earlier for earlier, later in itertools.pairwise(beats)]
    assert len(beats) >= 18
    assert all(0.9 * HEARTBEAT <= gap <= 1.1 * HEARTBEAT + 0.1 for gap in gaps)
    assert len(set(gaps)) > 1, "not all nodes at the same moment"
    assert len(node.managers.sessions) == 1


async def test_a_session_that_ended_is_opened_again(node: Machine) -> None:
    uid = node.managers.add()
    await asyncio.sleep(1)
    node.managers.end_session()
    await asyncio.sleep(3 * HEARTBEAT)
    assert len(node.managers.sessions) == 2
    await asyncio.sleep(1)
    node.managers.unwant(uid)
    await asyncio.sleep(5)
    assert node.managers.state(uid) is TaskState.SHUTDOWN


# Engines that go away.


async def test_a_lost_engine_is_said_of_the_node_and_not_of_its_tasks(node: Machine) -> None:
    uid = node.managers.add()
    await asyncio.sleep(1)
    (session,) = node.managers.sessions
    assert session.status.engine.ready
    said = len(node.managers.said)
    node.engine.fail("its disk is full")
    await asyncio.sleep(60)
    lost = node.managers.sessions[-1].status
    assert (lost.engine.ready, lost.engine.message) == (False, "its disk is full")
    assert lost.resources == session.status.resources, "it is described as it was"
    assert len(node.managers.said) == said
    assert len(node.managers.sessions) <= 3, "said once, not at every try"

    node.engine.recover()
    await asyncio.sleep(10)
    assert node.managers.sessions[-1].status.engine.ready
    assert node.managers.state(uid) is TaskState.RUNNING
    assert node.running() == {uid}


async def test_an_engine_that_returns_with_other_containers(node: Machine) -> None:
    kept, lost, ended = (node.managers.add() for _ in range(3))
    await asyncio.sleep(1)
    node.engine.fail("away")
    await asyncio.sleep(10)
    node.engine.vanish(lost)
    node.engine.crash(ended, 9)
    await node.plant("old")
    await node.plant("theirs", node="elsewhere")
    node.engine.recover()
    await asyncio.sleep(60)
    assert node.running() == {kept, "theirs"}, "what is ours without a task is ended"
    assert "old" not in node.engine.containers
    assert "gone" in node.managers.words(lost)
    assert node.managers.words(ended) == "exit code 9"
    del node.engine.containers["theirs"]
    node.check()


async def test_unknown_containers_wait_for_the_manager_s_word(tmp_path: Path) -> None:
    """Until a complete set has come nobody knows what is not wanted."""
    async with machine(tmp_path, agent=False) as node:
        await node.plant("unknown")
        node.managers.away = True
        node.start_agent()
        await asyncio.sleep(600)
        assert node.running() == {"unknown"}
        node.managers.away = False
        await asyncio.sleep(60)
        assert node.engine.containers == {}


async def test_what_is_found_without_a_task_has_the_grace_it_was_made_with(tmp_path: Path) -> None:
    async with machine(tmp_path, agent=False) as node:
        await node.plant("unknown", "trap '' TERM; sleep 1000000", stopGracePeriod="90s")
        node.start_agent()
        await asyncio.sleep(80)
        assert node.running() == {"unknown"}
        await asyncio.sleep(20)
        assert node.engine.containers == {}


async def test_wanted_while_the_engine_was_away(node: Machine) -> None:
    await asyncio.sleep(1)
    node.engine.fail("away")
    new, never = node.managers.add(), node.managers.add()
    await asyncio.sleep(60)
    node.managers.unwant(never)
    await asyncio.sleep(1)
    node.engine.recover()
    await asyncio.sleep(10)
    assert node.running() == {new}
    assert (node.managers.state(never), node.managers.words(never)) == (
        TaskState.SHUTDOWN,
        "never started",
    )


async def test_a_container_that_can_t_be_stopped_is_tried_again_and_said(node: Machine) -> None:
    uid, gone = node.managers.add(), node.managers.add()
    await asyncio.sleep(1)
    node.engine.stuck = {uid: "its process hangs in the kernel", gone: "so does this"}
    node.managers.unwant(uid)
    node.managers.delete(gone)
    await asyncio.sleep(600)
    words = "it can't be stopped or removed: its process hangs in the kernel; trying again"
    assert node.managers.words(uid) == words
    assert node.running() == {uid, gone}
    node.engine.stuck = {}
    await asyncio.sleep(60)
    assert node.managers.state(uid) is TaskState.SHUTDOWN
    assert set(node.engine.containers) == {uid}


# Agents that are cut off.


@pytest.mark.parametrize("begun", ["wanted", "unwanted", "deleted"])
async def test_an_agent_cut_off_anywhere_is_followed_by_one_that_goes_on(
    tmp_path: Path, begun: str
) -> None:
    """At every tick of the clock, and some turns of the loop after it, in a task's making or
    ending: the next agent brings it to its end, and nothing is made twice."""
    for tick in range(0, 130, 2):
        turns = tick % 7
        behaviour = Behaviour(pull_seconds=0.3, start_seconds=0.3, stop_seconds=0.3)
        async with machine(tmp_path / str(tick), behaviour) as node:
            node.managers.config("there")
            if begun == "wanted":
                uid = node.managers.add(configs=[{"name": "there"}])
            else:
                uid = node.managers.add(configs=[{"name": "there"}])
                await asyncio.sleep(5)
                assert node.managers.state(uid) is TaskState.RUNNING
                node.managers.unwant(uid) if begun == "unwanted" else node.managers.delete(uid)
            await asyncio.sleep(tick / 100)
            for _ in range(turns):
                await asyncio.sleep(0)
            made = {uid: container.id for uid, container in node.engine.containers.items()}
            await node.kill_agent()
            await asyncio.sleep(tick % 3)
            node.start_agent()
            await asyncio.sleep(60)
            node.check()
            if begun == "wanted":
                assert node.running() == {uid}
                assert made.items() <= {u: c.id for u, c in node.engine.containers.items()}.items()
            elif begun == "deleted":
                assert node.engine.containers == {}


OPERATIONS = st.sampled_from(
    ["add", "add", "add needy", "add short", "unwant", "delete", "give up", "config", "cut",
     "end session", "managers go", "managers come", "engine fails", "engine comes", "crash",
     "vanish", "stuck", "kill agent", "restart agent"]
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    script=st.lists(
        st.tuples(OPERATIONS, st.integers(0, 99), st.sampled_from([0.0, 0.05, 0.4, 3.0])),
        max_size=25,
    )
)
async def test_whatever_happens_all_is_well_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int, float]]
) -> None:
    async with machine(tmp_path_factory.mktemp("any"), SLOW) as node:
        managers, engine = node.managers, node.engine
        for operation, number, seconds in script:
            uids = sorted(managers.tasks)
            uid = uids[number % len(uids)] if uids else ""
            match operation:
                case "add":
                    managers.add()
                case "add needy":
                    managers.add(configs=[{"name": "there"}])
                case "add short":
                    managers.add(f"sleep 1; exit {number % 2}")
                case "config":
                    managers.config("there")
                case "cut":
                    managers.cut()
                case "end session":
                    managers.end_session()
                case "managers go":
                    managers.go()
                case "managers come":
                    managers.away = False
                case "engine fails":
                    engine.fail("away")
                case "engine comes":
                    engine.recover()
                case "kill agent":
                    await node.kill_agent()
                case "stuck" if uid:
                    engine.stuck[uid] = "it hangs"
                case "restart agent":
                    await node.kill_agent()
                    node.start_agent()
                case "unwant" if uid:
                    managers.unwant(uid)
                case "delete" if uid:
                    managers.delete(uid)
                case "give up" if uid:
                    managers.give_up(uid)
                case "crash" if uid in engine.containers:
                    engine.crash(uid)
                case "vanish" if uid in engine.containers:
                    engine.vanish(uid)
            await asyncio.sleep(seconds)
        managers.away = False
        managers.config("there")
        engine.recover()
        engine.stuck.clear()
        await node.kill_agent()
        node.start_agent()
        await asyncio.sleep(QUIET)
        node.check()
