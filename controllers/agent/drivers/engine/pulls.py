"""Pulling images through the Engine: one pull an image, however many tasks wait for it.

A pull goes on as long as somebody waits for it. What goes wrong is said with what to do: the
registry has no such image, does not let this node in, or can't be reached.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from controllers.agent.drivers.contract import DriverError, EngineDown, Refused
from controllers.agent.drivers.engine.client import EngineClient
from controllers.agent.drivers.engine.credentials import credentials, registry

Say = Callable[[str], None]
_Key = tuple[str, str, bytes]  # image, policy, login: nobody pulls with another's

_PULL_SECONDS = 3600.0
_SAY_SECONDS = 1.0  # between two words on how much has come

_CLOSED = ("unauthorized", "no basic auth credentials", "denied", "authentication required")
_ABSENT = ("manifest unknown", "manifest for ", "name unknown", "repository name not known")


class Pulls:
    def __init__(self, client: EngineClient, node: str) -> None:
        self._client = client
        self._node = node
        self._pulls: dict[_Key, _Pull] = {}

    async def pull(
        self, image: str, progress: Say, policy: str = "ifNotPresent", login: bytes = b""
    ) -> str:
        """Its digest, "" where it has none. Present already: nothing is fetched, or said, unless
        `policy` is `always`.

        Raises Refused, DriverError.
        """
        key = (image, policy, login)
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull()
            pull.task = asyncio.create_task(self._ensure(image, pull.say, policy, login))
            pull.task.add_done_callback(lambda task: self._over(key, pull, task))
        pull.listen(progress)
        try:
            return await asyncio.shield(pull.task)
        finally:
            pull.listeners.remove(progress)
            if not pull.listeners and not pull.task.done():
                self._forget(key, pull)  # who comes now begins anew, and isn't cancelled with it
                pull.task.cancel()

    async def close(self) -> None:
        tasks = [pull.task for pull in self._pulls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, key: _Key, pull: _Pull, task: asyncio.Task[str]) -> None:
        self._forget(key, pull)
        if not task.cancelled():
            task.exception()  # has been seen: those who wait for it get it

    def _forget(self, key: _Key, pull: _Pull) -> None:
        if self._pulls.get(key) is pull:
            del self._pulls[key]

    async def _ensure(self, image: str, say: Say, policy: str, login: bytes) -> str:
        if policy == "always":
            return await self._fetch(image, say, login) or digest_of(image, await self._look(image))
        try:
            return digest_of(image, await self._look(image))
        except Refused as error:
            if policy == "never":
                raise Refused(
                    f"image {image} is not on node {self._node}, and imagePull is never; bring it "
                    "there (docker load, docker pull), or let it be pulled: imagePull: ifNotPresent"
                ) from error
        return await self._fetch(image, say, login) or digest_of(image, await self._look(image))

    async def _look(self, image: str) -> Mapping[str, Any]:
        """As the engine has it. Raises Refused where it hasn't."""
        found: Mapping[str, Any] = await self._client.call(
            "GET", f"images/{quote(image, safe='')}/json"
        )
        return found

    async def _fetch(self, image: str, say: Say, login: bytes) -> str:
        """The digest, where the engine says it."""
        digest = ""
        name, tag = _split(image)
        layers = _Layers(image)
        say(f"pulling {image}")
        try:
            header = await credentials(image, login)
            async with self._client.stream(
                "POST",
                "images/create",
                params={"fromImage": name, "tag": tag},
                headers={"X-Registry-Auth": header} if header else None,
                seconds=_PULL_SECONDS,
            ) as answer:
                async for line in answer.content:
                    message = json.loads(line)
                    if "error" in message:
                        raise Refused(message["error"])
                    if layers.take(message):
                        say(layers.words())
                    digest = _said_digest(message) or digest
        except EngineDown:
            raise
        except DriverError as error:
            raise self._words(image, str(error).rstrip(".")) from error
        return digest

    def _words(self, image: str, text: str) -> Refused:
        where = registry(image)
        lower = text.lower()
        if any(sign in lower for sign in _ABSENT):
            name, _, digest = image.partition("@")
            if digest:
                return Refused(
                    f"no such image: registry {where} has no {name} of digest {digest}; "
                    f"was it deleted there? ({text})"
                )
            return Refused(
                f"no such image: registry {where} has no {image}; "
                f"check its name and tag, and that it was pushed there ({text})"
            )
        if any(sign in lower for sign in _CLOSED):
            return Refused(
                f"registry {where} does not let node {self._node} pull {image}: {text}; "
                f"log in on the node, as the agent's user (docker login {where}), "
                "name a Secret with a login in imageCredentials, or check the image's name"
            )
        return Refused(
            f"no such image: {image} is not on node {self._node} and pulling it failed: {text}; "
            f"check the name, and that the node reaches registry {where}"
        )


