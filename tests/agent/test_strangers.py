"""Containers that somebody else made stay as they are, however much they look like ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controllers.agent.drivers.contract import NotFound, Refused
from tests.agent.ground import FOREVER, IMAGE, Ground, changes, docker, until

pytestmark = pytest.mark.engine


@pytest.fixture
async def ground(tmp_path: Path, busybox: None) -> AsyncIterator[Ground]:
    it = Ground("docker", tmp_path)
    try:
        yield it
    finally:
        await it.close()


def stranger(ground: Ground, name: str, image: str = IMAGE, **labels: str) -> str:
    """Its id."""
    words = [f"--label=strange={ground.cluster}"]
    words += [f"--label=dev.skep.{key.replace('_', '-')}={value}" for key, value in labels.items()]
    return docker("run", "-d", f"--name={name}", *words, image, "sh", "-c", FOREVER)


def runs(id: str) -> bool:
    return docker("inspect", "-f", "{{.State.Running}}", id) == "true"


async def test_a_copy_of_all_our_labels_is_not_ours(ground: Ground) -> None:
    spec = ground.spec(FOREVER)
    about = {
        "cluster": ground.cluster,
        "node": "here",
        "task": spec.task_uid,
        "task_name": spec.task_name,
        "namespace": spec.namespace,
        "service": spec.service,
    }
    name = f"{spec.namespace}.{spec.task_name}.{spec.task_uid[:8]}"
    theirs = stranger(ground, f"{name}-copy", **about)
    assert await ground.driver.containers() == []
    with pytest.raises(NotFound):
        await ground.driver.stop(spec.task_uid, grace=0)
    await ground.driver.remove(spec.task_uid)
    assert runs(theirs)

    ours = await ground.driver.create(spec)
    await ground.driver.start(spec.task_uid)
    assert ours.id != theirs
    (seen,) = await ground.driver.containers()
    assert seen.id == ours.id
    await ground.driver.remove(spec.task_uid)
    assert runs(theirs)


async def test_what_runs_from_an_image_of_our_container_is_not_ours(ground: Ground) -> None:
    """`docker commit` copies the labels into the image."""
    uid = await ground.start(FOREVER)
    (ours,) = await ground.driver.containers()
    image = docker("commit", ours.id)
    try:
        theirs = stranger(ground, f"debug-{uid[:8]}", image)
        assert [seen.id for seen in await ground.driver.containers()] == [ours.id]
        async with changes(ground.driver) as events:
            docker("kill", theirs)
            docker("start", theirs)
            docker("stop", "-t", "5", ours.id)
            await until(events, uid)
            assert (await ground.driver.inspect(uid)).id == ours.id
        await ground.peer().remove(uid)
        assert runs(theirs)
        docker("rm", "-f", theirs)
    finally:
        docker("rmi", "-f", image)


async def test_a_few_of_our_labels_do_no_harm(ground: Ground) -> None:
    theirs = stranger(ground, f"few-{ground.cluster[:8]}", cluster=ground.cluster, node="here")
    assert await ground.driver.containers() == []
    async with changes(ground.driver) as events:
        docker("kill", theirs)
        uid = await ground.start("exit 0")
        await until(events, uid)


async def test_our_name_taken_by_a_stranger_is_said_and_left_alone(ground: Ground) -> None:
    spec = ground.spec(FOREVER)
    name = f"{spec.namespace}.{spec.task_name}.{spec.task_uid[:8]}"
    theirs = stranger(ground, name)
    with pytest.raises(Refused, match=f"{name} is there already.*docker rm {name}"):
        await ground.driver.create(spec)
    await ground.driver.remove(spec.task_uid)
    assert runs(theirs)
    assert await ground.driver.containers() == []
