"""Deletes objects: one, or many at once. What that means is decided in `deletion`."""

from __future__ import annotations

from collections.abc import Sequence

from api.server import status
from api.server.deletion import (
    NO_OPTIONS,
    DeleteOptions,
    owns,
    require_deletable,
    still_used,
    writes_of,
)
from api.server.documents import Preconditions
from api.server.resources import TRIES, Resources, Written
from api.store.cache import Cache, Item
from api.store.contract import Conflict, Store, Write
from api.types.kinds import SERVICE, Kind


class Deletions:
    """Reads and waits as `resources` does."""

    def __init__(self, store: Store, cache: Cache, resources: Resources) -> None:
        self._store = store
        self._cache = cache
        self._resources = resources

    async def one(
        self, kind: Kind, namespace: str, name: str, options: DeleteOptions = NO_OPTIONS
    ) -> Written:
        """Delete, or begin to: an object with finalizers goes when they are done.

        For a task it means that it shall be removed: its agent stops it first. Raises Failure,
        StoreError.
        """
        for _ in range(TRIES):
            item = self._resources.item(kind, namespace, name)
            self._resources.require(item, options.preconditions)
            writes, last = self.plan(item, options)
            if options.dry_run or not writes:
                return last._replace(revision=item.revision)
            try:
                revision = await self._store.commit(writes)
            except Conflict:
                self._resources.unless_insisted(item, options.preconditions)
                await self._resources.refresh()
                continue
            await self._resources.seen(revision)
            return last._replace(revision=revision)
        raise status.conflict(kind, namespace, name)

    async def every(
        self, items: Sequence[Item], options: DeleteOptions = NO_OPTIONS
    ) -> list[Written]:
        """Delete each of them; many in one commit. What others changed meanwhile is retried.

        Raises Failure for one that must not be deleted, before any is; StoreError.
        """
        going = {f"{item.namespace}/{item.name}" for item in items if item.kind is SERVICE}
        options = options._replace(leaving=options.leaving | going)
        plans = [(item, *self.plan(item, options)) for item in items]
        if options.dry_run:
            return [last for _, _, last in plans]
        done: list[Written] = []
        single = [(item, writes, last) for item, writes, last in plans if len(writes) == 1]
        results = await self._store.write([writes[0] for _, writes, _ in single])
        newest = 0
        again: list[Item] = [item for item, writes, _ in plans if len(writes) > 1]
        for (item, _, last), result in zip(single, results, strict=True):
            if isinstance(result, Conflict):
                again.append(item)
            else:
                newest = max(newest, result)
                done.append(last._replace(revision=result))
        await self._resources.seen(newest)
        each = options._replace(preconditions=Preconditions())
        for item in again:
            try:
                done.append(await self.one(item.kind, item.namespace, item.name, each))
            except status.Failure as failure:
                if failure.code != 404:  # gone by itself is as good
                    raise
        return done

    def plan(self, item: Item, options: DeleteOptions = NO_OPTIONS) -> tuple[list[Write], Written]:
        """What to write to delete an object (nothing: it is on its way), and what is then left.

        Raises Failure where it must not be.
        """
        require_deletable(item, self._cache, options)
        owning = owns(item, self._cache)
        writes, value = writes_of(item, options, self._resources.now(), owns=owning)
        gone = any(write.key == item.key and write.value is None for write in writes)
        said = still_used(item, self._cache) if gone else []
        return writes, Written(
            kind=item.kind,
            namespace=item.namespace,
            name=item.name,
            value=value,
            revision=item.revision,
            warnings=said,
            changed=bool(writes),
            deleted=gone,
        )
