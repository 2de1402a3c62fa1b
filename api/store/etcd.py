"""The store in etcd (3.4 or later).

The model:

- A commit is one transaction: a compare of each key's mod revision (0 where it must be absent).
  Which keys have changed is read after a refusal, and not in the failure branch: that would be
  sent, checked and logged by etcd with every commit, and few are refused. Where all compares hold
  by then (a key that had to be absent came and went), it is tried again.
- Many writes go in chunks, a few of them in flight. A chunk that fails is sent again without the
  writes that conflicted.
- A watch is one stream. It keeps the revision up to which everything was delivered, and asks for
  changes *from* that revision when it connects, dropping those of the revision itself. So etcd
  refuses it as compacted as soon as anything after that revision may be gone; asking from the
  next one would be accepted at the compacted revision, whose deletes etcd has forgotten.
- Responses that etcd cut into fragments are joined before they are delivered.
"""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

import grpc
import structlog
from aetcd import rpc
from grpc.aio import AioRpcError

from api.store.channel import Endpoint, Endpoints, TLSFiles, contract_error
from api.store.contract import (
    ABSENT,
    ANY,
    Change,
    Compacted,
    Conflict,
    KeyValue,
    LeaseGone,
    Page,
    TooLarge,
    Unavailable,
    Write,
)
from api.store.keepalive import KeepAlives
from api.store.writes import check, rounds

__all__ = ["EtcdStore", "Status", "TLSFiles"]

_log = structlog.get_logger(__name__)

MAX_OPS = 256  # etcd's own default is 128: start it with --max-txn-ops
_ETCD_MAX_OPS = 128
MAX_BYTES = 1_500_000  # below etcd's --max-request-bytes, 1.5 MiB
TIMEOUT = 5.0  # seconds for a call
_SLOW = 120.0  # seconds for upkeep
_CHUNKS_IN_FLIGHT = 8
_FIRST_PAGE = 256  # keys; later pages are as long as fits _PAGE_BYTES
_LONGEST_PAGE = 10_000
_PAGE_BYTES = 4 << 20
_RELISTS = 3
_RETRY_FIRST = 0.1  # seconds between attempts of a watch
_RETRY_LAST = 1.0

_EQUAL = rpc.Compare.EQUAL
_MOD = rpc.Compare.MOD
_DELETE = rpc.Event.DELETE


class Status(NamedTuple):
    version: str
    size: int  # bytes of the database file
    in_use: int  # of these, bytes that hold something
    leader: bool  # whether there is one
    errors: tuple[str, ...]  # alarms: NOSPACE, CORRUPT


