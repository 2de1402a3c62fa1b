"""The port, and the certificate it shows: which can be changed while connections are open.

A TLS context can't unlearn an authority, and it belongs to its listener. So a change is a second
listener on the same socket, and then the end of the first one: both take from one queue of
connections, none is refused in between, and those that are open go on with what they began with.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from aiohttp import web

_BACKLOG = 1024


class Listener:
    """Made by `serve`."""

    def __init__(self, runner: web.AppRunner, sockets: list[socket.socket]) -> None:
        self._runner = runner
        self._sockets = sockets

    @property
    def addresses(self) -> list[Any]:
        """As `getsockname` gives them."""
        return [each.getsockname() for each in self._sockets]

    async def use(self, tls: ssl.SSLContext) -> None:
        """For connections that come from now on."""
        before = list(self._runner.sites)
        for each in self._sockets:
            site = web.SockSite(self._runner, each.dup(), ssl_context=tls, backlog=_BACKLOG)
            await site.start()
        for old in before:
            await old.stop()

    async def cleanup(self) -> None:
        """Stop listening, end what is under way."""
        await self._runner.cleanup()
        for each in self._sockets:
            each.close()


async def serve(app: web.Application, *, host: str, port: int, tls: ssl.SSLContext) -> Listener:
    """Listen. `port` 0 takes a free one: see `addresses`. End with `cleanup()`. Raises OSError."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # a client that goes away ends its watch or log at once
        shutdown_timeout=2.0,
        keepalive_timeout=75.0,
    )
    await runner.setup()
    listener = Listener(runner, [])
    try:
        listener._sockets.extend(_bound(host, port))
        await listener.use(tls)
    except BaseException:
        await listener.cleanup()
        raise
    return listener


def _bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            each = socket.socket(family, kind, protocol)
            sockets.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.setblocking(False)
            each.bind(address)
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets
