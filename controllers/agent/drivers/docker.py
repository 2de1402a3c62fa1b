"""The docker driver: tasks' containers on a Docker Engine, through its HTTP API.

Containers are found by their labels, never by memory alone, so an agent that comes back finds its
own, and only its own. What a start costs is the engine's CPU time; the agent's part is to ask no
more than needed (one call to create, one to start, one to see the result) and to keep as many
starts in flight as the engine's cores can use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from aiodocker.execs import Exec

from api.types.generic import claims
from api.types.node import Engine, NodeResources
from api.types.template import HttpCheck, TcpCheck
from controllers.agent.drivers import probes
from controllers.agent.drivers.contract import (
    Container,
    ContainerSpec,
    DriverError,
    EngineDown,
    EngineInfo,
    LogLine,
    NotFound,
    Outcome,
    Phase,
    Refused,
    Terminal,
)
from controllers.agent.drivers.engine import answers, body
from controllers.agent.drivers.engine.client import CALL_SECONDS, EngineClient
from controllers.agent.drivers.engine.networks import Networks
from controllers.agent.drivers.engine.pulls import Pulls
from controllers.agent.drivers.engine.refusals import start_words
from controllers.agent.drivers.engine.terminal import EngineTerminal

DEFAULT_SOCKET = "unix:///var/run/docker.sock"

_NOT_MODIFIED = 304  # it runs already
_EVENTS = ["start", "die", "oom", "destroy", "health_status", "reload"]
# Events between the engine's headers and its subscription would be lost without looking back.
_LOOK_BACK_SECONDS = 3
_FIRST_WAIT, _LAST_WAIT = 0.05, 1.0  # seconds, for an earlier try to make a container


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
        quiet: float = 15.0,
        engine_network: bool = False,
    ) -> None:
        """`socket` as in DOCKER_HOST, which is used where it is empty. `quiet`: seconds without an
        event after which the engine is asked whether it lives. `engine_network`: the engine makes
        all containers' networks, also where we could."""
        self._quiet = quiet
        self._cluster = cluster
        self._node = node
        self._labels = {body.CLUSTER: cluster, body.NODE: node}  # of our containers
        self._client = EngineClient(socket or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET)
        self._networks = Networks(
            self._client, run_dir / node, cluster, engine_network=engine_network
        )
        self._creating = asyncio.Semaphore(parallel.create)
        self._starting = asyncio.Semaphore(parallel.start)
        self._removing = asyncio.Semaphore(parallel.remove)
        self._inspecting = asyncio.Semaphore(parallel.inspect)
        self._ids: dict[str, str] = {}  # task uid → container id
        self._doing: set[tuple[str, str]] = set()  # event and container id: our own doing
        self._pulls = Pulls(self._client, node)

    async def info(self) -> EngineInfo:
        info, version = await asyncio.gather(
            self._client.call("GET", "info"), self._client.call("GET", "version")
        )
        labels = dict(label.partition("=")[::2] for label in info.get("Labels") or [])
        return EngineInfo(
            engine=Engine(
                driver=self.name,
                version=version["Version"],
                ready=True,
                network=await self._networks.look(info),
                labels=labels,
            ),
            resources=NodeResources(
                cpus=float(info["NCPU"]),
                memory=int(info["MemTotal"]),
                generic=answers.generic(info.get("GenericResources") or ()),
            ),
            os=version["Os"],
            architecture=version["Arch"],
            kernel=version["KernelVersion"],
        )

    async def containers(self) -> list[Container]:
        self._ids = await self._list()
        found = await asyncio.gather(*(self._look(id) for id in self._ids.values()))
        return [container for container in found if container is not None]

    async def events(self) -> AsyncGenerator[str, None]:
        # Without our labels, as what the engine says of itself has none.
        filters = {"type": ["container", "daemon"], "event": _EVENTS}
        since = str(int(time.time()) - _LOOK_BACK_SECONDS)
        params = {"filters": json.dumps(filters), "since": since}
        async with self._client.stream("GET", "events", params=params) as answer:
            self._doing.clear()
            yield ""
            async with contextlib.aclosing(self._client.lines(answer, self._quiet)) as lines:
                async for line in lines:
                    event = msgspec.json.decode(line)
                    if event["Type"] == "daemon":
                        yield ""  # it has read its configuration again
                    elif uid := self._heard(event):
                        yield uid
        raise EngineDown(f"the container engine at {self._client.url} closed its events stream")

    def _heard(self, event: Mapping[str, Any]) -> str:
        """Whose container it is about; "" where nobody need look."""
        action, about = event["Action"], event["Actor"]["Attributes"]
        if any(about.get(name) != value for name, value in self._labels.items()):
            return ""
        container_id, uid = event["Actor"]["ID"], body.owned(about, about.get("name", ""))
        ours = (action, container_id) in self._doing
        self._doing.discard((action, container_id))
        if action == "destroy":
            self._doing.discard(("die", container_id))
            self._networks.gone(container_id)
            if self._ids.get(uid) == container_id:
                del self._ids[uid]
        return "" if ours else uid

    async def pull(
        self,
        image: str,
        progress: Callable[[str], None],
        policy: str = "ifNotPresent",
        login: bytes = b"",
    ) -> str:
        return await self._pulls.pull(image, progress, policy, login)

    async def create(self, spec: ContainerSpec) -> Container:
        async with self._creating:
            spec = await self._networks.settled(spec)
            files = await self._networks.files(spec)
            request = body.create_body(
                spec,
                cluster=self._cluster,
                node=self._node,
                hosts=files.hosts,
                resolvers=files.resolvers,
                api=await self._api(),
            )
            try:
                found = await self._post_create(spec, request)
            except Refused as error:
                self._forget(spec.task_uid)
                raise self._create_words(error) from error
        if found is not None:
            return found
        return Container(
            id=self._ids[spec.task_uid],
            task_uid=spec.task_uid,
            task_name=spec.task_name,
            namespace=spec.namespace,
            phase=Phase.CREATED,
            grace=request["StopTimeout"],
            claims=list(claims(spec.generic)),
        )

    async def start(self, task_uid: str) -> Container:
        container_id = await self._id(task_uid)
        path = f"containers/{container_id}/start"
        async with self._starting:
            try:
                async with self._networks.ready(container_id):
                    await self._do("POST", path, ("start", container_id))
            except (NotFound, EngineDown):
                raise
            except DriverError as error:
                inspected = await self._client.call("GET", f"containers/{container_id}/json")
                raise start_words(error, inspected) from error
        return await self._inspect(container_id)

    async def inspect(self, task_uid: str) -> Container:
        try:
            return await self._inspect(await self._id(task_uid))
        except NotFound:
            self._ids.pop(task_uid, None)
            self._networks.stopped(task_uid)
            raise

    async def stop(self, task_uid: str, *, grace: float) -> Container:
        container_id = await self._id(task_uid)
        self._networks.stopped(task_uid)  # before the signal: nobody new finds it while it ends
        seconds = math.ceil(max(0.0, grace))  # whole ones; a little grace is not none
        await self._do(
            "POST",
            f"containers/{container_id}/stop",
            ("die", container_id),
            params={"t": str(seconds)},
            seconds=seconds + CALL_SECONDS,
        )
        return await self._inspect(container_id)

    async def signal(self, task_uid: str, signal: str) -> None:
        container_id = await self._id(task_uid)
        path = f"containers/{container_id}/kill"
        await self._client.call("POST", path, params={"signal": signal})

    async def remove(self, task_uid: str) -> None:
        try:
            container_id = await self._id(task_uid)
        except NotFound:
            self._forget(task_uid)
            return
        async with self._removing:
            await self._delete(container_id)
        self._forget(task_uid)

    def serve(self, task_uid: str, serving: bool) -> None:
        self._networks.serve(task_uid, serving)

    async def probe(
        self, container: Container, check: HttpCheck | TcpCheck, seconds: float
    ) -> Outcome:
        return await probes.look(check, container.address, seconds)

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
        await self._pulls.close()
        await self._networks.close()
        await self._client.close()

    async def _do(
        self,
        method: str,
        path: str,
        *events: tuple[str, str],
        params: Mapping[str, str] | None = None,
        seconds: float = CALL_SECONDS,
    ) -> None:
        """Change something. These events will be our own doing, and nobody need hear of them:
        the caller sees the outcome. Unless there was nothing to do, or it went wrong."""
        self._doing.update(events)
        done = False
        try:
            answer = await self._client.ask(method, path, params=params, seconds=seconds)
            done = answer.status != _NOT_MODIFIED
        finally:
            if not done:
                self._doing.difference_update(events)

    # Finding.

    async def _list(self, *labels: str) -> dict[str, str]:
        """Task uid → container id."""
        own = (f"{name}={value}" for name, value in self._labels.items())
        filters = json.dumps({"label": [*own, *labels]})
        listed: list[dict[str, Any]] = await self._client.call(
            "GET", "containers/json", params={"all": "1", "filters": filters}
        )
        found: dict[str, str] = {}
        for entry in listed:
            for name in entry["Names"]:
                if uid := body.owned(entry["Labels"], name.removeprefix("/")):
                    found[uid] = entry["Id"]
                    self._networks.met(entry["Id"], entry["Labels"])
        return found

    def _forget(self, task_uid: str) -> None:
        """Its container is gone."""
        self._networks.gone(self._ids.pop(task_uid, ""))
        self._networks.forget(task_uid)

    async def _id(self, task_uid: str) -> str:
        if task_uid not in self._ids:
            self._ids.update(await self._list(f"{body.TASK}={task_uid}"))
        if task_uid not in self._ids:
            raise NotFound(f"node {self._node} has no container of task {task_uid}")
        return self._ids[task_uid]

    async def _look(self, container_id: str) -> Container | None:
        async with self._inspecting:
            try:
                return await self._inspect(container_id)
            except NotFound:
                return None

    async def _inspect(self, container_id: str) -> Container:
        return await self._taken(await self._client.call("GET", f"containers/{container_id}/json"))

    async def _taken(self, inspected: Mapping[str, Any]) -> Container:
        """What the engine says of it; where it is reached by name goes with it."""
        return await self._networks.seen(answers.container(inspected), inspected)

    # Making and unmaking.

    async def _api(self) -> tuple[int, int]:
        docker = self._client.docker
        if docker.api_version == "auto":
            version = await self._client.call("GET", "version")
            docker.api_version = "v" + version["ApiVersion"]
        major, _, minor = docker.api_version.removeprefix("v").partition(".")
        return int(major), int(minor)

    async def _post_create(self, spec: ContainerSpec, request: dict[str, Any]) -> Container | None:
        """Make it; or the container, where an earlier try made it. An image that went away since
        it was seen is pulled again. Raises Refused."""
        name = body.container_name(spec)
        wait, end = _FIRST_WAIT, time.monotonic() + CALL_SECONDS
        pulled = False
        while True:
            try:
                made = await self._client.call(
                    "POST", "containers/create", params={"name": name}, body=request
                )
                self._ids[spec.task_uid] = str(made["Id"])
                self._networks.met(str(made["Id"]), request["Labels"])
                return None
            except Refused as error:
                text = str(error).lower()
                if "no such image" in text and not pulled:
                    pulled = True
                    template = spec.template
                    await self.pull(
                        template.image, lambda words: None, template.image_pull, spec.login
                    )
                    continue
                if "is already in use by container" not in text:
                    raise
            found = await self._named(spec, name)
            if found is not None:
                return found
            # An earlier try has its name but isn't done; it has no event before it is.
            if time.monotonic() > end:
                raise DriverError(f"an earlier try to make container {name} doesn't end")
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LAST_WAIT)

    async def _named(self, spec: ContainerSpec, name: str) -> Container | None:
        """What has the container's name. Raises Refused where that is not the task's."""
        try:
            inspected = await self._client.call("GET", f"containers/{name}/json")
        except NotFound:
            return None
        labels = inspected["Config"]["Labels"] or {}
        whose = {body.TASK: spec.task_uid, **self._labels}
        if any(labels.get(label) != value for label, value in whose.items()):
            raise Refused(
                f"a container named {name} is there already and was not made for this task; "
                f"remove it: docker rm {name}"
            )
        self._ids[spec.task_uid] = inspected["Id"]
        return await self._taken(inspected)

    def _create_words(self, error: Refused) -> DriverError:
        text = str(error)
        if "bind source path does not exist" in text:
            return Refused(f"{text}; create it on node {self._node}, or use a volume")
        return error

    async def _delete(self, container_id: str) -> None:
        try:
            await self._do(
                "DELETE",
                f"containers/{container_id}",
                ("destroy", container_id),
                ("die", container_id),
                params={"force": "1", "v": "1"},
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