class EtcdStore:
    """See `api.store.contract.Store`. Connects on first use."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TLSFiles | None = None,
        *,
        max_ops: int = MAX_OPS,
        max_bytes: int = MAX_BYTES,
        timeout: float = TIMEOUT,
    ) -> None:
        self._endpoints = Endpoints(endpoints, tls, timeout=timeout)
        self._max_ops = max_ops
        self._max_bytes = max_bytes
        self._slots = asyncio.Semaphore(_CHUNKS_IN_FLIGHT)
        self._keep_alives = KeepAlives(self._endpoints)

    def reconnect(self) -> None:
        """Read the certificates' files anew, for connections from now on."""
        self._endpoints.reconnect()

    # Reading

    async def get(self, key: str) -> KeyValue | None:
        response = await self._range(rpc.RangeRequest(key=key.encode()))
        return _key_value(response.kvs[0]) if response.kvs else None

    async def list(
        self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0
    ) -> Page:
        for _ in range(_RELISTS - 1):
            try:
                return await self._pages(prefix, after, limit, revision)
            except Compacted:
                # Compaction overtook a long list of now: begin again from a newer now.
                if revision:
                    raise
        return await self._pages(prefix, after, limit, revision)

    async def revision(self) -> int:
        request = rpc.RangeRequest(key=b"\0", limit=1, count_only=True)
        return int((await self._range(request)).header.revision)

    async def _pages(self, prefix: str, after: str, limit: int, revision: int) -> Page:
        start = prefix.encode() or b"\0"
        if after >= prefix and after:
            start = after.encode() + b"\0"
        end = _end(prefix.encode())
        items: list[KeyValue] = []
        size = _FIRST_PAGE
        while True:
            wanted = min(size, limit - len(items)) if limit else size
            request = rpc.RangeRequest(key=start, range_end=end, limit=wanted, revision=revision)
            try:
                response = await self._range(request)
            except Compacted:
                raise Compacted(revision + 1) from None
            revision = revision or response.header.revision
            items += map(_key_value, response.kvs)
            if not response.more or (limit and len(items) >= limit):
                return Page(items, revision, response.more)
            start = response.kvs[-1].key + b"\0"
            size = _next_page(response)

    async def _range(self, request: Any) -> Any:
        return await self._endpoints.call("kv", "Range", request, repeatable=True)

    # Writing

    async def commit(self, writes: Sequence[Write]) -> int:
        check(writes, self._max_ops, self._max_bytes)
        if not writes:
            return await self.revision()
        while True:
            response = await self._txn(writes)
            if response.succeeded:
                return int(response.header.revision)
            if lost := await self._changed(writes):
                raise Conflict(lost)

    async def write(self, writes: Sequence[Write]) -> builtins.list[int | Conflict]:
        outcomes: list[int | Conflict] = [0] * len(writes)
        for groups in rounds(writes, self._max_ops, self._max_bytes):
            if len(groups) == 1:
                await self._write_group(writes, groups[0], outcomes)
                continue
            done = await asyncio.gather(
                *(self._write_group(writes, group, outcomes) for group in groups),
                return_exceptions=True,
            )
            for error in done:
                if error is not None:
                    raise error
        return outcomes

    async def _write_group(
        self, writes: Sequence[Write], group: builtins.list[int], outcomes: builtins.list[Any]
    ) -> None:
        left = group
        while left:
            chunk = [writes[at] for at in left]
            try:
                async with self._slots:
                    response = await self._txn(chunk)
            except TooLarge:
                if len(chunk) <= _ETCD_MAX_OPS:
                    raise
                self._lower_max_ops()
                for first in range(0, len(left), _ETCD_MAX_OPS):
                    part = left[first : first + _ETCD_MAX_OPS]
                    await self._write_group(writes, part, outcomes)
                return
            if response.succeeded:
                revision = response.header.revision
                for at in left:
                    outcomes[at] = revision
                return
            lost = set(await self._changed(chunk))
            for at in left:
                if writes[at].key in lost:
                    outcomes[at] = Conflict([writes[at].key])
            left = [at for at in left if writes[at].key not in lost]

    def _lower_max_ops(self) -> None:
        if self._max_ops > _ETCD_MAX_OPS:
            _log.warning(
                "etcd takes fewer operations a transaction than it should: writes are slower; "
                "start it with --max-txn-ops",
                wanted=self._max_ops,
                now=_ETCD_MAX_OPS,
            )
            self._max_ops = _ETCD_MAX_OPS

    async def _txn(self, writes: Sequence[Write]) -> Any:
        try:
            return await self._endpoints.call("kv", "Txn", _request(writes), repeatable=False)
        except LeaseGone:
            leases = sorted({f"{write.lease:x}" for write in writes if write.lease})
            raise LeaseGone(f"a lease has expired, of: {', '.join(leases)}") from None

    async def _changed(self, writes: Sequence[Write]) -> builtins.list[str]:
        """The keys that are not at the revision that their write expects, read together."""
        compared = [write for write in writes if write.expect != ANY]
        reads = [
            rpc.RequestOp(request_range=rpc.RangeRequest(key=write.key.encode(), keys_only=True))
            for write in compared
        ]
        request = rpc.TxnRequest(success=reads)
        response = await self._endpoints.call("kv", "Txn", request, repeatable=True)
        found = []
        for write, read in zip(compared, response.responses, strict=True):
            kvs = read.response_range.kvs
            if (kvs[0].mod_revision if kvs else ABSENT) != write.expect:
                found.append(write.key)
        return found

    # Watching

    async def watch(
        self, prefix: str, *, after: int
    ) -> AsyncGenerator[builtins.list[Change], None]:
        delay = _RETRY_FIRST
        while True:
            endpoint = self._endpoints.current()
            try:
                async with aclosing(self._follow(endpoint, prefix, after)) as responses:
                    async for seen, changes in responses:
                        after, delay = seen, _RETRY_FIRST
                        if changes:
                            yield changes
            except Unavailable as error:
                self._endpoints.failed(endpoint, error)
                _log.info("watch connects again", prefix=prefix, after=after, error=str(error))
            await asyncio.sleep(delay)
            delay = min(2 * delay, _RETRY_LAST)

    async def _follow(
        self, endpoint: Endpoint, prefix: str, after: int
    ) -> AsyncGenerator[tuple[int, builtins.list[Change]], None]:
        """One stream's whole responses: the revision that each goes up to, and its changes."""
        # Without a leader a watch would stand still unnoticed.
        call = endpoint.watch.Watch(metadata=(("hasleader", "true"),))
        try:
            await self._create(call, endpoint, prefix, after)
            changes: list[Change] = []
            while True:
                response = await call.read()
                _check_watch(response, endpoint)
                for event in response.events:
                    kv = event.kv
                    if kv.mod_revision > after:
                        changes.append(_change(event, kv))
                if response.fragment:
                    continue
                if changes:
                    after = changes[-1].revision
                elif not response.events:
                    after = max(after, response.header.revision)  # a progress notification
                yield after, changes
                changes = []
        except AioRpcError as error:
            raise contract_error(error, endpoint.url) from error
        finally:
            call.cancel()

    async def _create(self, call: Any, endpoint: Endpoint, prefix: str, after: int) -> None:
        create = rpc.WatchCreateRequest(
            key=prefix.encode() or b"\0",
            range_end=_end(prefix.encode()),
            start_revision=max(after, 1),
            progress_notify=True,
            fragment=True,
        )
        try:
            async with asyncio.timeout(self._endpoints.timeout):
                await call.write(rpc.WatchRequest(create_request=create))
                response = await call.read()
        except TimeoutError:
            raise Unavailable(f"etcd at {endpoint.url} did not begin a watch in time") from None
        _check_watch(response, endpoint)
        if response.header.revision < after and (now := await self.revision()) < after:
            # Not a member that lags: the whole store is behind what was seen of it.
            raise Compacted(now)

    # Leases

    async def grant(self, ttl: float) -> int:
        request = rpc.LeaseGrantRequest(TTL=math.ceil(ttl))
        response = await self._endpoints.call("lease", "LeaseGrant", request, repeatable=False)
        return int(response.ID)

    async def keep_alive(self, lease: int) -> None:
        await self._keep_alives.renew(lease)

    async def revoke(self, lease: int) -> None:
        request = rpc.LeaseRevokeRequest(ID=lease)
        try:
            await self._endpoints.call("lease", "LeaseRevoke", request, repeatable=True)
        except LeaseGone:
            return

    # Upkeep

    async def compact(self, revision: int) -> None:
        request = rpc.CompactionRequest(revision=revision)
        try:
            await self._endpoints.call("kv", "Compact", request, repeatable=True)
        except Compacted:
            return

    async def status(self) -> Status:
        """How the current endpoint is."""
        found = await self._endpoints.call(
            "maintenance", "Status", rpc.StatusRequest(), repeatable=True
        )
        return Status(
            found.version, found.dbSize, found.dbSizeInUse, found.leader != 0, tuple(found.errors)
        )

    async def reclaim(self) -> None:
        """Make room in an etcd that is over its quota, and let it take writes again.

        Forgets all history, and holds up etcd's other work for seconds while it rewrites its
        file. Works on the current endpoint: for a cluster of several, do each.
        """
        now = await self.revision()
        compact = rpc.CompactionRequest(revision=now, physical=True)
        with suppress(Compacted):
            await self._endpoints.call("kv", "Compact", compact, repeatable=True, seconds=_SLOW)
        await self._maintain("Defragment", rpc.DefragmentRequest())
        raised = await self._maintain("Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.GET))
        for alarm in raised.alarms:
            if alarm.alarm == rpc.NOSPACE:
                disarm = rpc.AlarmRequest(
                    action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=rpc.NOSPACE
                )
                await self._maintain("Alarm", disarm)

    async def _maintain(self, method: str, request: Any) -> Any:
        return await self._endpoints.call(
            "maintenance", method, request, repeatable=True, seconds=_SLOW
        )

    async def close(self) -> None:
        await self._keep_alives.close()
        await self._endpoints.close()


def _request(writes: Sequence[Write]) -> Any:
    compares, puts = [], []
    for key, value, expect, lease in writes:
        name = key.encode()
        if expect != ANY:
            compares.append(rpc.Compare(result=_EQUAL, target=_MOD, key=name, mod_revision=expect))
        if value is None:
            puts.append(rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=name)))
        else:
            puts.append(
                rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=value, lease=lease))
            )
    return rpc.TxnRequest(compare=compares, success=puts)


def _check_watch(response: Any, endpoint: Endpoint) -> None:
    """Raises for a response that ends the watch."""
    if response is grpc.aio.EOF:
        raise Unavailable(f"etcd at {endpoint.url} ended a watch")
    if response.compact_revision:
        raise Compacted(response.compact_revision)
    if response.canceled:
        raise Unavailable(f"etcd at {endpoint.url} ended a watch: {response.cancel_reason}")


def _change(event: Any, kv: Any) -> Change:
    if event.type == _DELETE:
        return Change(kv.key.decode(), None, kv.mod_revision, 0, 0)
    return Change(kv.key.decode(), kv.value, kv.mod_revision, kv.create_revision, kv.lease)


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(kv.key.decode(), kv.value, kv.mod_revision, kv.create_revision, kv.lease)


def _next_page(response: Any) -> int:
    """Keys of the next page, so that it is about as large as a page should be."""
    average = max(1, int(response.ByteSize()) // len(response.kvs))
    return max(1, min(_LONGEST_PAGE, _PAGE_BYTES // average))


def _end(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`; etcd's `\\0` stands for no end."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return b"\0"
