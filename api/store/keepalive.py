"""Keep-alives of many leases over one stream.

etcd answers a stream's requests in their order, so the waiting callers are a queue. When the
stream breaks, all who wait hear Unavailable, and the next call opens a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import grpc
from aetcd import rpc
from grpc.aio import AioRpcError

from api.store.channel import Endpoint, Endpoints, contract_error
from api.store.contract import LeaseGone, StoreError, Unavailable


class _Stream:
    def __init__(self, endpoint: Endpoint, call: Any) -> None:
        self.endpoint = endpoint
        self.call = call
        self.waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.reader: asyncio.Task[None] | None = None


class KeepAlives:
    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._stream: _Stream | None = None
        self._writing = asyncio.Lock()  # gRPC takes one write at a time

    async def renew(self, lease: int) -> None:
        """Raises LeaseGone and Unavailable."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stream: _Stream | None = None
        try:
            async with asyncio.timeout(self._endpoints.timeout):
                async with self._writing:
                    stream = self._open()
                    stream.waiting.append((lease, answer))
                    await stream.call.write(rpc.LeaseKeepAliveRequest(ID=lease))
                await answer
        except TimeoutError:
            answer.cancel()
            error = Unavailable("etcd did not answer a lease's keep-alive in time")
            if stream is not None:
                self._break(stream, error)
            raise error from None
        except (AioRpcError, asyncio.InvalidStateError) as error:
            answer.cancel()
            broken = Unavailable(f"the stream of keep-alives broke: {error!r}")
            if stream is not None:
                self._break(stream, broken)
            raise broken from error
        finally:
            if not answer.done():
                answer.cancel()  # its place in the queue stays, for etcd will answer it

    async def close(self) -> None:
        stream = self._stream
        if stream is None:
            return
        self._break(stream, Unavailable("the connection to etcd is closed"))
        if stream.reader is not None:
            stream.reader.cancel()
            with suppress(asyncio.CancelledError):
                await stream.reader

    def _open(self) -> _Stream:
        if self._stream is None:
            endpoint = self._endpoints.current()
            self._stream = _Stream(endpoint, endpoint.lease.LeaseKeepAlive())
            self._stream.reader = asyncio.get_running_loop().create_task(self._read(self._stream))
        return self._stream

    async def _read(self, stream: _Stream) -> None:
        try:
            while True:
                response = await stream.call.read()
                if response is grpc.aio.EOF:
                    self._break(stream, Unavailable("etcd ended the stream of keep-alives"))
                    return
                _, answer = stream.waiting.popleft()
                if answer.done():
                    continue
                if response.TTL > 0:
                    answer.set_result(None)
                else:
                    answer.set_exception(LeaseGone(f"lease {response.ID:x} has expired"))
        except AioRpcError as error:
            self._break(stream, contract_error(error, stream.endpoint.url))

    def _break(self, stream: _Stream, error: StoreError) -> None:
        if self._stream is stream:
            self._stream = None
            self._endpoints.failed(stream.endpoint, error)
        stream.call.cancel()
        for _, answer in stream.waiting:
            if not answer.done():
                answer.set_exception(error)
        stream.waiting.clear()
