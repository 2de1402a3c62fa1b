"""The port's certificate is changed while connections are open."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from api.client import Client, Unreachable
from api.pki.authority import Authority
from api.pki.identity import Role
from api.pki.tls import client_context, server_context
from api.types.kinds import SERVICE
from tests.server.harness import Running, service


def serial(server: Running, tls: ssl.SSLContext, name: str) -> str:
    """Of the certificate that a new connection is shown."""
    import socket

    with (
        socket.create_connection(("127.0.0.1", server.port), 5) as plain,
        tls.wrap_socket(plain, server_hostname=name) as made,
    ):
        return str((made.getpeercert() or {})["serialNumber"])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])  # an address is not named in TLS
async def test_new_connections_see_the_new_certificate_and_open_ones_go_on(
    server: Running, admin: Client, name: str
) -> None:
    before = await asyncio.to_thread(serial, server, server.tls(), name)
    changes = admin.watch(SERVICE)
    first = asyncio.ensure_future(anext(changes))
    await admin.version()
    made = server.authority.issue("manager", Role.MANAGER)
    server.listener.use(server_context(made, strangers=True))
    assert await asyncio.to_thread(serial, server, server.tls(), name) != before
    async with server.client() as other:
        await other.create(service("web"))
    assert (await first).object["metadata"]["name"] == "web"
    await changes.aclose()


async def test_no_connection_is_refused_while_it_is_changed(server: Running) -> None:
    """As fast as it goes, from several sides, over many changes."""
    done = asyncio.Event()
    tls = server.tls()
    answered = 0

    async def ask() -> None:
        nonlocal answered
        while not done.is_set():
            async with Client(server.url, tls, patience=0) as client:
                await client.version()
                answered += 1

    askers = [asyncio.create_task(ask()) for _ in range(4)]
    for _ in range(20):
        made = server.authority.issue("manager", Role.MANAGER)
        server.listener.use(server_context(made, strangers=True))
        await asyncio.sleep(0.02)
    done.set()
    await asyncio.gather(*askers)
    assert answered > 10


async def test_an_authority_that_is_dropped_is_not_accepted_any_more(server: Running) -> None:
    other = Authority.generate()
    guest = client_context(
        other.issue("admin", Role.ADMIN)._replace(ca_pem=server.authority.ca_pem)
    )
    mine = server.authority.issue("manager", Role.MANAGER)
    both = mine._replace(ca_pem=mine.ca_pem + other.ca_pem)
    server.listener.use(server_context(both, strangers=True))
    async with Client(server.url, guest, patience=0) as client:
        await client.version()
    server.listener.use(server_context(mine, strangers=True))
    async with Client(server.url, guest, patience=0) as client:
        with pytest.raises(Unreachable):
            await client.version()
