"""Images from real registries: with and without a password, and what is said where it fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from controllers.agent.drivers.contract import Phase, Refused
from controllers.agent.drivers.docker import DEFAULT_SOCKET
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.drivers.engine.pulls import Pulls
from tests.agent.ground import IMAGE, PATIENCE, Ground, docker
from tests.agent.registry import PASSWORD, PROGRAM, Registry

Login = Callable[[dict[str, object]], None]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not os.access(PROGRAM, os.X_OK), reason="hack/install registry"),
]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    it = Ground("docker", tmp_path)
    try:
        yield it
    finally:
        await it.close()


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Registry]:
    yield from _registry(tmp_path_factory.mktemp("open") / "registry", password=False)


@pytest.fixture(scope="module")
def closed_registry(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Registry]:
    yield from _registry(tmp_path_factory.mktemp("closed") / "registry", password=True)


def _registry(home: Path, *, password: bool) -> Iterator[Registry]:
    it = Registry(home, password=password)
    try:
        it.start()
        it.push()
        yield it
    finally:
        it.stop()


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    """The agent's user's Docker configuration; nobody has logged in yet."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    def write(config: dict[str, object]) -> None:
        (folder / "config.json").write_text(json.dumps(config))

    return write


async def test_a_pull_says_how_far_it_is(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    open_registry.forget()
    said: list[str] = []
    await ground.driver.pull(open_registry.image, said.append)
    assert said[0] == f"pulling {open_registry.image}"
    assert len(said) == len(set(said)), "nothing is said twice"
    assert re.search(r": \d of \d layers$|: \d of \d layers, [\d.]+ of [\d.]+ MB$", said[1])
    assert any(words.startswith(f"pulling {open_registry.image}: 3 of 3 layers") for words in said)
    assert any("of 8.4 MB" in words for words in said)

    said.clear()
    await ground.driver.pull(open_registry.image, said.append)
    assert said == [], "it is here"


async def test_tasks_that_want_the_same_image_share_a_pull(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    open_registry.forget()
    said: list[list[str]] = [[], [], []]
    await asyncio.gather(*(ground.driver.pull(open_registry.image, words.append) for words in said))
    assert said[0] == said[1] == said[2]
    assert len(said[0]) > 1


async def test_an_image_removed_by_hand_is_pulled_again_when_it_is_needed(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    await ground.driver.pull(open_registry.image, lambda words: None)
    open_registry.forget()
    spec = ground.spec("test -e /big", image=open_registry.image)
    await ground.driver.create(spec)
    await ground.driver.start(spec.task_uid)
    assert (await ground.until_over(spec.task_uid)).exit_code == 0


async def test_a_digest_is_a_name_too(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    await ground.driver.pull(open_registry.image, lambda words: None)
    named = docker("inspect", "-f", "{{index .RepoDigests 0}}", open_registry.image)
    assert "@sha256:" in named
    open_registry.forget()
    await ground.driver.pull(named, lambda words: None)
    uid = await ground.start(image=named)
    assert (await ground.driver.inspect(uid)).phase is Phase.RUNNING
    await ground.driver.remove(uid)
    docker("rmi", "-f", named)


async def test_always_follows_a_tag_that_has_moved(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    image = f"{open_registry.address}/skep/moves:1"
    open_registry.tag(image, IMAGE)
    await ground.driver.pull(image, lambda words: None)
    before = docker("images", "-q", image)
    open_registry.tag(image, open_registry.built())
    docker("tag", IMAGE, image)  # what a node has that pulled it before
    try:
        await ground.driver.pull(image, lambda words: None)
        assert docker("images", "-q", image) == before, "it is here"
        await ground.driver.pull(image, lambda words: None, "always")
        assert docker("images", "-q", image) != before
        said: list[str] = []
        await ground.driver.pull(image, said.append, "always")
        assert said[0] == f"pulling {image}", "the registry is asked each time"
        uid = await ground.start("test -e /big && sleep 100", image=image)
        assert (await ground.driver.inspect(uid)).phase is Phase.RUNNING
        await ground.driver.remove(uid)
    finally:
        shape = "{{.Repository}}@{{.Digest}}"
        names = docker("images", "--digests", "--format", shape, image.rpartition(":")[0])
        for name in {image, *(each for each in names.split() if "@sha256:" in each)}:
            docker("rmi", "-f", name)


async def test_a_tasks_own_login_comes_before_the_nodes(
    ground: Ground, closed_registry: Registry, login: Login
) -> None:
    closed_registry.forget()
    login(closed_registry.config("wrong"))
    own = json.dumps(closed_registry.config(PASSWORD)).encode()
    elsewhere = json.dumps({"auths": {"r.example": {}}}).encode()
    for bad in (b"", elsewhere):
        with pytest.raises(Refused, match=r"does not let node here pull.*imageCredentials"):
            await ground.driver.pull(closed_registry.image, lambda words: None, login=bad)
    await ground.driver.pull(closed_registry.image, lambda words: None, login=own)
    closed_registry.forget()
    spec = ground.spec("true", image=closed_registry.image)
    await ground.driver.create(msgspec.structs.replace(spec, login=own))  # pulled once more
    await ground.driver.remove(spec.task_uid)


async def test_never_asks_no_registry(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    open_registry.forget()
    with pytest.raises(Refused) as refused:
        await ground.driver.pull(open_registry.image, lambda words: None, "never")
    assert f"image {open_registry.image} is not on node here" in str(refused.value)
    assert "imagePull: ifNotPresent" in str(refused.value)
    assert not docker("images", "-q", open_registry.image)
    await ground.driver.pull(open_registry.image, lambda words: None)
    await ground.driver.pull(open_registry.image, lambda words: None, "never")


async def test_a_tag_that_is_not_there(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    image = f"{open_registry.address}/skep/layers:2"
    with pytest.raises(Refused) as refused:
        await ground.driver.pull(image, lambda words: None)
    text = str(refused.value)
    assert f"registry {open_registry.address} has no {image}" in text
    assert "check its name and tag" in text


async def test_a_registry_that_is_not_there(ground: Ground, login: Login) -> None:
    image = "127.0.0.1:9/skep/any:1"
    with pytest.raises(Refused) as refused:
        await ground.driver.pull(image, lambda words: None)
    text = str(refused.value)
    assert image in text
    assert "connection refused" in text
    assert "check the name, and that the node reaches registry 127.0.0.1:9" in text


async def test_with_the_right_password(
    ground: Ground, closed_registry: Registry, login: Login
) -> None:
    closed_registry.forget()
    login(closed_registry.config(PASSWORD))
    await ground.driver.pull(closed_registry.image, lambda words: None)


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_without_the_right_password(
    ground: Ground, closed_registry: Registry, login: Login, password: str
) -> None:
    closed_registry.forget()
    if password:
        login(closed_registry.config(password))
    with pytest.raises(Refused) as refused:
        await ground.driver.pull(closed_registry.image, lambda words: None)
    text = str(refused.value)
    assert f"does not let node here pull {closed_registry.image}" in text
    assert f"docker login {closed_registry.address}" in text
    assert "no such image" not in text
    assert password == "" or password not in text

    login(closed_registry.config(PASSWORD))  # who has logged in may
    await ground.driver.pull(closed_registry.image, lambda words: None)


@contextlib.contextmanager
def mute_registry() -> Iterator[str]:
    """One that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}/skep/slow:1"


async def test_who_comes_as_the_last_one_gives_up_is_not_cut_off_with_it() -> None:
    client = EngineClient(DEFAULT_SOCKET)
    pulls = Pulls(client, "here")
    said: list[str] = []
    there = asyncio.Event()
    with mute_registry() as image:
        first = asyncio.create_task(pulls.pull(image, lambda words: there.set()))
        await there.wait()
        first.cancel()
        second = asyncio.create_task(pulls.pull(image, said.append))
        await asyncio.sleep(0.2)
        assert not second.done()
        assert said == [f"pulling {image}"]
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
    await pulls.close()
    await client.close()


async def test_the_others_still_get_what_one_gives_up(
    ground: Ground, open_registry: Registry, login: Login
) -> None:
    open_registry.forget()
    there = asyncio.Event()
    first = asyncio.create_task(ground.driver.pull(open_registry.image, lambda words: there.set()))
    second = asyncio.create_task(ground.driver.pull(open_registry.image, lambda words: None))
    await there.wait()
    first.cancel()
    async with asyncio.timeout(PATIENCE):
        await second
    assert docker("images", "-q", open_registry.image)
