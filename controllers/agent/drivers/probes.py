"""One look at a container from outside, over the network: HTTP and TCP."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp

from api.types.template import HttpCheck, TcpCheck
from controllers.agent.drivers.contract import Outcome

_OUTPUT_LIMIT = 500  # characters; it becomes part of a task's status
_OK = range(200, 400)
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


async def look(check: HttpCheck | TcpCheck, address: str, seconds: float) -> Outcome:
    """Never raises for what the container does."""
    what = _words(check, address)
    if not address:
        return Outcome(False, f"{what}: the container has no address")
    try:
        async with asyncio.timeout(seconds):
            if isinstance(check, TcpCheck):
                _, writer = await asyncio.open_connection(address, check.port)
                writer.transport.abort()  # it has answered; no goodbyes to wait for
                return Outcome(True)
            return await _get(check, address, what)
    except TimeoutError:
        return Outcome(False, f"{what}: no answer within {seconds:g} s")
    except (OSError, aiohttp.ClientError, ValueError) as error:
        return Outcome(False, f"{what}: {_reason(error)}"[:_OUTPUT_LIMIT])


async def _get(check: HttpCheck, address: str, what: str) -> Outcome:
    # A check is a stranger each time: nothing is kept, followed or trusted. Certificates are not
    # verified, for they name the service and not the container's address.
    async with (
        aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as http,
        http.get(
            f"{check.scheme}://{address}:{check.port}{check.path}",
            allow_redirects=False,
            ssl=False,
            headers={"User-Agent": "skep-healthcheck"},
        ) as answer,
    ):
        wanted = check.expected_status
        if answer.status == wanted or (not wanted and answer.status in _OK):
            return Outcome(True)
        body = (await answer.content.read(_OUTPUT_LIMIT)).decode(errors="replace").strip()
        expected = f", not {wanted}" if wanted else ""
        text = f"{what}: status {answer.status}{expected}"
        return Outcome(False, f"{text}: {body}"[:_OUTPUT_LIMIT] if body else text)


def _words(check: HttpCheck | TcpCheck, address: str) -> str:
    if isinstance(check, TcpCheck):
        return f"port {check.port}"
    return f"GET {check.scheme}://{address or '…'}:{check.port}{check.path}"


def _reason(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return "what listens there does not speak TLS; use scheme http, or its other port"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error) or type(error).__name__
