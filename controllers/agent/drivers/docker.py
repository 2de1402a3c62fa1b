"""The docker driver: tasks' containers on a Docker Engine, through its HTTP API.

Containers are found by their labels, never by memory alone, so an agent that comes back finds its
own, and only its own. What a start costs is the engine's CPU time; the agent's part is to ask no
more than needed (one call to create, one to start, one to see the result) and to keep as many
starts in flight as the engine's cores can use.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import time
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from aiodocker.execs import Exec

from api.types.node import Engine, NodeResources
from controllers.agent.drivers.contract import (
    Container,
    ContainerSpec,
    DriverError,
    EngineDown,
    EngineInfo,
    LogLine,
    NotFound,
    Phase,
    Refused,
    Terminal,
)
from controllers.agent.drivers.engine import answers, body
from controllers.agent.drivers.engine.client import CALL_SECONDS, EngineClient
from controllers.agent.drivers.engine.credentials import credentials
from controllers.agent.drivers.engine.names import Entry, Names
from controllers.agent.drivers.engine.terminal import EngineTerminal

DEFAULT_SOCKET = "unix:///var/run/docker.sock"

_NOT_MODIFIED = 304  # it runs already
_EVENTS = ["start", "die", "oom", "destroy", "health_status"]
# Events between the engine's headers and its subscription would be lost without looking back.
_LOOK_BACK_SECONDS = 3
_PULL_SECONDS = 3600.0


class Parallel(msgspec.Struct, frozen=True):
    """How much the engine is asked to do at once.

    Measured with Docker 20.10 on two cores: of 100 starts, 6 at once leave a core idle a tenth of
    the time, 10 keep both busy, and more than 20 only get in each other's way. Creations are
    quick and have to stay ahead of the starts.
    """

    create: int = 4
    start: int = 10
    remove: int = 6
    inspect: int = 16


class DockerDriver:
    name = "docker"

    def __init__(
        self,
        socket: str = "",
        *,
        cluster: str,
        node: str,
        run_dir: Path = Path("/run/skep"),
        parallel: Parallel = Parallel(),  # noqa: B008 - frozen
    ) -> None:
        """`socket` as in DOCKER_HOST, which is used where it is empty."""
        self._cluster = cluster
        self._node = node
        self._client = EngineClient(socket or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET)
        self._names = Names(run_dir / node / f"hosts-{cluster[:8]}")
        self._creating = asyncio.Semaphore(parallel.create)
        self._starting = asyncio.Semaphore(parallel.start)
        self._removing = asyncio.Semaphore(parallel.remove)
        self._inspecting = asyncio.Semaphore(parallel.inspect)
        self._ids: dict[str, str] = {}  # task uid → container id
        self._started: set[str] = set()  # container ids whose start event is our own doing
        self._present: set[str] = set()  # images the engine was seen to have
        self._pulls: dict[str, _Pull] = {}

    async def info(self) -> EngineInfo:
        info, version = await asyncio.gather(
            self._client.call("GET", "info"), self._client.call("GET", "version")
        )
        labels = dict(label.partition("=")[::2] for label in info.get("Labels") or [])
        return EngineInfo(
            engine=Engine(driver=self.name, version=version["Version"], ready=True, labels=labels),
            resources=NodeResources(cpus=float(info["NCPU"]), memory=int(info["MemTotal"])),
            os=version["Os"],
            architecture=version["Arch"],
            kernel=version["KernelVersion"],
        )

    async def containers(self) -> list[Container]:
        listed = await self._list()
        self._ids = {entry["Labels"][body.TASK]: entry["Id"] for entry in listed}
        found = await asyncio.gather(*(self._look(entry["Id"]) for entry in listed))
        return [container for container in found if container is not None]

    async def events(self) -> AsyncGenerator[str, None]:
        filters = {"type": ["container"], "event": _EVENTS, "label": self._own()}
        since = str(int(time.time()) - _LOOK_BACK_SECONDS)
        params = {"filters": json.dumps(filters), "since": since}
        async with self._client.stream("GET", "events", params=params) as answer:
            self._started.clear()
            yield ""
            async for line in answer.content:
                event = json.loads(line)
                uid, container_id = event["Actor"]["Attributes"][body.TASK], event["Actor"]["ID"]
                if event["Action"] == "start" and container_id in self._started:
                    self._started.discard(container_id)
                    continue
                if event["Action"] == "destroy" and self._ids.get(uid) == container_id:
                    del self._ids[uid]
                yield uid
        raise EngineDown(f"the container engine at {self._client.url} closed its events stream")

    async def pull(self, image: str, progress: Callable[[str], None]) -> None:
        if image in self._present:
            return
        try:
            await self._client.call("GET", f"images/{quote(image, safe='')}/json")
        except Refused:
            await self._pull(image, progress)
        self._present.add(image)

    async def create(self, spec: ContainerSpec) -> Container:
        hostname = spec.hostname
        entry = Entry(spec.namespace, spec.service, spec.task_name, hostname)
        async with self._creating:
            self._names.put(spec.task_uid, entry)
            request = body.create_body(
                spec,
                cluster=self._cluster,
                node=self._node,
                hosts=str(self._names.path(spec.namespace).absolute()),
                api=await self._api(),
            )
            try:
                self._ids[spec.task_uid] = await self._post_create(spec, request)
            except Refused as error:
                found = await self._found(spec.task_uid)
                if found is not None:
                    return found
                self._names.forget(spec.task_uid)
                raise self._create_words(spec, error) from error
        return Container(
            id=self._ids[spec.task_uid],
            task_uid=spec.task_uid,
            task_name=spec.task_name,
            namespace=spec.namespace,
            phase=Phase.CREATED,
        )

    async def start(self, task_uid: str) -> Container:
        container_id = await self._id(task_uid)
        async with self._starting:
            self._started.add(container_id)
            path = f"containers/{container_id}/start"
            try:
                async with self._client.stream("POST", path, seconds=CALL_SECONDS) as answer:
                    if answer.status == _NOT_MODIFIED:
                        self._started.discard(container_id)
            except DriverError:
                self._started.discard(container_id)
                raise
        return await self._inspect(container_id)

    async def inspect(self, task_uid: str) -> Container:
        try:
            return await self._inspect(await self._id(task_uid))
        except NotFound:
            self._ids.pop(task_uid, None)
            self._names.stopped(task_uid)
            raise

    async def stop(self, task_uid: str, *, grace: float) -> Container:
        container_id = await self._id(task_uid)
        self._names.stopped(task_uid)  # before the signal: nobody new finds it while it ends
        params = {"t": str(max(0, round(grace)))}
        await self._client.call(
            "POST", f"containers/{container_id}/stop", params=params, seconds=grace + 120
        )
        return await self._inspect(container_id)

    async def remove(self, task_uid: str) -> None:
        try:
            container_id = await self._id(task_uid)
        except NotFound:
            self._names.forget(task_uid)
            return
        async with self._removing:
            await self._delete(container_id)
        self._ids.pop(task_uid, None)
        self._names.forget(task_uid)

    async def logs(
        self,
        task_uid: str,
        *,
        follow: bool,
        tail: int | None,
        since: datetime | None,
        timestamps: bool,
    ) -> AsyncGenerator[LogLine, None]:
        params = {
            "stdout": "1",
            "stderr": "1",
            "follow": "1" if follow else "0",
            "timestamps": "1" if timestamps else "0",
            "tail": "all" if tail is None else str(tail),
        }
        if since is not None:
            params["since"] = f"{since.timestamp():.9f}"
        path = f"containers/{await self._id(task_uid)}/logs"
        async with self._client.stream("GET", path, params=params) as answer:
            while True:
                try:
                    head = await answer.content.readexactly(8)
                    data = await answer.content.readexactly(int.from_bytes(head[4:], "big"))
                except asyncio.IncompleteReadError:
                    return
                yield LogLine(head[0], data)

    async def exec(self, task_uid: str, command: list[str], *, tty: bool, stdin: bool) -> Terminal:
        container_id = await self._id(task_uid)
        request = {
            "Cmd": command,
            "AttachStdin": stdin,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
        }
        made = await self._client.call("POST", f"containers/{container_id}/exec", body=request)
        process = Exec(self._client.docker, made["Id"], tty)
        stream = process.start()
        try:
            await stream._init()
        except Exception as error:
            raise self._client.words(error) from error
        return EngineTerminal(self._client, process, stream)

    async def close(self) -> None:
        pulls = [pull.task for pull in self._pulls.values()]
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
        await self._client.close()

    # Finding.

    def _own(self) -> list[str]:
        return [f"{body.CLUSTER}={self._cluster}", f"{body.NODE}={self._node}"]

    async def _list(self, *labels: str) -> list[dict[str, Any]]:
        filters = json.dumps({"label": [*self._own(), *labels]})
        listed: list[dict[str, Any]] = await self._client.call(
            "GET", "containers/json", params={"all": "1", "filters": filters}
        )
        return listed

    async def _id(self, task_uid: str) -> str:
        if task_uid not in self._ids:
            for entry in await self._list(f"{body.TASK}={task_uid}"):
                self._ids[task_uid] = entry["Id"]
        if task_uid not in self._ids:
            raise NotFound(f"node {self._node} has no container of task {task_uid}")
        return self._ids[task_uid]

    async def _found(self, task_uid: str) -> Container | None:
        """The task's container, where an earlier try made it."""
        self._ids.pop(task_uid, None)
        try:
            return await self.inspect(task_uid)
        except NotFound:
            return None

    async def _look(self, container_id: str) -> Container | None:
        async with self._inspecting:
            try:
                return await self._inspect(container_id)
            except NotFound:
                return None

    async def _inspect(self, container_id: str) -> Container:
        inspected = await self._client.call("GET", f"containers/{container_id}/json")
        container = answers.container(inspected)
        config = inspected["Config"]
        self._names.put(
            container.task_uid,
            Entry(
                container.namespace,
                config["Labels"][body.SERVICE],
                container.task_name,
                config["Hostname"],
                answers.address(inspected),
            ),
        )
        return container

    # Making and unmaking.

    async def _api(self) -> tuple[int, int]:
        docker = self._client.docker
        if docker.api_version == "auto":
            version = await self._client.call("GET", "version")
            docker.api_version = "v" + version["ApiVersion"]
        major, _, minor = docker.api_version.removeprefix("v").partition(".")
        return int(major), int(minor)

    async def _post_create(self, spec: ContainerSpec, request: dict[str, Any]) -> str:
        """The new container's id. An image that went away since it was seen is pulled again."""
        post = functools.partial(
            self._client.call,
            "POST",
            "containers/create",
            params={"name": body.container_name(spec)},
            body=request,
        )
        try:
            made = await post()
        except Refused as error:
            if "no such image" not in str(error).lower():
                raise
            self._present.discard(spec.template.image)
            await self.pull(spec.template.image, lambda words: None)
            made = await post()
        return str(made["Id"])

    def _create_words(self, spec: ContainerSpec, error: Refused) -> DriverError:
        text = str(error)
        if "is already in use by container" in text:
            name = body.container_name(spec)
            return Refused(
                f"a container named {name} is there already and was not made for this task; "
                f"remove it: docker rm {name}"
            )
        if "bind source path does not exist" in text:
            return Refused(f"{text}; create it on node {self._node}, or use a volume")
        return error

    async def _delete(self, container_id: str) -> None:
        try:
            await self._client.call(
                "DELETE", f"containers/{container_id}", params={"force": "1", "v": "1"}
            )
        except NotFound:
            return
        except Refused as error:
            if "already in progress" not in str(error):
                raise
            await self._gone(container_id)

    async def _gone(self, container_id: str) -> None:
        try:
            await self._client.call(
                "POST", f"containers/{container_id}/wait", params={"condition": "removed"}
            )
        except NotFound:
            return

    # Pulling.

    async def _pull(self, image: str, progress: Callable[[str], None]) -> None:
        """Tasks that want the same image wait for the same pull."""
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = _Pull()
            pull.task = asyncio.create_task(self._fetch(image, pull.say))
            pull.task.add_done_callback(lambda task: self._pulls.pop(image, None))
        pull.listeners.append(progress)
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.listeners.remove(progress)
            if not pull.listeners:
                pull.task.cancel()  # nobody wants it any more

    async def _fetch(self, image: str, say: Callable[[str], None]) -> None:
        name, tag = _split(image)
        say(f"pulling {image}")
        layers: dict[str, str] = {}
        try:
            headers = {"X-Registry-Auth": await credentials(image)}
            async with self._client.stream(
                "POST",
                "images/create",
                params={"fromImage": name, "tag": tag},
                headers=headers if headers["X-Registry-Auth"] else None,
                seconds=_PULL_SECONDS,
            ) as answer:
                async for line in answer.content:
                    message = json.loads(line)
                    if "error" in message:
                        raise Refused(message["error"])
                    if "progressDetail" in message and "id" in message:
                        layers[message["id"]] = message["status"]
                        say(_progress(image, layers))
        except EngineDown:
            raise
        except DriverError as error:
            raise Refused(
                f"no such image: {image} is not on node {self._node} and pulling it failed: "
                f"{str(error).rstrip('.')}; check the name, that the node reaches the registry, "
                "and that the agent's user is logged in (docker login)"
            ) from error


class _Pull:
    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.listeners: list[Callable[[str], None]] = []
        self._said = ""

    def say(self, words: str) -> None:
        if words != self._said:
            self._said = words
            for listener in list(self.listeners):
                listener(words)


def _split(image: str) -> tuple[str, str]:
    """What to pull: without a tag the Engine would take all of them."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    if colon and "/" not in tag:
        return name, tag
    return image, "latest"


def _progress(image: str, layers: dict[str, str]) -> str:
    done = sum(status in ("Pull complete", "Already exists") for status in layers.values())
    return f"pulling {image}: {done} of {len(layers)} layers"
