"""The port, and the certificate it shows: which can be changed while connections are open.

A TLS context can't unlearn an authority, and a listener keeps the one it was begun with. But a
handshake can be moved to another context when the client's first message has come, which is where
servers of many names choose one. There each connection is given the context of the moment: its
certificate, and the authorities it is checked against. Connections that are open go on with what
they began with, and none is lost in between, as it would be with a second listener.
"""

from __future__ import annotations

import ssl
from typing import Any

from aiohttp import web

_BACKLOG = 1024


class Listener:
    """Made by `serve`."""

    def __init__(self, runner: web.AppRunner, tls: ssl.SSLContext) -> None:
        self._runner = runner
        self._tls = tls

    @property
    def addresses(self) -> list[Any]:
        """As `getsockname` gives them."""
        return self._runner.addresses

    def use(self, tls: ssl.SSLContext) -> None:
        """For connections that come from now on."""
        self._tls = tls

    async def cleanup(self) -> None:
        """Stop listening, end what is under way."""
        await self._runner.cleanup()

    def _choose(
        self, made: ssl.SSLObject | ssl.SSLSocket, name: str | None, begun: ssl.SSLContext
    ) -> None:
        """OpenSSL asks for each connection, also where the client named no server."""
        made.context = self._tls


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
    listener = Listener(runner, tls)
    tls.sni_callback = listener._choose
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls, backlog=_BACKLOG).start()
    except BaseException:
        await runner.cleanup()
        raise
    return listener
