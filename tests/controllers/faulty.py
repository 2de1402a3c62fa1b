"""A store that fails by chance: before a write, or after it, when nobody can know."""

from __future__ import annotations

import builtins
import random
from collections.abc import AsyncGenerator, Sequence

from api.store.contract import Change, Conflict, KeyValue, Page, Store, Unavailable, Write


class Faulty:
    """Wraps a store. Each write fails with probability `rate`, half of them after they happened;
    of a batch, a part may have happened."""

    def __init__(self, inner: Store, *, rate: float, seed: int) -> None:
        self._inner = inner
        self._chance = random.Random(seed)
        self.rate = rate
        self.failures = 0

    def _fails(self) -> bool:
        failed = self._chance.random() < self.rate
        self.failures += failed
        return failed

    async def commit(self, writes: Sequence[Write]) -> int:
        if self._fails():
            if self._chance.random() < 0.5:
                await self._inner.commit(writes)
            raise Unavailable("no answer (by chance)")
        if self._fails():
            raise Conflict([write.key for write in writes])
        return await self._inner.commit(writes)

    async def write(self, writes: Sequence[Write]) -> builtins.list[int | Conflict]:
        if self._fails():
            await self._inner.write(writes[: self._chance.randint(0, len(writes))])
            raise Unavailable("no answer (by chance)")
        through = [not self._fails() for _ in writes]
        done = iter(
            await self._inner.write([w for w, ok in zip(writes, through, strict=True) if ok])
        )
        return [
            next(done) if ok else Conflict([write.key])
            for write, ok in zip(writes, through, strict=True)
        ]

    async def get(self, key: str) -> KeyValue | None:
        return await self._inner.get(key)

    async def list(
        self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0
    ) -> Page:
        return await self._inner.list(prefix, after=after, limit=limit, revision=revision)

    def watch(self, prefix: str, *, after: int) -> AsyncGenerator[builtins.list[Change], None]:
        return self._inner.watch(prefix, after=after)

    async def grant(self, ttl: float) -> int:
        if self._fails():
            raise Unavailable("no answer (by chance)")
        return await self._inner.grant(ttl)

    async def keep_alive(self, lease: int) -> None:
        await self._inner.keep_alive(lease)

    async def revoke(self, lease: int) -> None:
        await self._inner.revoke(lease)

    async def compact(self, revision: int) -> None:
        await self._inner.compact(revision)

    async def revision(self) -> int:
        if self._fails():
            raise Unavailable("no answer (by chance)")
        return await self._inner.revision()

    async def close(self) -> None:
        await self._inner.close()
