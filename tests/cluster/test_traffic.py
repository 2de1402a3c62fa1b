"""Who calls any ready task, as the API's watch says them, loses no request while a service changes.

The client keeps a set of the tasks that are Running and ready, brought up to date by one watch, and
makes 200 requests a second, each over a new connection to one of them. It never repeats one: what
fails is counted. Services start their new tasks first, say when they are ready, and give those that
leave a delay before their signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from api.context import load
from api.types.kinds import TASK
from tests.cluster.harness import BIN, Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd, pytest.mark.deadline(120)]

RATE = 200  # requests a second
ALLOWED = aiohttp.ClientTimeout(total=10)
WEB = "mkdir -p /www; echo $V >/www/index.html; httpd -f -p 80 -h /www"
READY = {"http": {"port": 80}, "interval": "1s", "timeout": "5s", "startInterval": "300ms"}
POLICY = {"order": "start-first", "parallelism": 1, "monitor": "300ms"}


class Caller:
    """Counts what it got: the first line of each answer, or how it failed."""

    def __init__(self, cluster: Cluster, service: str) -> None:
        self._cluster = cluster
        self._service = service
        self._ports: dict[str, int] = {}  # of the tasks that may be called, by name
        self._there = asyncio.Event()  # one has been found
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._flights: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        contexts = load(self._cluster.home / "manager" / "admin.yaml")
        async with contexts.select("").client() as client:
            selector = f"spec.service={self._service}"
            listing = await client.list(TASK, "default", field_selector=selector)
            for task in listing.items:
                self._take(task)
            version = listing.resource_version
            async for change in client.watch(
                TASK, "default", resource_version=version, field_selector=selector
            ):
                self._take(change.object, gone=change.type == "DELETED")

    def _take(self, task: Document, *, gone: bool = False) -> None:
        name, status = task["metadata"]["name"], task["status"]
        if status.get("state") == "Running" and status.get("ready") and not gone:
            self._ports[name] = status["ports"][0]["published"]
            self._there.set()
        else:
            self._ports.pop(name, None)

    async def call(self) -> None:
        """At the rate, whatever each call takes."""
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=ALLOWED) as session:
            await self._there.wait()
            due = loop.time()
            try:
                while True:
                    flight = asyncio.create_task(self._one(session))
                    self._flights.add(flight)
                    flight.add_done_callback(self._flights.discard)
                    due += 1 / RATE
                    await asyncio.sleep(max(0.0, due - loop.time()))
            finally:
                await asyncio.gather(*self._flights)

    async def _one(self, session: aiohttp.ClientSession) -> None:
        if not self._ports:
            self.failures.append("no task is ready")
            return
        name, port = random.choice([*self._ports.items()])
        try:
            async with session.get(f"http://127.0.0.1:{port}/") as answer:
                text = (await answer.text()).strip()
                if answer.status == 200:
                    self.answers[text] += 1
                else:
                    self.failures.append(f"{name}: status {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{name}: {error!r}")


@contextlib.asynccontextmanager
async def calling(cluster: Cluster, service: str) -> AsyncIterator[Caller]:
    caller = Caller(cluster, service)
    loops = [asyncio.create_task(caller.follow()), asyncio.create_task(caller.call())]
    try:
        yield caller
        broken = [loop for loop in loops if loop.done()]
        assert not broken, broken
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def ctl(cluster: Cluster, *words: str, stdin: str = "", code: int = 0) -> str:
    """Without keeping this loop from its calls."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "ctl"),
        *words,
        env=cluster.environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(stdin.encode())
    assert process.returncode == code, said.decode()
    return said.decode()


def web(version: str, **more: object) -> Document:
    found = service("web", WEB, replicas=3, env={"V": version}, readiness=READY, stopDelay="1s")
    found["spec"]["template"] |= {"ports": [{"target": 80}], **more}
    found["spec"] |= {"update": {**POLICY, "failureAction": "rollback"}, "rollback": POLICY}
    return found


@pytest.fixture
def serving(cluster: Cluster) -> Iterator[None]:
    """Version 1 of the service, until the test ends."""
    cluster.apply(web("1"))
    cluster.until_running("web", 3)
    yield
    cluster.ctl("delete", "service", "web")
    until(lambda: not cluster.running_of("web", every=True), "it is gone")


def lossless(caller: Caller, *versions: str) -> None:
    """Nothing failed, each version answered, and the rate was about kept."""
    made = caller.answers.total() + len(caller.failures)
    sys.stdout.write(f"{made} requests, {len(caller.failures)} failed\n")
    assert not caller.failures, f"{len(caller.failures)} of {made}: {caller.failures[:5]}"
    assert set(caller.answers) == set(versions)
    assert made > RATE


async def test_an_update_and_a_rollback_lose_no_request(cluster: Cluster, serving: None) -> None:
    async with calling(cluster, "web") as caller:
        await ctl(cluster, "apply", "-f", "-", "--wait", stdin=json.dumps(web("2")))
        await ctl(cluster, "rollout", "undo", "web", "--wait")
    lossless(caller, "1", "2")


async def test_an_update_that_goes_back_by_itself_loses_no_request(
    cluster: Cluster, serving: None
) -> None:
    async with calling(cluster, "web") as caller:
        bad = json.dumps(web("2", image="skep/none:missing"))
        said = await ctl(cluster, "apply", "-f", "-", "--wait", stdin=bad, code=1)
        assert "the update was rolled back" in said
        never = web("3", readiness={**READY, "http": {"port": 80, "path": "/never"}})
        never["spec"]["update"]["deadline"] = "3s"
        said = await ctl(cluster, "apply", "-f", "-", "--wait", stdin=json.dumps(never), code=1)
        assert "the update was rolled back" in said
    lossless(caller, "1")
    assert len(cluster.tasks("web", "Running")) == 3
