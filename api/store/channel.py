"""Connections to etcd: endpoints, failover, deadlines, and its errors in the contract's words.

The model: one endpoint is the current one. A call that it does not answer makes the next endpoint
the current one. A read is then tried there, within its deadline. A write is tried again only if
it certainly was not sent; else it may have happened, and the caller is told so (Unavailable).

Each endpoint has two connections, so that a flood on a watch does not hold up the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
import structlog
from aetcd import rpc
from grpc.aio import AioRpcError, insecure_channel, secure_channel

from api.store.contract import (
    Compacted,
    Full,
    LeaseGone,
    StoreError,
    TooLarge,
    Unavailable,
)

_log = structlog.get_logger(__name__)

_PAUSE = 0.1  # seconds between attempts
_OPTIONS = (
    # Lists are paged and watch responses come in fragments, so sizes stay sensible by
    # themselves; gRPC's 4 MiB would only turn one large value too many into an outage.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # etcd refuses pings more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
# What gRPC says of a request that never left, and etcd of one that it did not propose.
_NOT_SENT = ("failed to connect to all addresses", "etcdserver: no leader", "name resolution")
_AWAY = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class TLSFiles(NamedTuple):
    """Paths of PEM files: the authority of the server, and what the client shows it."""

    ca: Path
    cert: Path
    key: Path


class Endpoint:
    """One etcd server: stubs over connections of their own."""

    def __init__(self, url: str, tls: TLSFiles | None) -> None:
        self.url = url
        self._channels = [_channel(url, tls), _channel(url, tls)]
        calls, streams = self._channels
        self.kv = rpc.KVStub(calls)
        self.lease = rpc.LeaseStub(calls)
        self.maintenance = rpc.MaintenanceStub(calls)
        self.watch = rpc.WatchStub(streams)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class Endpoints:
    """`urls`: https://host:port, or unix:///path. `timeout`: seconds for a call in all."""

    def __init__(self, urls: Sequence[str], tls: TLSFiles | None, *, timeout: float) -> None:
        if not urls:
            raise ValueError("no etcd endpoint is given")
        for url in urls:
            _check(url, tls)
        self._urls = list(urls)
        self._tls = tls
        self._timeout = timeout
        self._endpoints: list[Endpoint] = []
        self._former: list[Endpoint] = []  # with calls that are still under way
        self._at = 0
        self._closed = False

    @property
    def timeout(self) -> float:
        return self._timeout

    def current(self) -> Endpoint:
        """Connects on first use: gRPC's channels belong to the loop they are made in."""
        if self._closed:
            raise Unavailable("the connection to etcd is closed")
        if not self._endpoints:
            self._endpoints = [Endpoint(url, self._tls) for url in self._urls]
        return self._endpoints[self._at]

    def failed(self, endpoint: Endpoint, error: Exception) -> None:
        """`endpoint` did not answer: use the next one, unless somebody does already."""
        current = self._endpoints[self._at] if self._endpoints else None
        if len(self._urls) > 1 and endpoint is current:
            self._at = (self._at + 1) % len(self._urls)
            _log.warning(
                "etcd endpoint fails; going to the next",
                endpoint=endpoint.url,
                next=self._urls[self._at],
                error=str(error),
            )

    async def call(
        self, service: str, method: str, request: Any, *, repeatable: bool, seconds: float = 0
    ) -> Any:
        """The answer of `service`.`method`. Raises the contract's errors.

        `seconds`: its deadline, where that is not the usual one.
        """
        loop = asyncio.get_running_loop()
        seconds = seconds or self._timeout
        deadline = loop.time() + seconds
        patience = seconds if len(self._urls) == 1 else seconds / 2
        while True:
            endpoint = self.current()
            left = min(patience, deadline - loop.time())
            try:
                return await getattr(getattr(endpoint, service), method)(request, timeout=left)
            except AioRpcError as error:
                mapped = contract_error(error, endpoint.url)
                if not isinstance(mapped, Unavailable) or isinstance(mapped, Full):
                    raise mapped from error
                self.failed(endpoint, mapped)
                may_repeat = repeatable or not_sent(error)
                if not may_repeat or loop.time() + _PAUSE >= deadline:
                    raise mapped from error
            await asyncio.sleep(_PAUSE)

    def reconnect(self) -> None:
        """New connections from now on, with what the certificates' files hold now.

        What is under way goes on over the old ones, watches until theirs ends by itself.
        """
        self._former += self._endpoints
        self._endpoints = []

    async def close(self) -> None:
        self._closed = True
        endpoints, self._endpoints, self._former = [*self._endpoints, *self._former], [], []
        for endpoint in endpoints:
            await endpoint.close()
        await _ended_calls()


async def _ended_calls() -> None:
    """Until gRPC's own tasks, one for each call that was cancelled, have seen its end."""
    mine = [
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "").startswith("_AioCall.")
    ]
    if mine:
        await asyncio.wait(mine, timeout=1.0)


def contract_error(error: AioRpcError, url: str) -> StoreError:
    """What a failed call is in the contract's words."""
    code, details = error.code(), error.details() or ""
    if "has been compacted" in details:
        return Compacted(0)
    if "lease not found" in details:
        return LeaseGone("the lease has expired")
    if "too many operations" in details or "request is too large" in details:
        return TooLarge(details.removeprefix("etcdserver: "))
    if "database space exceeded" in details:
        return Full(
            f"etcd at {url} is over its space quota and takes no writes: compact and defragment "
            "it, or raise --quota-backend-bytes, then disarm its NOSPACE alarm"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"etcd at {url} did not answer in time")
    if code in _AWAY:
        return Unavailable(f"etcd at {url}: {details or code.name}")
    return StoreError(f"etcd at {url}: {details or code.name} ({code.name})")


def not_sent(error: AioRpcError) -> bool:
    """Whether the call certainly had no effect."""
    details = error.details() or ""
    return error.code() is grpc.StatusCode.UNAVAILABLE and any(
        said in details for said in _NOT_SENT
    )


def _check(url: str, tls: TLSFiles | None) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and tls is None:
        raise ValueError(f"etcd endpoint {url} needs --etcd-ca, --etcd-cert and --etcd-key")
    if parts.scheme == "unix":
        return
    if parts.scheme not in ("https", "http") or not parts.hostname or not parts.port:
        raise ValueError(
            f"etcd endpoint {url!r} is not of the form https://host:port or unix:///path"
        )
    if parts.scheme == "http" and not _on_this_machine(parts.hostname):
        raise ValueError(
            f"etcd endpoint {url} is not encrypted, and what is in etcd must not cross a network"
            " in the open: give it TLS, and say https"
        )


def _on_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _channel(url: str, tls: TLSFiles | None) -> Any:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return insecure_channel(url, options=_OPTIONS)
    if parts.scheme == "http" or tls is None:
        return insecure_channel(parts.netloc, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes()
    )
    return secure_channel(parts.netloc, credentials, options=_OPTIONS)
