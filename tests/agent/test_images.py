"""Every task of a revision runs the same bits, found out once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.types.task import TaskState
from controllers.agent.drivers.engine.pulls import digest_of
from controllers.agent.drivers.simulated import Behaviour
from tests.agent.managers import Machine, machine

FIRST, OTHER = (f"sha256:{letter * 64}" for letter in "ab")
QUIET = 3.0

pytestmark = pytest.mark.looptime


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine(tmp_path, Behaviour(pull_seconds=0.5)) as it:
        it.engine.registry["app:1"] = FIRST
        yield it


def image(node: Machine, uid: str) -> str:
    """What its container was made of."""
    return node.engine.containers[uid].spec.template.image


async def test_a_node_asks_once_however_many_tasks(node: Machine) -> None:
    uids = [node.managers.add(revision="web-a") for _ in range(20)]
    await asyncio.sleep(QUIET)
    uids.append(node.managers.add(revision="web-a"))
    await asyncio.sleep(QUIET)
    assert [each.digest for each in node.managers.questions] == [FIRST]
    assert {image(node, uid) for uid in uids} == {f"app:1@{FIRST}"}
    container = node.managers.status(uids[0]).container
    assert container is not None
    assert container.digest == FIRST
    node.check()


async def test_the_tag_moves_and_the_revision_does_not(node: Machine) -> None:
    before = node.managers.add(revision="web-a", imagePull="always")
    await asyncio.sleep(QUIET)
    node.engine.registry["app:1"] = OTHER
    later = node.managers.add(revision="web-a", imagePull="always")
    anew = node.managers.add(revision="web-b", imagePull="always")
    await asyncio.sleep(QUIET)
    assert image(node, before) == image(node, later) == f"app:1@{FIRST}"
    assert image(node, anew) == f"app:1@{OTHER}"


async def test_who_was_not_the_first_runs_what_the_first_found(node: Machine) -> None:
    """Another node was first while this one pulled what the tag had come to be."""
    node.engine.registry["app:1"] = OTHER
    uid = node.managers.add(revision="web-a")
    await asyncio.sleep(0.4)
    node.managers.revisions["web-a"].status.digest = FIRST  # this node does not hear of it
    await asyncio.sleep(QUIET)
    assert [each.digest for each in node.managers.questions] == [OTHER]
    assert image(node, uid) == f"app:1@{FIRST}"


async def test_what_is_known_is_not_asked(node: Machine) -> None:
    node.engine.registry["app:1"] = OTHER
    uid = node.managers.add(revision="web-a")
    node.managers.agree("web-a", FIRST)
    await asyncio.sleep(QUIET)
    assert node.managers.questions == []
    assert image(node, uid) == f"app:1@{FIRST}"
    # The next agent goes on with it.
    await node.kill_agent()
    node.start_agent()
    later = node.managers.add(revision="web-a")
    await asyncio.sleep(QUIET)
    assert image(node, later) == f"app:1@{FIRST}"
    assert node.managers.questions == []


@pytest.mark.parametrize(
    ("image_name", "policy"),
    [("local:1", "ifNotPresent"), (f"app:1@{OTHER}", "always"), ("app:1", "never")],
)
async def test_what_has_no_digest_or_a_given_one_is_run_by_its_name(
    node: Machine, image_name: str, policy: str
) -> None:
    await node.engine.pull(image_name, lambda words: None)
    uids = [node.managers.add(image=image_name, imagePull=policy) for _ in range(2)]
    await asyncio.sleep(QUIET)
    assert {image(node, uid) for uid in uids} == {image_name}
    assert node.managers.questions == []


async def test_while_no_manager_can_tell_it_waits_and_says_so(node: Machine) -> None:
    node.managers.store_down = True
    uids = [node.managers.add(revision="web-a") for _ in range(2)]
    await asyncio.sleep(60)
    assert node.running() == set()
    assert any("which digest its image has" in node.managers.words(uid) for uid in uids)
    node.managers.unwant(uids[0])
    node.managers.store_down = False
    await asyncio.sleep(20)
    assert node.managers.state(uids[0]) is TaskState.SHUTDOWN
    assert node.managers.state(uids[1]) is TaskState.RUNNING
    node.check()


async def test_a_manager_of_an_earlier_version_is_no_obstacle(node: Machine) -> None:
    node.managers.earlier = True
    uid = node.managers.add()
    await asyncio.sleep(QUIET)
    assert node.managers.state(uid) is TaskState.RUNNING
    assert image(node, uid) == "app:1"


async def test_bits_that_the_registry_has_lost(tmp_path: Path) -> None:
    lost = Behaviour(unknown_images=frozenset({f"app:1@{FIRST}"}))
    async with machine(tmp_path, lost) as node:
        uid = node.managers.add(revision="web-a")
        node.managers.agree("web-a", FIRST)
        await asyncio.sleep(QUIET)
        assert node.managers.state(uid) is TaskState.REJECTED
        said = node.managers.words(uid)
        assert f"no such image: app:1@{FIRST}" in said
        assert "`ctl restart` the service, which takes what app:1 stands for now" in said


@pytest.mark.parametrize(
    ("name", "known", "digest"),
    [
        ("redis:7", ["redis@1", "r.example/redis@2"], "1"),
        ("docker.io/library/redis", ["redis@1"], "1"),
        ("r.example:5000/redis", ["redis@1", "r.example:5000/redis@2"], "2"),
        ("r.example:5000/redis:1", ["r.example:5000/redis@3", "r.example:5000/redis@2"], "2"),
        ("r.example:5000/redis:1@4", ["r.example:5000/redis@3"], "4"),
        ("mine:1", ["pushed.example/mine@1"], ""),
        ("mine:1", [], ""),
    ],
)
def test_the_digest_is_that_of_the_names_own_registry(
    name: str, known: list[str], digest: str
) -> None:
    assert digest_of(name, {"RepoDigests": known}) == digest
