"""What to do when nobody knows whether a write happened."""

from __future__ import annotations

import asyncio

from api.store.cache import Cache
from api.store.contract import Store

_LONGEST = 5.0  # seconds


async def settled(cache: Cache, store: Store) -> None:
    """Until the cache has seen all that the store had done when this was called.

    After an error that leaves a write in doubt, what the cache holds then tells. The wait is
    bounded: in an etcd that others use too, the newest revision may be of a key not ours, which
    no watch of ours brings. Raises StoreError while the store does not answer.
    """
    revision = await store.revision()
    try:
        async with asyncio.timeout(_LONGEST):
            await cache.caught_up(revision)
    except TimeoutError:
        return
