"""Reading without the asynchronous client, whose library takes longer to load than an answer takes.

For what asks once and ends: `get`, `describe`, `status`, `version`, and the Tab key. Same paths,
words and errors as `api.client`, which does everything else. Nothing runs beside a request, so
requests block; the methods are coroutines only to be used where a `Client` is.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from api.rest import (
    BASE,
    BUSY,
    PAGE,
    PATIENCE,
    ApiError,
    ClientError,
    Document,
    Listing,
    Unreachable,
    Untrusted,
    distrust,
    given,
    hung_up,
    not_reached,
    object_path,
    refusal,
)
from api.types.join import RENEW_HEADER
from api.types.kinds import TASK, Kind

_ANSWER_SECONDS = 30.0
_WAIT = 0.2  # seconds between tries


class Reads(Protocol):
    """What a Reader and a Client both can do."""

    @property
    def server(self) -> str: ...

    async def get(self, kind: Kind, namespace: str, name: str) -> Document: ...

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing: ...

    async def components(self) -> Sequence[Document]: ...

    async def version(self) -> Document: ...


class Reader:
    """One identity's reads at the managers at `servers`. Raises as `api.client.Client` does."""

    def __init__(
        self,
        servers: Sequence[str],
        tls: ssl.SSLContext,
        *,
        seconds: float = _ANSWER_SECONDS,
        patience: float = PATIENCE,
    ) -> None:
        """`seconds` has each request, `patience` the tries to reach a manager."""
        self._servers = [_checked(server) for server in servers]
        if not self._servers:
            raise ClientError("no manager's address is given")
        self._tls = tls
        self._seconds = seconds
        self._patience = patience
        self.told_to_renew = False  # our certificate, by a manager
        self._connection: http.client.HTTPSConnection | None = None

    @property
    def server(self) -> str:
        """The manager in use."""
        return f"https://{self._servers[0].netloc}"

    async def get(self, kind: Kind, namespace: str, name: str) -> Document:
        """Raises ApiError 404 where there is none."""
        document: Document = self.ask(object_path(kind, namespace, name))
        return document

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        """All that match, read in pages of one moment; `namespace` "" is all of them."""
        query = given(labelSelector=label_selector, fieldSelector=field_selector, limit=PAGE)
        for _ in range(3):
            try:
                return self._pages(object_path(kind, namespace), query)
            except ApiError as error:
                if error.code != 410:
                    raise
        # It changes faster than it can be read in pages.
        del query["limit"]
        return self._pages(object_path(kind, namespace), query)

    def _pages(self, path: str, query: dict[str, str]) -> Listing:
        items: list[Document] = []
        more = ""
        while True:
            page = self.ask(path, query | given(**{"continue": more}))
            items += page["items"]
            more = page["metadata"].get("continue", "")
            if not more:
                return Listing(items, page["metadata"]["resourceVersion"])

    async def components(self) -> Sequence[Document]:
        items: Sequence[Document] = self.ask(f"{BASE}/components")["items"]
        return items

    def tail(self, namespace: str, task: str, lines: int, *, seconds: float) -> bytes:
        """The last lines of a task's output, from its node, within `seconds` or not at all."""
        quick = Reader([self.server], self._tls, seconds=seconds)
        with contextlib.closing(quick):
            return quick._once(f"{object_path(TASK, namespace, task)}/log?tail={lines}")

    async def version(self) -> Document:
        document: Document = self.ask("/version")
        return document

    def ask(self, path: str, query: dict[str, str] | None = None) -> Any:
        """The decoded JSON at `path`, from the first manager that answers."""
        url = f"{path}?{urlencode(query)}" if query else path
        end = time.monotonic() + self._patience
        untried = len(self._servers)
        while True:
            try:
                return msgspec.json.decode(self._once(url))
            except Untrusted:
                raise
            except Unreachable as error:
                failure: ClientError = error
                self._servers.append(self._servers.pop(0))
            except ApiError as error:
                if error.code not in BUSY:
                    raise
                failure = error
            untried -= 1
            if untried > 0:
                continue
            if time.monotonic() + _WAIT > end:
                raise failure
            time.sleep(_WAIT)

    def _once(self, url: str) -> bytes:
        kept = self._connection is not None
        try:
            return self._exchange(url)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and not isinstance(error, TimeoutError):
                return self._once(url)  # it was closed for having been idle
            raise self._unreachable(error) from error

    def _exchange(self, url: str) -> bytes:
        if self._connection is None:
            where = self._servers[0]
            self._connection = http.client.HTTPSConnection(
                where.hostname or "", where.port or 443, timeout=self._seconds, context=self._tls
            )
        self._connection.request("GET", url, headers={"Accept": "application/json"})
        response = self._connection.getresponse()
        body = response.read()
        self.told_to_renew = self.told_to_renew or bool(response.getheader(RENEW_HEADER))
        if response.status >= 400:
            raise refusal(response.status, body, self.server)
        return body

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
