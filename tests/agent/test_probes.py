"""HTTP and TCP checks against real servers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import trustme
from aiohttp import web

from api.types.template import HttpCheck, TcpCheck
from controllers.agent.drivers.probes import look

HERE = "127.0.0.1"


async def _answer(request: web.Request) -> web.Response:
    match request.path:
        case "/away":
            return web.Response(status=302, headers={"Location": "/ill"})
        case "/ill":
            return web.Response(status=503, text="the database is away\n")
    return web.Response(status=204)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/", 0, ""),
        ("/", 204, ""),
        ("/away", 0, ""),
        ("/", 200, "status 204, not 200"),
        ("/ill", 0, "status 503: the database is away"),
    ],
)
async def test_http(port: int, path: str, status: int, words: str) -> None:
    application = web.Application()
    application.router.add_get("/{any:.*}", _answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HERE, port).start()
        check = HttpCheck(port=port, path=path, expected_status=status)
        outcome = await look(check, HERE, 30)
        assert outcome.passed is not bool(words)
        assert outcome.output == (words and f"GET http://{HERE}:{port}{path}: {words}")
    finally:
        await runner.cleanup()


async def test_tcp(port: int) -> None:
    check = TcpCheck(port=port)
    outcome = await look(check, HERE, 30)
    assert not outcome.passed
    assert outcome.output == f"port {port}: connection refused: nothing listens there"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, HERE, port):
        assert (await look(check, HERE, 30)).passed


@pytest.mark.parametrize("check", [HttpCheck(port=80), TcpCheck(port=80)])
async def test_a_container_without_an_address_fails(check: HttpCheck | TcpCheck) -> None:
    outcome = await look(check, "", 1)
    assert not outcome.passed
    assert "has no address" in outcome.output


async def test_who_says_nothing_fails_in_time(port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, HERE, port):
        outcome = await look(HttpCheck(port=port), HERE, 0.5)
    assert outcome.output == f"GET http://{HERE}:{port}/: no answer within 0.5 s"


async def test_who_speaks_something_else_fails(port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-hello\r\n")
        writer.close()

    async with await asyncio.start_server(serve, HERE, port):
        outcome = await look(HttpCheck(port=port), HERE, 30)
    assert not outcome.passed
    assert outcome.output.startswith(f"GET http://{HERE}:{port}/: ")


@asynccontextmanager
async def tls(port: int, *names: str, expired: bool = False) -> AsyncIterator[ssl.SSLContext]:
    """A server whose certificate's authority nobody here knows."""
    ends = datetime(2001, 1, 1, tzinfo=UTC) if expired else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(*names, not_after=ends).configure_cert(context)
    application = web.Application()
    application.router.add_get("/{any:.*}", _answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HERE, port, ssl_context=context).start()
        yield context
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "words"), [("/", ""), ("/away", ""), ("/ill", "status 503: the database is away")]
)
async def test_https_of_an_authority_that_nobody_knows(port: int, path: str, words: str) -> None:
    """It passes, as in Kubernetes: the certificate is not verified, and redirects are answers."""
    async with tls(port, "web.example.com"):
        outcome = await look(HttpCheck(port=port, path=path, scheme="https"), HERE, 30)
    assert outcome.output == (words and f"GET https://{HERE}:{port}{path}: {words}")
    assert outcome.passed is not bool(words)


async def test_https_with_a_certificate_that_has_ended(port: int) -> None:
    async with tls(port, "web.example.com", expired=True):
        assert (await look(HttpCheck(port=port, scheme="https"), HERE, 30)).passed


async def test_https_without_tls_and_http_with_it_say_what_is_wrong(port: int) -> None:
    async with tls(port, "web.example.com"):
        plain = await look(HttpCheck(port=port), HERE, 30)
    assert not plain.passed
    application = web.Application()
    application.router.add_get("/", _answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HERE, port).start()
        sealed = await look(HttpCheck(port=port, scheme="https"), HERE, 30)
    finally:
        await runner.cleanup()
    assert not sealed.passed
    assert "does not speak TLS" in sealed.output
    assert plain.output


async def test_https_that_wants_a_certificate_of_the_client(port: int) -> None:
    """A check has none to show."""
    async with tls(port, "web.example.com") as context:
        context.verify_mode = ssl.CERT_REQUIRED
        outcome = await look(HttpCheck(port=port, scheme="https"), HERE, 30)
    assert not outcome.passed
    assert "the connection was closed without an answer" in outcome.output
