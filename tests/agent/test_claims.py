"""What has a name is in one container at a time, also where managers say it is free already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.types.task import TaskState
from api.types.template import Device, TaskTemplate
from controllers.agent.claims import Claims
from controllers.agent.drivers.engine import answers
from controllers.agent.drivers.engine.box import box
from controllers.agent.drivers.simulated import Behaviour
from tests.agent.managers import Machine, machine

pytestmark = pytest.mark.looptime

SLOW = Behaviour(stop_seconds=5.0)
G1 = ("gpu", "G1")


def test_one_after_the_other() -> None:
    claims = Claims()
    claims.take("a", [G1, ("gpu", "G2")])
    claims.take("a", [G1, ("gpu", "G2")])
    assert claims.other("a", [G1]) is None
    assert claims.other("b", [("modem", "G1"), G1]) == (G1, "a")
    assert claims.release("a")
    assert not claims.release("a")
    assert claims.other("b", [G1]) is None


def test_an_engine_says_each_named_one_apart() -> None:
    """As `dockerd --node-generic-resource gpu=GPU-1 …` says it, 20.10."""
    said: list[dict[str, Any]] = [
        {"NamedResourceSpec": {"Kind": "gpu", "Value": "GPU-1"}},
        {"NamedResourceSpec": {"Kind": "gpu", "Value": "GPU-2"}},
        {"DiscreteResourceSpec": {"Kind": "licence", "Value": 3}},
    ]
    assert answers.generic(said) == {"gpu": ["GPU-1", "GPU-2"], "licence": 3}
    assert answers.generic([]) == {}


def test_paths_are_devices_and_other_names_go_to_the_engines_driver() -> None:
    template = TaskTemplate(image="x", devices=[Device(resource="gpu", permissions="rw")])
    made = box(template, {"gpu": ["/dev/gpu0", "GPU-1", "GPU-2"]})
    assert made["Devices"] == [
        {
            "PathOnHost": "/dev/gpu0",
            "PathInContainer": "/dev/gpu0",
            "CgroupPermissions": "rw",
        }
    ]
    assert made["DeviceRequests"] == [
        {"Driver": "", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]]}
    ]
    assert box(template, {}).keys().isdisjoint({"Devices", "DeviceRequests"})
    with pytest.raises(ValueError, match="gpu is a number on this node"):
        box(template, {"gpu": 2})


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine(tmp_path, SLOW) as it:
        yield it


async def test_the_next_waits_for_a_container_that_still_ends(node: Machine) -> None:
    first = node.managers.add(generic={"gpu": ["G1"]})
    await asyncio.sleep(1)
    node.managers.delete(first)
    second = node.managers.add(generic={"gpu": ["G1"]})
    await asyncio.sleep(3)
    assert node.managers.words(second).startswith("waiting for gpu G1, which task ")
    assert list(node.engine.containers) == [first]
    await asyncio.sleep(5)
    assert list(node.engine.containers) == [second]
    assert node.managers.state(second) is TaskState.RUNNING


async def test_also_for_one_of_which_nothing_but_its_container_is_known(node: Machine) -> None:
    first = node.managers.add(generic={"gpu": ["G1"]})
    await asyncio.sleep(1)
    await node.kill_agent()
    node.managers.delete(first)
    second = node.managers.add(generic={"gpu": ["G1"]})
    node.start_agent()
    await asyncio.sleep(3)
    assert node.managers.words(second) == f"waiting for gpu G1, which task {first} still has"
    await asyncio.sleep(6)
    assert node.managers.state(second) is TaskState.RUNNING
    assert list(node.engine.containers) == [second]


async def test_what_was_given_to_two_runs_in_one(node: Machine) -> None:
    first = node.managers.add(generic={"gpu": ["G1"]})
    await asyncio.sleep(1)
    second = node.managers.add(generic={"gpu": ["G1"]})
    await asyncio.sleep(5)
    assert node.managers.state(first) is TaskState.RUNNING
    assert node.managers.state(second) is TaskState.REJECTED
    assert "it was given gpu G1, which task " in node.managers.words(second)
