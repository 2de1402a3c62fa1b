"""What goes wrong behind the server, as its clients see it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from api.client import ApiError
from api.server.middleware import failures
from api.store.contract import Conflict, TooLarge, Unavailable, Write
from api.store.memory import MemoryStore
from api.types.kinds import CONFIG, SERVICE
from tests.server.harness import config, running_server, service
from tests.server.raw import request


class Failing(MemoryStore):
    """A store that can be made to fail."""

    error: Exception | None = None

    async def commit(self, writes: Sequence[Write]) -> int:
        self._fail()
        return await super().commit(writes)

    async def write(self, writes: Sequence[Write]) -> list[int | Conflict]:
        self._fail()
        return await super().write(writes)

    async def revision(self) -> int:
        self._fail()
        return await super().revision()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


async def refused(awaitable: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await awaitable
    return caught.value


async def test_without_the_store_writes_say_so_and_reads_go_on() -> None:
    store = Failing()
    async with running_server(store=store) as server, server.client(patience=0) as admin:
        await admin.create(service())
        store.error = Unavailable("no leader")
        for attempt in (
            admin.create(config()),
            admin.patch(SERVICE, "default", "web", {"spec": {"replicas": 2}}),
            admin.delete(SERVICE, "default", "web"),
            admin.apply([config()]),
        ):
            error = await refused(attempt)
            assert (error.code, error.reason) == (503, "ServiceUnavailable")
            assert "may or may not have been written" in error.message
            assert "repeating the request is safe" in error.message
        assert (await admin.get(SERVICE, "default", "web"))["spec"]["replicas"] == 1
        assert len((await admin.list(SERVICE)).items) == 1
        assert not await admin.ready()


async def test_a_client_is_told_when_to_come_back() -> None:
    store = Failing()
    async with running_server(store=store) as server:
        store.error = Unavailable("no leader")
        answer = await request(server, "POST", "/namespaces/default/configs", json=config())
        assert answer.headers["Retry-After"] == "1"
        assert (await answer.json())["details"]["retryAfterSeconds"] == 1


async def test_the_client_waits_for_the_store_to_come_back() -> None:
    class Recovering(Failing):
        left = 3

        def _fail(self) -> None:
            if self.error is not None and self.left:
                self.left -= 1
                raise self.error

    store = Recovering()
    async with running_server(store=store) as server, server.client() as admin:
        store.error = Unavailable("no leader")
        applied = await admin.apply([config()])
        assert applied.items[0].result == "created"
        assert store.left == 0


async def test_what_the_store_does_not_take_is_too_large() -> None:
    store = Failing()
    async with running_server(store=store) as server, server.client() as admin:
        store.error = TooLarge("a value of 2,000,000 bytes; the store takes 1,500,000")
        error = await refused(admin.create(config()))
        assert (error.code, error.reason) == (413, "RequestEntityTooLarge")
        assert "2,000,000 bytes" in error.message


async def test_a_fault_of_the_server_is_logged_and_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Failing()
    async with running_server(store=store) as server:
        store.error = RuntimeError("the inner workings")
        answer = await request(server, "POST", "/namespaces/default/configs", json=config())
        said = await answer.json()
        assert (answer.code, said["reason"]) == (500, "InternalError")
        assert "inner workings" not in said["message"]
        id = answer.headers["X-Request-Id"]
        assert id in said["message"]
    printed = capsys.readouterr().out
    assert "the inner workings" in printed
    assert id in printed


async def test_the_largest_config_goes_through() -> None:
    async with running_server() as server, server.client() as admin:
        await admin.apply([config(big="x" * 1_000_000)])
        assert len((await admin.get(CONFIG, "default", "settings"))["data"]["big"]) == 1_000_000


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b'{"metadata": []}', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"kind": "Config", "metadata": {"name": "x"}}', "application/json"),
        (b"a: [", "application/yaml"),
        (b"- a\n- b\n", "application/yaml"),
        (b"\xff", "application/yaml"),
        (b"{}\n---\n{}\n", "application/yaml"),
    ],
)
async def test_bodies_that_make_no_sense_are_refused(body: bytes, content_type: str) -> None:
    async with running_server() as server:
        headers = {"Content-Type": content_type}
        path = "/namespaces/default/services"
        answer = await request(server, "POST", path, data=body, headers=headers)
        said = await answer.json()
        assert answer.code == 400, said
        assert (said["kind"], said["reason"]) == ("Status", "BadRequest")


async def test_yaml_is_taken_too() -> None:
    manifest = b"apiVersion: skep.dev/v1\nkind: Config\nmetadata: {name: x}\ndata: {a: 'b'}\n"
    async with running_server() as server:
        headers = {"Content-Type": "application/yaml"}
        path = "/namespaces/default/configs"
        answer = await request(server, "POST", path, data=manifest, headers=headers)
        assert answer.code == 201
        assert (await answer.json())["data"] == {"a": "b"}


async def test_other_patches_are_refused_with_the_one_that_is_taken() -> None:
    async with running_server() as server:
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        path = "/namespaces/default/services/web"
        answer = await request(server, "PATCH", path, data=b"{}", headers=headers)
        assert answer.code == 415
        assert "application/merge-patch+json" in (await answer.json())["message"]


async def test_a_dry_run_is_all_or_nothing() -> None:
    async with running_server() as server:
        path = "/namespaces/default/configs?dryRun=maybe"
        answer = await request(server, "POST", path, json=config())
        assert answer.code == 400


async def test_a_client_that_goes_away_is_no_failure_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the middle of a stream, as agents and watches do."""
    ended = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first\n")
        try:
            while True:
                assert request.transport is not None
                request.transport.abort()
                await response.write(b"more\n")
                await asyncio.sleep(0)
        finally:
            ended.set()

    app = web.Application(middlewares=[failures])
    app.router.add_get("/", stream)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{port}/") as answer:
                    await answer.read()
        await ended.wait()
    finally:
        await runner.cleanup()
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
