"""The client where the network or the managers fail it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from api.client import ApiError, Client, ClientError, Unreachable, Untrusted
from api.pki.authority import Authority
from api.pki.identity import Role
from api.pki.tls import client_context, server_context
from api.server import serve
from api.types.assignment import SessionRequest
from api.types.kinds import CONFIG, NODE, SERVICE
from tests.server.harness import Running, config, running_server, service
from tests.server.relay import relayed


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running_server() as running:
        yield running


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_manager_that_is_not_there_is_named(server: Running) -> None:
    url = f"https://127.0.0.1:{closed_port()}"
    async with Client(url, server.tls(), patience=0) as client:
        with pytest.raises(Unreachable, match=f"{url} refused the connection: no manager runs"):
            await client.version()


async def test_a_host_that_does_not_exist(server: Running) -> None:
    async with Client("https://no-such-host.invalid:1", server.tls(), patience=0) as client:
        with pytest.raises(Unreachable, match="no-such-host"):
            await client.version()


async def test_a_manager_of_another_cluster(server: Running, tmp_path: Path) -> None:
    other = Authority.create(tmp_path).issue("admin", Role.ADMIN)
    async with Client(server.url, client_context(other)) as client:
        with pytest.raises(Untrusted, match="of another authority"):
            await client.version()


@contextlib.asynccontextmanager
async def manager(authority: Authority, **issue: object) -> AsyncIterator[str]:
    """Something that listens with the authority's certificate."""
    tls = server_context(authority.issue("manager", Role.MANAGER, **issue))  # type: ignore[arg-type]
    runner = await serve(web.Application(), host="127.0.0.1", port=0, tls=tls)
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_manager_whose_certificate_has_expired(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=100)
    Authority.create(tmp_path, clock=lambda: past)
    then = Authority.load(tmp_path, clock=lambda: past)
    now = Authority.load(tmp_path)
    tls = client_context(now.issue("admin", Role.ADMIN))
    async with manager(then, days=30) as url, Client(url, tls) as client:
        with pytest.raises(Untrusted, match="has expired"):
            await client.version()


async def test_a_manager_under_a_name_it_does_not_have(server: Running) -> None:
    async with Client(f"https://127.0.0.2:{server.port}", server.tls(), patience=0) as client:
        # Not even listened to there, or not certified for it: never an answer.
        with pytest.raises(Unreachable):
            await client.version()


async def test_something_else_that_answers_is_no_manager(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    tls = client_context(authority.issue("admin", Role.ADMIN))
    async with manager(authority) as url, Client(url, tls) as client:
        with pytest.raises(ApiError, match="not as skep does"):
            await client.version()


async def test_a_manager_that_comes_back_is_waited_for(server: Running) -> None:
    async with relayed(server) as relay, relay.client(server, patience=30) as client:
        relay.refuse = True
        waiting = asyncio.create_task(client.list(SERVICE))
        await asyncio.sleep(0.05)  # some attempts fail meanwhile
        relay.refuse = False
        assert (await waiting).items == []


async def test_a_connection_that_breaks_does_not_repeat_a_create(server: Running) -> None:
    async with relayed(server) as relay, relay.client(server) as client:
        relay.refuse = True
        with pytest.raises(Unreachable):
            await client.create(config())


async def test_the_next_manager_is_asked_when_one_is_gone(server: Running) -> None:
    gone = f"https://127.0.0.1:{closed_port()}"
    async with Client([gone, server.url], server.tls(), patience=0) as client:
        assert client.server == gone
        await client.create(config())
        assert client.server == server.url
        await client.get(CONFIG, "default", "settings")


async def test_a_watch_moves_to_the_next_manager(server: Running) -> None:
    """Two ways to one server: the first is cut for good."""
    async with relayed(server) as relay:
        urls = [f"https://127.0.0.1:{relay.port}", server.url]
        async with Client(urls, server.tls()) as client, server.client() as admin:
            events = client.watch(CONFIG)
            await admin.create(config("a"))
            assert (await anext(events)).object["metadata"]["name"] == "a"
            relay.refuse = True
            relay.cut()
            await admin.create(config("b"))
            assert (await anext(events)).object["metadata"]["name"] == "b"
            await events.aclose()


async def test_a_watch_says_when_nobody_is_left(server: Running) -> None:
    async with relayed(server) as relay, relay.client(server, patience=0) as client:
        events = client.watch(CONFIG)
        async with server.client() as admin:
            await admin.create(config("a"))
        await anext(events)
        relay.refuse = True
        relay.cut()
        with pytest.raises(Unreachable):
            await anext(events)


async def test_a_long_list_is_read_in_pages(server: Running) -> None:
    async with server.client() as admin:
        manifests = [config(f"c{number:04}") for number in range(1203)]
        await admin.apply(manifests)
        listing = await admin.list(CONFIG)
        names = [item["metadata"]["name"] for item in listing.items]
        assert names == [f"c{number:04}" for number in range(1203)]


@pytest.mark.parametrize("url", ["http://127.0.0.1:7443", "127.0.0.1:7443", "", "https://"])
async def test_addresses_that_are_none_are_refused(server: Running, url: str) -> None:
    with pytest.raises(ClientError, match="looks like https"):
        Client(url, server.tls())


async def test_no_address_at_all(server: Running) -> None:
    with pytest.raises(ClientError, match="no manager's address"):
        Client([], server.tls())


async def test_a_client_that_is_closed_says_so(server: Running) -> None:
    with pytest.raises(ClientError, match="async with"):
        await server.client().version()


async def test_names_cannot_lead_elsewhere(server: Running) -> None:
    """A name is one part of a path, whatever is in it."""
    async with server.client() as admin:
        for name in ("../../nodes/a", "a?dryRun=All", "a%2fb", "a b"):
            with pytest.raises(ApiError) as caught:
                await admin.delete(NODE, "", name)
            assert caught.value.code == 404


async def test_causes_are_at_hand(server: Running) -> None:
    wrong = service()
    wrong["spec"]["replicas"] = -1
    async with server.client() as admin:
        with pytest.raises(ApiError) as caught:
            await admin.create(wrong)
    (cause,) = caught.value.causes
    assert cause["field"] == "spec.replicas"
    assert caught.value.details["name"] == "web"


async def test_a_heartbeat_goes_to_another_manager_before_the_session_ends(server: Running) -> None:
    """One manager hangs: its kernel still takes connections, and nothing answers."""
    tls = server.tls(node="n1")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        hangs = f"https://127.0.0.1:{mute.getsockname()[1]}"
        async with Client(server.url, tls) as client:
            reply = await client.open_session("n1", SessionRequest())
        start = asyncio.get_running_loop().time()
        async with Client([hangs, server.url], tls) as client:
            await client.heartbeat("n1")
            assert client.server == server.url
        taken = asyncio.get_running_loop().time() - start
        assert taken < 2 * reply.heartbeat_seconds, "three periods without one end the session"
