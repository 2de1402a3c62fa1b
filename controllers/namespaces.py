"""The namespace controller: makes `default`, and empties a namespace that is to be deleted.

A namespace under deletion is emptied in the order in which things need each other: services
first, and what tasks may still read only when no task is left. While something is left, the
condition ContentsDeleted says what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from api.store import keys
from api.store.cache import Cache, CacheEvent, Item
from api.store.contract import ABSENT, Conflict, Store, Write
from api.types import codec
from api.types.kinds import CONFIG, EVENT, KINDS, NAMESPACE, REVISION, SECRET, SERVICE, TASK, Kind
from api.types.meta import Condition, Metadata, set_condition
from api.types.namespace import Namespace
from controllers.reconcile.controller import DONE, Controller, Outcome
from controllers.reconcile.ids import new_uid
from controllers.reconcile.recorder import Recorder

DEFAULT = "default"
FINALIZER = "skep.dev/contents"
CONTENTS_DELETED = "ContentsDeleted"

_CONTENTS = frozenset(kind for kind in KINDS if kind.namespaced)
_AFTER_TASKS = (SECRET, CONFIG, EVENT)


class NamespaceController:
    name = "namespaces"

    def __init__(
        self, cache: Cache, store: Store, recorder: Recorder, clock: Callable[[], datetime]
    ) -> None:
        self._cache = cache
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._ending: set[str] = set()  # namespaces under deletion
        # What leaves one leaves in thousands; each look costs what is left.
        self._controller = Controller(self.name, self._reconcile, pace=lambda _key: 0.1)

    async def run(self) -> None:
        await self._cache.synced()
        self._ending.clear()
        stop = self._cache.listen(self._heard, kinds={NAMESPACE, *_CONTENTS})
        try:
            self._controller.queue.add(DEFAULT)
            for item in self._cache.items(NAMESPACE):
                self._controller.queue.add(item.name)
            await self._controller.run()
        finally:
            stop()

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        add = self._controller.queue.add
        ending = self._ending
        for event in events:
            if event.kind is NAMESPACE:
                add(event.item.name)
            elif ending and event.item.namespace in ending:
                add(event.item.namespace)

    async def _reconcile(self, name: str) -> Outcome:
        item = self._cache.get(NAMESPACE, "", name)
        if item is None:
            self._ending.discard(name)
            if name == DEFAULT:
                await self._make_default()
            return DONE
        namespace: Namespace = item.obj
        if namespace.metadata.deletion_timestamp is None:
            self._ending.discard(name)
            return DONE
        self._ending.add(name)
        left = self._left(name)
        if not left:
            await self._release(item)
            return DONE
        await self._say(item, left)
        await self._empty(name, left)
        return DONE

    async def _make_default(self) -> None:
        namespace = Namespace(
            metadata=Metadata(
                name=DEFAULT,
                uid=new_uid(),
                generation=1,
                creation_timestamp=self._clock(),
                finalizers=[FINALIZER],
            )
        )
        key = keys.object_key(NAMESPACE, "", DEFAULT)
        revision = await self._store.commit([Write(key, codec.encode(namespace), ABSENT)])
        await self._cache.caught_up(revision)

    def _left(self, name: str) -> dict[Kind, list[Item]]:
        found = {kind: self._cache.items(kind, name) for kind in KINDS if kind in _CONTENTS}
        return {kind: items for kind, items in found.items() if items}

    async def _empty(self, name: str, left: dict[Kind, list[Item]]) -> None:
        """Delete what may go now. Tasks and revisions go with their services."""
        now = self._clock()
        writes = [
            write for item in left.get(SERVICE, ()) if (write := _deletion(item, now)) is not None
        ]
        if not any(kind in left for kind in (SERVICE, TASK, REVISION)):
            for kind in _AFTER_TASKS:
                for item in left.get(kind, ()):
                    write = _deletion(item, now)
                    if write is not None and kind is SECRET and write.value is None:
                        # Together or not at all: a secret without its bytes is none.
                        bytes_gone = [Write(key, None) for key in keys.payload_keys(item.obj)]
                        await self._store.commit([write, *bytes_gone])
                    elif write is not None:
                        writes.append(write)
        results = await self._store.write(writes)
        refused = [result for result in results if isinstance(result, Conflict)]
        if refused:
            raise refused[0]

    async def _say(self, item: Item, left: dict[Kind, list[Item]]) -> None:
        namespace: Namespace = item.obj
        words = ", ".join(
            f"{len(items)} {kind.plural if len(items) > 1 else kind.name.lower()}"
            for kind, items in left.items()
            if kind is not EVENT
        )
        if not words:
            return
        condition = Condition(
            type=CONTENTS_DELETED, status="False", reason="Deleting", message=f"left: {words}"
        )
        status = msgspec.structs.replace(
            namespace.status,
            phase="Terminating",
            conditions=set_condition(namespace.status.conditions, condition, now=self._clock()),
        )
        if status != namespace.status:
            value = codec.amended(NAMESPACE, item.value, status=status)
            revision = await self._store.commit([Write(item.key, value, item.revision)])
            await self._cache.caught_up(revision)

    async def _release(self, item: Item) -> None:
        """It is empty: take our finalizer, and with the last one, delete it."""
        metadata: Metadata = item.obj.metadata
        left = [one for one in metadata.finalizers if one != FINALIZER]
        if left and left == metadata.finalizers:
            return
        value = None
        if left:
            rest = msgspec.structs.replace(metadata, finalizers=left)
            value = codec.amended(NAMESPACE, item.value, metadata=rest)
        await self._store.commit([Write(item.key, value, item.revision)])


def _deletion(item: Item, now: datetime) -> Write | None:
    """The write that deletes the object, or asks its finalizers to let it go; None: asked."""
    metadata: Metadata = item.obj.metadata
    if not metadata.finalizers:
        return Write(item.key, None, item.revision)
    if metadata.deletion_timestamp is not None:
        return None
    asked = msgspec.structs.replace(metadata, deletion_timestamp=now)
    return Write(item.key, codec.amended(item.kind, item.value, metadata=asked), item.revision)
