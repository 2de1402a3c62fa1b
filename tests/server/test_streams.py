"""Logs and exec: bytes between a client and a fake agent, through the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from api.client import ApiError, Client, Pipe, Unreachable
from api.types.assignment import (
    CLOSE,
    RESIZE,
    STATUS,
    STDERR,
    STDIN,
    STDOUT,
    SessionRequest,
    StreamRequest,
)
from api.types.task import TaskState
from tests.server.harness import Running, task

SUCCESS = msgspec.json.encode({"status": "Success"})
Serve = Callable[[Pipe, StreamRequest], Awaitable[None]]


def failure(message: str, **more: Any) -> bytes:
    return msgspec.json.encode({"status": "Failure", "message": message, **more})


@contextlib.asynccontextmanager
async def agent(server: Running, serve: Serve, *, node: str = "a") -> AsyncIterator[None]:
    """A node that is connected, and answers stream requests with `serve`."""
    async with server.client(node=node) as client:
        await client.open_session(node, SessionRequest())
        messages = client.assignments(node)
        await anext(messages)

        async def answer() -> None:
            async for message in messages:
                if message.stream is not None:
                    async with await client.dial_stream(node, message.stream.id) as pipe:
                        await serve(pipe, message.stream)

        answering = asyncio.create_task(answer())
        try:
            yield
        finally:
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
            await messages.aclose()


@pytest.fixture
async def running(server: Running) -> None:
    await server.put(task("web-1-abcde", node="a", state=TaskState.RUNNING))


async def read(client: Client, **options: Any) -> bytes:
    return b"".join([part async for part in client.logs("default", "web-1-abcde", **options)])


async def refused(awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


# Logs


@pytest.mark.usefixtures("running")
async def test_output_comes_as_it_is(server: Running, admin: Client) -> None:
    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        await pipe.send(STDOUT, b"one\n")
        await pipe.send(STDERR, b"two\xff\n")
        await pipe.send(STATUS, SUCCESS)

    async with agent(server, serve):
        assert await read(admin) == b"one\ntwo\xff\n"


@pytest.mark.usefixtures("running")
async def test_the_agent_hears_what_is_wanted(server: Running, admin: Client) -> None:
    heard: list[StreamRequest] = []

    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        heard.append(wanted)
        await pipe.send(STATUS, SUCCESS)

    async with agent(server, serve):
        await read(admin)
        since = "2026-01-31T12:00:00Z"
        await read(admin, follow=True, tail=0, since=since, timestamps=True)
    plain, full = heard
    assert (plain.verb, plain.task_uid, plain.tail) == ("log", "uid-web-1-abcde", -1)
    assert (full.follow, full.tail, full.since, full.timestamps) == (True, 0, since, True)
    assert plain.id != full.id


@pytest.mark.usefixtures("running")
async def test_following_goes_on_until_the_reader_leaves(server: Running, admin: Client) -> None:
    left = asyncio.Event()

    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        await pipe.send(STDOUT, b"first\n")
        async for _ in pipe.frames():
            pass
        left.set()

    async with agent(server, serve):
        output = admin.logs("default", "web-1-abcde", follow=True)
        assert await anext(output) == b"first\n"
        await output.aclose()
        await left.wait()


@pytest.mark.usefixtures("running")
async def test_an_agent_that_cannot_says_why(server: Running, admin: Client) -> None:
    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        said = failure("the engine is down", reason="ServiceUnavailable", code=502)
        await pipe.send(STATUS, said)

    async with agent(server, serve):
        error = await refused(read(admin))
    assert (error.code, error.message) == (502, "the engine is down")


@pytest.mark.usefixtures("running")
async def test_output_that_breaks_off_does_not_look_whole(server: Running, admin: Client) -> None:
    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        await pipe.send(STDOUT, b"half a l")

    async with agent(server, serve):
        with pytest.raises(Unreachable, match="broke off"):
            await read(admin)


async def test_a_node_that_is_not_there_is_named(server: Running) -> None:
    await server.put(task("web-1-abcde", node="a", state=TaskState.RUNNING))
    async with server.client(patience=0) as admin:
        error = await refused(read(admin))
    assert (error.code, error.reason) == (503, "ServiceUnavailable")
    assert "node a is no longer part of the cluster" in error.message


async def test_a_task_without_a_node_has_no_output(server: Running, admin: Client) -> None:
    waiting = task("web-1-abcde", state=TaskState.PENDING)
    waiting.status.message = "no suitable node"
    await server.put(waiting)
    error = await refused(read(admin))
    assert error.code == 400
    assert "it is Pending (no suitable node)" in error.message


async def test_a_task_that_is_not_there(admin: Client) -> None:
    assert (await refused(read(admin))).message == "task default/web-1-abcde does not exist"


# Exec


async def echo(pipe: Pipe, wanted: StreamRequest) -> None:
    """Says back what it hears, until its input ends."""
    async for channel, data in pipe.frames():
        if channel == CLOSE:
            break
        await pipe.send(STDOUT if channel == STDIN else STDERR, data)
    await pipe.send(STATUS, SUCCESS)


@pytest.mark.usefixtures("running")
async def test_bytes_go_both_ways(server: Running, admin: Client) -> None:
    async with (
        agent(server, echo),
        admin.exec("default", "web-1-abcde", ["sh"], stdin=True, tty=True) as pipe,
    ):
        await pipe.send(STDIN, b"\x00\xffabc")
        await pipe.resize(80, 24)
        await pipe.end_input()
        frames = [frame async for frame in pipe.frames()]
    assert frames == [
        (STDOUT, b"\x00\xffabc"),
        (STDERR, b'{"Width":80,"Height":24}'),
        (STATUS, SUCCESS),
    ]
    assert RESIZE == 4


@pytest.mark.usefixtures("running")
async def test_the_command_comes_word_by_word(server: Running, admin: Client) -> None:
    heard: list[StreamRequest] = []

    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        heard.append(wanted)
        await pipe.send(STATUS, SUCCESS)

    command = ["sh", "-c", "echo 'a b' & exit 3", "", "ü"]
    async with agent(server, serve), admin.exec("default", "web-1-abcde", command) as pipe:
        assert [channel async for channel, _ in pipe.frames()] == [STATUS]
    (wanted,) = heard
    assert (wanted.verb, wanted.command, wanted.tty, wanted.stdin) == (
        "exec",
        command,
        False,
        False,
    )


@pytest.mark.usefixtures("running")
async def test_much_goes_through(server: Running, admin: Client) -> None:
    async def feed(pipe: Pipe) -> None:
        for _ in range(64):
            await pipe.send(STDIN, b"x" * 65_536)
        await pipe.end_input()

    size = 0
    async with (
        agent(server, echo),
        admin.exec("default", "web-1-abcde", ["cat"], stdin=True) as pipe,
    ):
        feeding = asyncio.create_task(feed(pipe))
        async for channel, data in pipe.frames():
            size += len(data) if channel == STDOUT else 0
        await feeding
    assert size == 64 * 65_536


@pytest.mark.usefixtures("running")
async def test_the_agent_hears_when_the_client_leaves(server: Running, admin: Client) -> None:
    left = asyncio.Event()

    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        async for _ in pipe.frames():
            pass
        left.set()

    async with agent(server, serve):
        async with admin.exec("default", "web-1-abcde", ["sleep"]):
            pass
        await left.wait()


@pytest.mark.usefixtures("running")
async def test_the_client_hears_when_the_agent_leaves(server: Running, admin: Client) -> None:
    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        await pipe.send(STDOUT, b"bye")

    async with agent(server, serve), admin.exec("default", "web-1-abcde", ["x"]) as pipe:
        assert [frame async for frame in pipe.frames()] == [(STDOUT, b"bye")]


async def test_exec_needs_a_running_container(server: Running, admin: Client) -> None:
    await server.put(task("web-1-abcde", node="a", state=TaskState.FAILED))
    with pytest.raises(ApiError) as caught:
        async with admin.exec("default", "web-1-abcde", ["sh"]):
            pass
    assert caught.value.code == 400
    assert "has no running container: it is Failed" in caught.value.message


@pytest.mark.usefixtures("running")
async def test_exec_needs_a_command(admin: Client) -> None:
    with pytest.raises(ApiError, match="needs a command"):
        async with admin.exec("default", "web-1-abcde", []):
            pass


@pytest.mark.usefixtures("running")
async def test_a_stream_that_nobody_waits_for_is_refused(server: Running) -> None:
    async with server.client(node="a") as client:
        with pytest.raises(ApiError) as caught:
            await client.dial_stream("a", "guessed")
    assert caught.value.code == 404


@pytest.mark.usefixtures("running")
async def test_only_the_tasks_node_may_answer(server: Running, admin: Client) -> None:
    """Another node that learned the id still is another node."""

    async def serve(pipe: Pipe, wanted: StreamRequest) -> None:
        async with server.client(node="b") as other:
            with pytest.raises(ApiError) as caught:
                await other.dial_stream("b", wanted.id)
        assert caught.value.code == 404
        with pytest.raises(ApiError):  # nor does a second dial of the first
            async with server.client(node="a") as again:
                await again.dial_stream("a", wanted.id)
        await pipe.send(STDOUT, b"mine")
        await pipe.send(STATUS, SUCCESS)

    async with agent(server, serve):
        assert await read(admin) == b"mine"
