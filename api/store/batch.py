"""Single writes from many callers, put together into commits.

A write waits at most `linger` seconds for others; then they go to `Store.write` together, and
each caller gets its own outcome. Batches overlap in flight, so there is no order between writes
of callers that do not wait for each other; a caller that awaits one write before it makes the
next has them in order.

Writes on a lease go in batches of their own, one for each lease: a lease that is gone fails
everything in its commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from api.store.contract import Conflict, Store, TooLarge, Unavailable, Write

_FULL = 2_048  # writes; a batch that has so many does not linger


class _Batch:
    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.callers: list[tuple[int, int, asyncio.Future[list[int | Conflict]]]] = []


class Writer:
    """Raises what the store raises, to every caller whose writes were in the batch.

    `linger` is in seconds; 0 takes what one turn of the loop brings.
    """

    def __init__(self, store: Store, linger: float = 0.002) -> None:
        self._store = store
        self._linger = linger
        self._open: dict[int, _Batch] = {}  # by lease
        self._flights: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._closed = False

    async def write(self, write: Write) -> int:
        """The revision of the write. Raises Conflict."""
        (outcome,) = await self.write_all([write])
        if isinstance(outcome, Conflict):
            raise outcome
        return outcome

    async def write_all(self, writes: Sequence[Write]) -> list[int | Conflict]:
        """Each by itself: its revision or its Conflict."""
        if not writes:
            return []
        leases = {write.lease for write in writes}
        if len(leases) == 1:
            return await self._join(leases.pop(), writes)
        outcomes: dict[int, int | Conflict] = {}
        for lease in leases:
            ats = [at for at, write in enumerate(writes) if write.lease == lease]
            done = await self._join(lease, [writes[at] for at in ats])
            outcomes.update(zip(ats, done, strict=True))
        return [outcomes[at] for at in range(len(writes))]

    async def close(self) -> None:
        """Send what is waiting, and wait until all is answered."""
        self._closed = True
        self._flush()
        while self._flights:
            await asyncio.wait(self._flights)

    async def _join(self, lease: int, writes: Sequence[Write]) -> list[int | Conflict]:
        if self._closed:
            raise Unavailable("the store's writer is closed")
        loop = asyncio.get_running_loop()
        batch = self._open.setdefault(lease, _Batch())
        future: asyncio.Future[list[int | Conflict]] = loop.create_future()
        batch.callers.append((len(batch.writes), len(writes), future))
        batch.writes += writes
        if len(batch.writes) >= _FULL:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._linger, self._flush)
        return await future

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batches, self._open = self._open, {}
        for batch in batches.values():
            flight = asyncio.get_running_loop().create_task(self._send(batch))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _send(self, batch: _Batch) -> None:
        try:
            outcomes = await self._store.write(batch.writes)
        except TooLarge as error:
            if len(batch.callers) > 1:
                # Nothing was written; each caller by itself finds out whose write it was.
                await self._send_apart(batch)
            else:
                _fail(batch, error)
        except asyncio.CancelledError:
            _fail(batch, Unavailable("the program is stopping; the write may have happened"))
            raise
        except Exception as error:
            _fail(batch, error)
        else:
            for first, size, future in batch.callers:
                if not future.done():
                    future.set_result(outcomes[first : first + size])

    async def _send_apart(self, batch: _Batch) -> None:
        for first, size, future in batch.callers:
            alone = _Batch()
            alone.writes = batch.writes[first : first + size]
            alone.callers = [(0, size, future)]
            await self._send(alone)


def _fail(batch: _Batch, error: Exception) -> None:
    for _, _, future in batch.callers:
        if not future.done():
            future.set_exception(error)
