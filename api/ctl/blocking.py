"""One request at a time, without the asynchronous client, whose library takes longer to load than
an answer takes.

For what asks and ends: `get`, `describe`, `apply`, `version`, and the Tab key. What can be asked
is `api.calls`'; watching, streams and waiting are `api.client`'s. Nothing runs beside a request, so
requests block; the methods are coroutines only to be used where a `Client` is.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from collections.abc import Sequence
from urllib.parse import SplitResult, urlencode, urlsplit

from api.calls import ACCEPT, Calls, Request
from api.rest import (
    BUSY,
    PATIENCE,
    ApiError,
    ClientError,
    Unreachable,
    Untrusted,
    distrust,
    hung_up,
    not_reached,
    object_path,
    refusal,
)
from api.types.join import RENEW_HEADER
from api.types.kinds import TASK

_CONNECT_SECONDS = 5.0
_WAIT = 0.2  # seconds between tries


class _NotSent(Unreachable):
    """No connection came about, so whatever was to be done has not been."""


class BlockingClient(Calls):
    """One identity's requests to the managers at `servers`. Raises as `api.client.Client` does."""

    def __init__(
        self,
        servers: Sequence[str],
        tls: ssl.SSLContext,
        *,
        seconds: float = 0.0,
        patience: float = PATIENCE,
    ) -> None:
        """`seconds` has each request (0: as it needs), `patience` the tries to reach a manager."""
        self._servers = [_checked(server) for server in servers]
        if not self._servers:
            raise ClientError("no manager's address is given")
        self._tls = tls
        self._seconds = seconds
        self._patience = patience
        self._connection: http.client.HTTPSConnection | None = None

    @property
    def server(self) -> str:
        """The manager in use."""
        return f"https://{self._servers[0].netloc}"

    def tail(self, namespace: str, task: str, lines: int, *, seconds: float) -> bytes:
        """The last lines of a task's output, from its node, within `seconds` or not at all."""
        path = f"{object_path(TASK, namespace, task)}/log"
        request = Request("GET", path, {"tail": str(lines)}, None, ACCEPT, True, seconds, 0.0)
        quick = BlockingClient([self.server], self._tls, seconds=seconds)
        with contextlib.closing(quick):
            return quick._once(request)

    async def _carry(self, request: Request) -> bytes:
        return self._patiently(request)

    def _patiently(self, request: Request) -> bytes:
        """Again where that is safe, at the next manager where this one is not there."""
        patience = self._patience if request.patience is None else request.patience
        end = time.monotonic() + patience
        untried = len(self._servers)
        repeatable = request.repeatable
        while True:
            try:
                return self._once(request)
            except Unreachable as error:
                untrusted = isinstance(error, Untrusted)
                if untrusted or not (repeatable or isinstance(error, _NotSent)):
                    raise
                failure: ClientError = error
                self._servers.append(self._servers.pop(0))
            except ApiError as error:
                if error.code not in BUSY or not repeatable:
                    raise
                failure = error
            untried -= 1
            if untried > 0:
                continue
            if time.monotonic() + _WAIT > end:
                raise failure
            time.sleep(_WAIT)

    def _once(self, request: Request) -> bytes:
        kept = self._connection is not None
        connection = self._connected(self._seconds or request.seconds)
        query = f"?{urlencode(request.query)}" if request.query else ""
        try:
            connection.request(
                request.method, request.path + query, request.body, dict(request.headers)
            )
            response = connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and request.repeatable and not isinstance(error, TimeoutError):
                return self._once(request)  # it was closed for having been idle
            raise self._unreachable(error) from error
        self.told_to_renew = self.told_to_renew or bool(response.getheader(RENEW_HEADER))
        if response.status >= 400:
            raise refusal(response.status, said, self.server)
        return said

    def _connected(self, seconds: float) -> http.client.HTTPSConnection:
        """A connection whose every answer may take `seconds`. Raises Unreachable."""
        if self._connection is None:
            where = self._servers[0]
            connection = http.client.HTTPSConnection(
                where.hostname or "",
                where.port or 443,
                timeout=min(seconds, _CONNECT_SECONDS),
                context=self._tls,
            )
            try:
                connection.connect()
            except OSError as error:
                failure = self._unreachable(error)
                if isinstance(failure, Untrusted):
                    raise failure from error
                raise _NotSent(str(failure)) from error
            self._connection = connection
        self._connection.sock.settimeout(seconds)
        return self._connection

    def _unreachable(self, error: Exception) -> Unreachable:
        where = self.server
        trust = distrust(error)
        if trust:
            return Untrusted(f"{where}: {trust}")
        if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
            return hung_up(where)
        if isinstance(error, OSError):
            return not_reached(where, error)
        return Unreachable(f"the connection to {where} broke: {error or type(error).__name__}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _checked(server: str) -> SplitResult:
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname:
        raise ClientError(
            f"{server!r} is not a manager's address; it looks like https://127.0.0.1:7443"
        )
    return parts
