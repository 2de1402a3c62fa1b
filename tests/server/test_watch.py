"""Watches: every change, once, in order, from where one was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from api.client import Client
from api.server import Settings
from api.types.kinds import CONFIG, SERVICE, TASK
from api.types.task import TaskState
from tests.server.harness import Running, changed, config, running_server, service, task
from tests.server.raw import opened, request
from tests.server.relay import relayed


class Stream:
    """Events of one watch as they come over the wire."""

    def __init__(self, response: Any) -> None:
        self._response = response

    async def next(self) -> tuple[str, Any]:
        line = await self._response.content.readline()
        if not line:
            raise EOFError
        event = msgspec.json.decode(line)
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        found = [await self.next() for _ in range(count)]
        return [(type, obj["metadata"]["name"]) for type, obj in found]


async def test_from_nothing_a_watch_begins_with_what_there_is(
    server: Running, admin: Client
) -> None:
    await admin.create(config("a"))
    async with opened(server, "/configs?watch=true") as response:
        stream = Stream(response)
        assert await stream.names(1) == [("ADDED", "a")]
        await admin.patch(CONFIG, "default", "a", {"data": {"x": "1"}})
        await admin.delete(CONFIG, "default", "a")
        assert await stream.names(2) == [("MODIFIED", "a"), ("DELETED", "a")]


async def test_from_a_version_a_watch_begins_with_what_came_after(
    server: Running, admin: Client
) -> None:
    await admin.create(config("a"))
    version = (await admin.list(CONFIG)).resource_version
    await admin.create(config("b"))
    path = f"/configs?watch=true&resourceVersion={version}"
    async with opened(server, path) as response:
        stream = Stream(response)
        assert await stream.names(1) == [("ADDED", "b")]
        await admin.create(config("c"))
        assert await stream.names(1) == [("ADDED", "c")]


async def test_nothing_is_missed_or_told_twice_while_much_changes(
    server: Running, admin: Client
) -> None:
    async def write() -> None:
        for number in range(200):
            await server.put(task(f"t{number}"))

    writer = asyncio.create_task(write())
    listing = await admin.list(TASK)
    seen = [item["metadata"]["name"] for item in listing.items]
    async for event in admin.watch(TASK, resource_version=listing.resource_version):
        seen.append(event.object["metadata"]["name"])
        if len(seen) == 200:
            break
    await writer
    assert sorted(seen) == sorted(f"t{number}" for number in range(200))


async def test_one_namespace(server: Running, admin: Client) -> None:
    await admin.create({"kind": "Namespace", "metadata": {"name": "shop"}})
    async with opened(server, "/namespaces/shop/configs?watch=true") as response:
        await admin.create(config("a"))
        await admin.create(config("b", namespace="shop"))
        assert await Stream(response).names(1) == [("ADDED", "b")]


async def test_an_object_comes_and_goes_with_its_selection(server: Running, admin: Client) -> None:
    first = task("t", node="a", state=TaskState.PREPARING)
    await server.put(first)
    path = "/tasks?watch=true&fieldSelector=status.state=Running"
    async with opened(server, path) as response:
        stream = Stream(response)
        await server.put(changed(first, state=TaskState.RUNNING))
        await server.put(changed(first, state=TaskState.RUNNING, desired_state=TaskState.SHUTDOWN))
        revision = await server.put(changed(first, state=TaskState.SHUTDOWN))
        assert await stream.names(2) == [("ADDED", "t"), ("MODIFIED", "t")]
        type, obj = await stream.next()
        assert type == "DELETED"
        assert obj["status"]["state"] == "Running"  # the last state that was selected
        assert obj["metadata"]["resourceVersion"] == str(revision)


async def test_labels_select_too(server: Running, admin: Client) -> None:
    await admin.create(config("a"))
    async with opened(server, "/configs?watch=true&labelSelector=l=x") as response:
        await admin.patch(CONFIG, "default", "a", {"metadata": {"labels": {"l": "x"}}})
        await admin.patch(CONFIG, "default", "a", {"metadata": {"labels": {"l": "y"}}})
        assert await Stream(response).names(2) == [("ADDED", "a"), ("DELETED", "a")]


async def test_all_watchers_share_the_bytes(server: Running) -> None:
    """A change is put into words once, however many listen."""
    import contextlib

    async with contextlib.AsyncExitStack() as stack:
        streams = [
            Stream(await stack.enter_async_context(opened(server, "/tasks?watch=true")))
            for _ in range(5)
        ]
        await server.put(task("t"))
        assert [await stream.names(1) for stream in streams] == [[("ADDED", "t")]] * 5


async def test_a_quiet_watch_says_where_it_is() -> None:
    settings = Settings(bookmark=0.01)
    async with running_server(settings=settings) as server:
        path = "/configs?watch=true&allowWatchBookmarks=true&resourceVersion=1"
        async with opened(server, path) as response:
            type, obj = await Stream(response).next()
            assert type == "BOOKMARK"
            assert obj == {
                "apiVersion": "skep.dev/v1",
                "kind": "Config",
                "metadata": {"resourceVersion": str(server.cache.revision)},
            }


async def test_the_end_of_the_beginning_is_marked_where_asked_for(
    server: Running, admin: Client
) -> None:
    await admin.create(config("a"))
    path = "/configs?watch=true&sendInitialEvents=true&allowWatchBookmarks=true"
    async with opened(server, path) as response:
        stream = Stream(response)
        assert await stream.names(1) == [("ADDED", "a")]
        type, obj = await stream.next()
        assert type == "BOOKMARK"
        assert obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_ends_when_its_time_is_up(server: Running) -> None:
    answer = await request(server, "GET", "/configs?watch=true&timeoutSeconds=1")
    assert (answer.code, answer.body) == (200, b"")


async def test_a_version_that_is_too_old_is_refused() -> None:
    async with running_server(history=1) as server:
        for number in range(10):
            await server.put(task(f"t{number}"))
        answer = await request(server, "GET", "/tasks?watch=true&resourceVersion=2")
        # Within the stream: so Kubernetes' clients list again instead of giving up.
        event = msgspec.json.decode(answer.body)
        said = event["object"]
        assert (answer.code, event["type"]) == (200, "ERROR")
        assert (said["code"], said["reason"]) == (410, "Expired")
        assert "list again and watch from there" in said["message"]


async def test_a_version_that_was_never_reached_is_refused(server: Running) -> None:
    answer = await request(server, "GET", "/tasks?watch=true&resourceVersion=999999")
    assert msgspec.json.decode(answer.body)["object"]["code"] == 410
    answer = await request(server, "GET", "/tasks?resourceVersion=999999")
    assert answer.code == 410
    assert "restored from an older backup" in (await answer.json())["message"]


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    settings = Settings(watch_queue=100_000)
    async with (
        running_server(settings=settings) as server,
        opened(server, "/tasks?watch=true") as response,
    ):
        big = "x" * 50_000
        for number in range(400):
            obj = task(f"t{number}")
            obj.status.message = big
            await server.put(obj)
        seen = 0
        with pytest.raises(Exception):  # noqa: B017 how the connection breaks is the system's
            while await response.content.readline():
                seen += 1
        assert seen < 400


# The client's side


async def first(events: AsyncGenerator[Any, None]) -> tuple[str, str]:
    event = await anext(events)
    return event.type, event.object["metadata"]["name"]


async def test_the_client_goes_on_where_a_connection_ended(server: Running) -> None:
    """The client has lost nothing."""
    async with relayed(server) as relay, relay.client(server) as admin:
        events = admin.watch(SERVICE)
        await admin.create(service("a"))
        assert await first(events) == ("ADDED", "a")
        relay.cut()
        await admin.create(service("b"))
        assert await first(events) == ("ADDED", "b")
        await events.aclose()


async def test_the_client_lists_again_when_history_is_gone() -> None:
    async with (
        running_server(history=1) as server,
        relayed(server) as relay,
        relay.client(server) as admin,
    ):
        await server.put(task("stays"))
        await server.put(task("goes"))
        events = admin.watch(TASK)
        assert {await first(events), await first(events)} == {("ADDED", "stays"), ("ADDED", "goes")}
        # What was on its way is lost with the connection, and too old to be asked for again.
        relay.cut()
        await server.remove(TASK, "default", "goes")
        for number in range(5):
            await server.put(task("new", node=f"n{number}"))
        told = [await first(events) for _ in range(2)]
        await events.aclose()
    assert told == [("DELETED", "goes"), ("ADDED", "new")]
