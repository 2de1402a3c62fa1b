"""Owners: what belongs to an object goes when it goes, or is let go of.

    all of its owners are gone                     → deleted
    its owner is deleted, policy Foreground        → deleted first; then the owner goes
    its owner is deleted, policy Orphan            → loses the reference; then the owner goes

An owner that is being deleted in one of the latter ways is held by a finalizer of that name, which
the API server has set because something belongs to it. An owner made anew under the same name is
another one: its uid differs. Tasks and revisions go with their services in other ways, which need
no references.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import msgspec

from api.store import keys
from api.store.cache import DELETED, Cache, CacheEvent, Item
from api.store.contract import Store, Write
from api.types import codec
from api.types.kinds import BY_NAME, EVENT, KINDS, SECRET, Kind
from api.types.meta import FOREGROUND, ORPHAN, Metadata, OwnerReference
from controllers.reconcile.controller import DONE, Controller, Outcome

_Key = tuple[str, str, str]  # kind, namespace, name
_OWNED = tuple(kind for kind in KINDS if kind.declared)
_OWNERS = frozenset(kind for kind in KINDS if kind is not EVENT)
_HELD = frozenset({FOREGROUND, ORPHAN})


class OwnerController:
    name = "owners"

    def __init__(self, cache: Cache, store: Store, clock: Callable[[], datetime]) -> None:
        self._cache = cache
        self._store = store
        self._clock = clock
        self._controller: Controller[_Key] = Controller(self.name, self._reconcile)

    async def run(self) -> None:
        await self._cache.synced()
        stop = self._cache.listen(self._heard, kinds={*_OWNERS})
        try:
            for kind in _OWNED:
                for item in self._cache.items(kind):
                    self._add(item)
            await self._controller.run()
        finally:
            stop()

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            item = event.item
            metadata: Metadata = item.obj.metadata
            if event.type != DELETED:
                self._add(item)
            if event.type == DELETED or metadata.deletion_timestamp is not None:
                for dependent in self._dependents(item):
                    self._add(dependent)
            if event.type == DELETED or event.old is not None:
                before = metadata if event.old is None else event.old.obj.metadata
                for reference in before.owner_references:
                    owner = self._owner(item, reference)
                    if owner is not None:
                        self._add(owner)

    def _add(self, item: Item) -> None:
        """Queue what there may be something to do about."""
        metadata: Metadata = item.obj.metadata
        if metadata.owner_references or _HELD.intersection(metadata.finalizers):
            self._controller.queue.add((item.kind.name, item.namespace, item.name))

    async def _reconcile(self, key: _Key) -> Outcome:
        kind, namespace, name = key
        item = self._cache.get(BY_NAME[kind], namespace, name)
        if item is None:
            return DONE
        metadata: Metadata = item.obj.metadata
        if metadata.deletion_timestamp is not None:
            if _HELD.intersection(metadata.finalizers):
                await self._let_go(item)
        elif metadata.owner_references and item.kind in _OWNED and not self._is_kept(item):
            await self._commit(_deletion(item, self._clock()))
        return DONE

    def _is_kept(self, item: Item) -> bool:
        """Whether an owner is there that is not about to take it along."""
        for reference in item.obj.metadata.owner_references:
            owner = self._owner(item, reference)
            if owner is None:
                if self._in_doubt(item, reference):
                    return True
                continue
            metadata: Metadata = owner.obj.metadata
            if metadata.deletion_timestamp is None or FOREGROUND not in metadata.finalizers:
                return True
        return False

    async def _let_go(self, owner: Item) -> None:
        """Of one under deletion: its finalizer when nothing belongs to it; before, see to that."""
        metadata: Metadata = owner.obj.metadata
        dependents = list(self._dependents(owner))
        if not dependents:
            left = [name for name in metadata.finalizers if name not in _HELD]
            await self._commit(_with_finalizers(owner, left))
        elif ORPHAN in metadata.finalizers:
            for dependent in dependents:
                await self._commit([_without_owner(dependent, metadata.uid)])

    def _owner(self, item: Item, reference: OwnerReference) -> Item | None:
        kind = BY_NAME.get(reference.kind)
        if kind is None:
            return None
        owner = self._cache.get(kind, _namespace_of(kind, item), reference.name)
        return owner if owner is not None and owner.obj.metadata.uid == reference.uid else None

    def _in_doubt(self, item: Item, reference: OwnerReference) -> bool:
        kind = BY_NAME.get(reference.kind)
        return kind is not None and self._cache.in_doubt(
            kind, _namespace_of(kind, item), reference.name
        )

    def _dependents(self, owner: Item) -> Iterator[Item]:
        uid = owner.obj.metadata.uid
        for kind in _OWNED:
            for item in self._cache.by(kind, "owner", uid):
                if not owner.namespace or item.namespace == owner.namespace:
                    yield item

    async def _commit(self, writes: Sequence[Write]) -> None:
        """Raises Conflict, StoreError."""
        if writes:
            await self._cache.caught_up(await self._store.commit([*writes]))


def _namespace_of(kind: Kind, item: Item) -> str:
    """Owners are in the namespace of what they own, or in none."""
    return item.namespace if kind.namespaced else ""


def _deletion(item: Item, now: datetime) -> list[Write]:
    """The writes that delete the object, or ask its finalizers to let it go."""
    metadata: Metadata = item.obj.metadata
    if not metadata.finalizers:
        return _gone(item)
    asked = msgspec.structs.replace(metadata, deletion_timestamp=now)
    return [Write(item.key, codec.amended(item.kind, item.value, metadata=asked), item.revision)]


def _with_finalizers(item: Item, left: list[str]) -> list[Write]:
    if not left:
        return _gone(item)
    rest = msgspec.structs.replace(item.obj.metadata, finalizers=left)
    return [Write(item.key, codec.amended(item.kind, item.value, metadata=rest), item.revision)]


def _gone(item: Item) -> list[Write]:
    writes = [Write(item.key, None, item.revision)]
    if item.kind is SECRET:
        writes += [Write(key, None) for key in keys.payload_keys(item.obj)]
    return writes


def _without_owner(item: Item, uid: str) -> Write:
    metadata: Metadata = item.obj.metadata
    left = [reference for reference in metadata.owner_references if reference.uid != uid]
    rest = msgspec.structs.replace(metadata, owner_references=left)
    return Write(item.key, codec.amended(item.kind, item.value, metadata=rest), item.revision)