class _Pull:
    task: asyncio.Task[str]

    def __init__(self) -> None:
        self.listeners: list[Say] = []
        self._said = ""

    def listen(self, listener: Say) -> None:
        self.listeners.append(listener)
        if self._said:
            listener(self._said)

    def say(self, words: str) -> None:
        if words != self._said:
            self._said = words
            for listener in list(self.listeners):
                listener(words)


class _Layers:
    """How far the layers of an image are, from the Engine's messages."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._done: dict[str, bool] = {}
        self._bytes: dict[str, tuple[int, int]] = {}  # come, of
        self._next = 0.0  # on the loop's clock, when bytes are worth words again

    def take(self, message: Mapping[str, Any]) -> bool:
        """Take a message in; whether there is something new to say."""
        if "progressDetail" not in message or "id" not in message:
            return False
        layer, status = str(message["id"]), message["status"]
        before = (len(self._done), sum(self._done.values()))
        self._done[layer] = status in ("Pull complete", "Already exists")
        detail = message["progressDetail"] or {}
        if status == "Downloading" and detail.get("total"):
            self._bytes[layer] = (detail["current"], detail["total"])
        elif layer in self._bytes:  # verifying, extracting, done: all of it has come
            self._bytes[layer] = (self._bytes[layer][1],) * 2
        now = asyncio.get_running_loop().time()
        if before == (len(self._done), sum(self._done.values())) and now < self._next:
            return False
        self._next = now + _SAY_SECONDS
        return True

    def words(self) -> str:
        words = f"pulling {self._image}: {sum(self._done.values())} of {len(self._done)} layers"
        come, all = (
            (sum(each) for each in zip(*self._bytes.values(), strict=True))
            if self._bytes
            else (0, 0)
        )
        return f"{words}, {come / 1e6:.1f} of {all / 1e6:.1f} MB" if all else words


def digest_of(image: str, inspected: Mapping[str, Any]) -> str:
    """By which the image's registry knows it. Of two (the same bits, wrapped in another manifest)
    the first, so that it is the same one each time."""
    name, _, digest = image.partition("@")
    if digest:
        return digest
    wanted = _repository(name)
    named = (str(one).partition("@") for one in inspected.get("RepoDigests") or ())
    return min((digest for name, _, digest in named if _repository(name) == wanted), default="")


def _repository(name: str) -> str:
    """Without a tag, and as the engine shortens Docker Hub's."""
    head, colon, tag = name.rpartition(":")
    name = head if colon and "/" not in tag else name
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name


def _said_digest(message: Mapping[str, Any]) -> str:
    """Of the engine's line on what it has pulled."""
    words = str(message.get("status", "")).partition("Digest: ")
    return words[2].strip() if not words[0] else ""


def _split(image: str) -> tuple[str, str]:
    """What to pull: without a tag the Engine would take all of them."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    if colon and "/" not in tag:
        return name, tag
    return image, "latest"
