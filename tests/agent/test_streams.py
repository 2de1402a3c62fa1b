"""Logs and processes started by hand, from the agent's end of a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.client import Unreachable
from api.types.assignment import CLOSE, RESIZE, STATUS, STDERR, STDIN, STDOUT, StreamRequest
from controllers.agent.drivers.simulated import SimulatedDriver
from controllers.agent.managers import Pipe
from controllers.agent.streams import Streams
from tests.agent.managers import FOREVER, NODE, Machine, ToyManagers

pytestmark = pytest.mark.looptime


class ToyPipe:
    """A stream's two ends; the test has the client's."""

    def __init__(self) -> None:
        self.printed: dict[int, bytes] = {}
        self.status: dict[str, Any] = {}
        self.over = asyncio.Event()
        self._frames: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._gone = False

    def give(self, channel: int, data: bytes) -> None:
        self._frames.put_nowait((channel, data))

    def leave(self) -> None:
        self._gone = True
        self._frames.put_nowait(None)

    async def send(self, channel: int, data: bytes) -> None:
        if self._gone:
            raise ConnectionError("the client has gone")
        if channel == STATUS:
            self.status = json.loads(data)
        else:
            self.printed[channel] = self.printed.get(channel, b"") + data

    async def frames(self) -> AsyncGenerator[tuple[int, bytes], None]:
        while frame := await self._frames.get():
            yield frame

    async def close(self) -> None:
        self.over.set()


class Station(ToyManagers):
    """Managers at which streams are waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.pipes: dict[str, ToyPipe] = {}

    async def dial_stream(self, node: str, id: str) -> Pipe:
        if id not in self.pipes:
            raise Unreachable("nobody waits for this stream")
        return self.pipes[id]


class Bench:
    def __init__(self, run_dir: Path) -> None:
        self.station = Station()
        self.machine = Machine(self.station, run_dir)
        self.driver = SimulatedDriver(cluster="toy", node=NODE, engine=self.machine.engine)
        self.streams = Streams(self.station, self.driver, NODE)

    def ask(self, verb: str, uid: str, **fields: Any) -> ToyPipe:
        id = f"{verb}-{len(self.station.pipes)}"
        pipe = self.station.pipes[id] = ToyPipe()
        self.streams.serve(StreamRequest(id=id, verb=verb, task_uid=uid, **fields))
        return pipe


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    it = Bench(tmp_path)
    yield it
    await it.streams.close()
    await it.driver.close()


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


async def test_output_comes_with_its_stream_and_then_the_end(bench: Bench) -> None:
    await bench.machine.plant("task", "echo out; echo bad >&2; exit 0")
    await asyncio.sleep(1)
    pipe = bench.ask("log", "task")
    await pipe.over.wait()
    assert pipe.printed == {STDOUT: b"out\n", STDERR: b"bad\n"}
    assert pipe.status["status"] == "Success"


async def test_following_ends_when_the_client_leaves(bench: Bench) -> None:
    await bench.machine.plant("task", f"echo one; {FOREVER}")
    pipe = bench.ask("log", "task", follow=True)
    await asyncio.sleep(60)
    assert pipe.printed == {STDOUT: b"one\n"}
    assert not pipe.over.is_set()
    pipe.leave()
    async with asyncio.timeout(1):
        await pipe.over.wait()


@pytest.mark.parametrize("verb", ["log", "exec"])
async def test_a_container_that_is_not_there(bench: Bench, verb: str) -> None:
    pipe = bench.ask(verb, "absent", command=["true"])
    await pipe.over.wait()
    assert (pipe.status["reason"], pipe.status["code"]) == ("NotFound", 404)
    assert "absent" in pipe.status["message"]


async def test_an_exit_code_is_told(bench: Bench) -> None:
    await bench.machine.plant("task")
    pipe = bench.ask("exec", "task", command=shell("echo out; exit 3"))
    await pipe.over.wait()
    assert pipe.printed == {STDOUT: b"out\n"}
    assert pipe.status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_input_goes_in_until_it_is_closed(bench: Bench) -> None:
    await bench.machine.plant("task")
    pipe = bench.ask("exec", "task", command=["cat"], stdin=True)
    pipe.give(STDIN, b"hello ")
    pipe.give(STDIN, b"there")
    await asyncio.sleep(60)
    assert not pipe.over.is_set()
    pipe.give(CLOSE, bytes([STDIN]))
    await pipe.over.wait()
    assert pipe.printed == {STDOUT: b"hello there"}
    assert pipe.status["status"] == "Success"


@pytest.mark.parametrize("size", [b"", b"{}", b'{"Width": "wide", "Height": 1}', b"\xff"])
async def test_a_size_that_is_none_is_passed_over(bench: Bench, size: bytes) -> None:
    await bench.machine.plant("task")
    command = shell("read line; stty size")
    pipe = bench.ask("exec", "task", command=command, tty=True, stdin=True)
    pipe.give(RESIZE, b'{"Width": 100, "Height": 30}')
    pipe.give(RESIZE, size)
    pipe.give(STDIN, b"go\n")
    async with asyncio.timeout(5):
        await pipe.over.wait()
    assert pipe.printed[STDOUT].endswith(b"30 100\r\n")


async def test_a_client_that_leaves_ends_what_reads_its_input(bench: Bench) -> None:
    await bench.machine.plant("task")
    pipe = bench.ask("exec", "task", command=["cat"], stdin=True)
    await asyncio.sleep(1)
    pipe.leave()
    async with asyncio.timeout(1):
        await pipe.over.wait()


async def test_processes_nobody_waits_for_don_t_take_the_places_of_others(bench: Bench) -> None:
    """So many clients have gone away from `tail -f` that no more streams would be served."""
    await bench.machine.plant("task")
    for _ in range(3):
        left = [bench.ask("exec", "task", command=["tail", "-f", "log"]) for _ in range(200)]
        await asyncio.sleep(1)
        for pipe in left:
            pipe.leave()
        await asyncio.sleep(30)
        assert all(pipe.over.is_set() for pipe in left)
    pipe = bench.ask("exec", "task", command=shell("echo here"))
    async with asyncio.timeout(1):
        await pipe.over.wait()
    assert pipe.printed == {STDOUT: b"here\n"}


async def test_a_process_that_still_ends_is_waited_for(bench: Bench) -> None:
    """`ctl exec` without a terminal may have closed its end before the output has come."""
    await bench.machine.plant("task")
    pipe = bench.ask("exec", "task", command=shell("sleep 5; exit 4"), stdin=True)
    pipe._frames.put_nowait(None)
    await pipe.over.wait()
    assert pipe.status["details"]["causes"][0]["message"] == "4"


async def test_a_stream_that_nobody_waits_for_is_let_go(bench: Bench) -> None:
    bench.streams.serve(StreamRequest(id="late", verb="log", task_uid="task"))
    await asyncio.sleep(1)
    assert bench.streams._open == set()


async def test_the_engine_goes_away_while_it_is_asked(bench: Bench) -> None:
    bench.machine.engine.fail("its disk is full")
    pipe = bench.ask("log", "task")
    await pipe.over.wait()
    assert pipe.status["message"] == "its disk is full"
