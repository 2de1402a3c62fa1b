"""What agents report of their tasks: written together, only forward, only their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from api.client import ApiError, Client
from api.store.contract import Conflict, Unavailable, Write
from api.store.memory import MemoryStore
from api.types.assignment import StatusReport
from api.types.kinds import TASK
from api.types.task import ContainerStatus, Task, TaskState, TaskStatus
from tests.server.harness import Running, changed, running_server, task


def report(name: str, state: TaskState, uid: str = "", **more: object) -> StatusReport:
    status = TaskStatus(state=state, **more)  # type: ignore[arg-type]
    return StatusReport(namespace="default", name=name, uid=uid or f"uid-{name}", status=status)


def stored(server: Running, name: str) -> Task:
    item = server.cache.get(TASK, "default", name)
    assert item is not None
    found: Task = item.obj
    return found


async def test_a_report_is_stored_whole(server: Running) -> None:
    await server.put(task("t", node="a"))
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    container = ContainerStatus(id="c1", pid=42)
    reported = report("t", TaskState.RUNNING, message="up", started_at=now, container=container)
    async with server.client(node="a") as agent:
        assert (await agent.report("a", [reported])).rejected == []
    found = stored(server, "t")
    assert found.status == reported.status
    assert found.spec.node == "a"
    assert found.metadata.uid == "uid-t"


async def test_reports_of_many_nodes_are_written_together(server: Running) -> None:
    for number in range(100):
        await server.put(task(f"t{number}", node=f"n{number % 10}"))
    before = await server.store.revision()
    clients = [server.client(node=f"n{number}") for number in range(10)]
    await asyncio.gather(*(client.__aenter__() for client in clients))
    try:
        await asyncio.gather(
            *(
                client.report(
                    f"n{node}",
                    [report(f"t{n}", TaskState.RUNNING) for n in range(node, 100, 10)],
                )
                for node, client in enumerate(clients)
            )
        )
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    assert {stored(server, f"t{n}").status.state for n in range(100)} == {TaskState.RUNNING}
    assert await server.store.revision() - before <= 20


async def test_what_is_not_the_nodes_to_say_is_rejected(server: Running) -> None:
    await server.put(task("theirs", node="b"))
    await server.put(task("unplaced"))
    await server.put(task("ended", node="a", state=TaskState.FAILED))
    await server.put(task("running", node="a", state=TaskState.RUNNING))
    await server.put(task("fine", node="a"))
    reports = [
        report("theirs", TaskState.RUNNING),
        report("unplaced", TaskState.RUNNING),
        report("ended", TaskState.RUNNING),
        report("running", TaskState.PREPARING),
        report("gone", TaskState.RUNNING),
        report("fine", TaskState.RUNNING, uid="of-an-earlier-one"),
        report("fine", TaskState.RUNNING),
    ]
    async with server.client(node="a") as agent:
        result = await agent.report("a", reports)
    assert [(r.name, r.uid, r.reason) for r in result.rejected] == [
        ("theirs", "uid-theirs", "OtherNode"),
        ("unplaced", "uid-unplaced", "OtherNode"),
        ("ended", "uid-ended", "Backwards"),
        ("running", "uid-running", "Backwards"),
        ("gone", "uid-gone", "NotFound"),
        ("fine", "of-an-earlier-one", "NotFound"),
    ]
    assert all(rejection.message for rejection in result.rejected)
    assert stored(server, "fine").status.state == TaskState.RUNNING
    assert stored(server, "theirs").status.state == TaskState.ASSIGNED


async def test_a_report_that_is_repeated_does_no_harm(server: Running) -> None:
    await server.put(task("t", node="a"))
    async with server.client(node="a") as agent:
        ended = report("t", TaskState.FAILED, error="exit code 1")
        await agent.report("a", [ended])
        before = await server.store.revision()
        assert (await agent.report("a", [ended])).rejected == []
    assert await server.store.revision() == before


async def test_two_words_on_a_task_in_one_request(server: Running) -> None:
    await server.put(task("t", node="a"))
    both = [report("t", TaskState.STARTING), report("t", TaskState.RUNNING)]
    async with server.client(node="a") as agent:
        assert (await agent.report("a", both)).rejected == []
    assert stored(server, "t").status.state == TaskState.RUNNING


class Overtaking(MemoryStore):
    """A store on which a controller is always a moment faster."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.ahead: Task | None = None

    async def write(self, writes: Sequence[Write]) -> list[int | Conflict]:
        if self.ahead is not None and self.times:
            from api.types import codec

            self.times -= 1
            self.ahead = changed(self.ahead, desired_state=TaskState.SHUTDOWN)
            self.ahead.metadata.annotations = {"times": str(self.times)}
            await self.commit([Write(write.key, codec.encode(self.ahead)) for write in writes])
        return await super().write(writes)


async def test_only_the_status_is_the_agents() -> None:
    """A controller says Shutdown while the agent says Running: both are kept."""
    store = Overtaking(times=3)
    async with running_server(store=store) as server, server.client(node="a") as agent:
        await server.put(task("t", node="a"))
        store.ahead = task("t", node="a")
        assert (await agent.report("a", [report("t", TaskState.RUNNING)])).rejected == []
        found = stored(server, "t")
        assert found.status.state == TaskState.RUNNING
        assert found.spec.desired_state == TaskState.SHUTDOWN


async def test_a_task_that_is_written_without_end_is_told_to_come_back() -> None:
    store = Overtaking(times=1000)
    async with running_server(store=store) as server, server.client(node="a") as agent:
        await server.put(task("t", node="a"))
        store.ahead = task("t", node="a")
        with pytest.raises(ApiError) as caught:
            await agent.report("a", [report("t", TaskState.RUNNING)])
        assert caught.value.code == 409


class Failing(MemoryStore):
    down = False

    async def write(self, writes: Sequence[Write]) -> list[int | Conflict]:
        if self.down:
            raise Unavailable("no leader")
        return await super().write(writes)


async def test_while_the_store_is_away_agents_are_told_to_try_again() -> None:
    store = Failing()
    async with running_server(store=store) as server, server.client(node="a") as agent:
        await server.put(task("t", node="a"))
        store.down = True
        with pytest.raises(ApiError) as caught:
            await agent.report("a", [report("t", TaskState.RUNNING)])
        assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
        store.down = False
        await agent.report("a", [report("t", TaskState.RUNNING)])
        assert stored(server, "t").status.state == TaskState.RUNNING


@pytest.mark.parametrize("body", [{"items": [{"name": "t"}]}, {"items": 3}, []])
async def test_reports_that_make_no_sense_are_refused(server: Running, body: object) -> None:
    from tests.server.raw import request

    path, tls = "/nodes/a/statuses", server.tls(node="a")
    answer = await request(server, "POST", path, json=body, tls=tls)
    assert (answer.code, (await answer.json())["reason"]) == (400, "BadRequest")


async def test_no_reports_are_fine(server: Running, admin: Client) -> None:
    async with server.client(node="a") as agent:
        assert (await agent.report("a", [])).rejected == []
