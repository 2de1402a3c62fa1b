"""The watch cache: every object of the cluster in memory, typed, indexed, as the store has it.

The model:

- One list, then one watch over the whole tree, in one task (`run`). So the cache stands at one
  revision at any moment, and moves only between two awaits of `run`: code that does not await
  sees one consistent state.
- A batch of changes is applied whole, indexes included; then listeners are called with it, then
  those who wait for its revision go on. Listeners are plain functions and must be quick.
- A value is decoded once, and `Item.obj` is shared by everyone: never change it, `codec.copy` it.
- Compaction, or a store that was set back, makes `run` list again. The difference to what the
  cache held is told as ordinary events, deletes included, so listeners need not know.
- A value that does not decode (a later version's, or damage) keeps the last good state in its
  place, or stays out where there is none; `unreadable` says which and why. Writes based on the
  stale state end in Conflict, so nothing is overwritten by who could not read it.
- The last `history` events are kept for watchers that come back: see `since`.
- Payloads of secrets pass by and are not kept.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import count
from operator import attrgetter
from sys import intern
from typing import Any, Final, Literal

import msgspec
import structlog

from api.store import keys
from api.store.contract import Change, Compacted, KeyValue, Store, StoreError, Unopened
from api.types import codec
from api.types.kinds import KINDS, Kind

_log = structlog.get_logger(__name__)

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"

Index = Callable[[Any], "str | Iterable[str] | None"]
Indexed = str | tuple[str, ...] | None  # what an index gave for an item
Listener = Callable[[Sequence["CacheEvent"]], None]
SessionListener = Callable[[str, bool], None]

_OBJECTS = keys.OBJECTS
_SESSIONS = keys.SESSIONS
_NOTHING: dict[str, Item] = {}
_RETRY_FIRST = 0.1  # seconds
_RETRY_LAST = 5.0
_BY_REVISION = attrgetter("revision")


# Items and events are many and live long, and no cycle can go through them: the collector need
# not look at them.


class Item(msgspec.Struct, gc=False, eq=False):
    """One object as the store has it."""

    kind: Kind
    namespace: str
    name: str
    key: str
    value: bytes  # as stored
    revision: int  # of its last change
    created: int  # revision at which it came to be
    obj: Any  # decoded; shared, so not to be changed
    _indexed: tuple[Indexed, ...] = ()
    _served: bytes | None = None

    def served(self) -> bytes:
        """JSON as the API serves it, with its resource version; made once."""
        if self._served is None:
            self._served = codec.served(self.kind, self.value, self.revision)
        return self._served

    def __repr__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"<{self.kind.name} {where} at {self.revision}>"


class CacheEvent(msgspec.Struct, frozen=True, gc=False, eq=False):
    type: EventType
    kind: Kind
    item: Item  # of a delete: the last state, at the revision of the delete
    old: Item | None
    revision: int


class _Index:
    """Keys by a value taken from the object; an item may be under none, one or several.

    Keys and not items, so that a change which keeps the value costs one comparison.
    """

    __slots__ = ("keys", "of")

    def __init__(self, of: Index) -> None:
        self.of = of
        self.keys: dict[str, dict[str, None]] = {}  # a dict, for its order

    def put(self, value: Indexed, key: str) -> None:
        for one in _each(value):
            found = self.keys.get(one)
            if found is None:
                self.keys[one] = {key: None}
            else:
                found[key] = None

    def drop(self, value: Indexed, key: str) -> None:
        for one in _each(value):
            found = self.keys[one]
            del found[key]
            if not found:
                del self.keys[one]


class _Table:
    """One kind's items."""

    __slots__ = ("by_namespace", "indexes", "items", "kind", "named", "order")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.items: dict[str, Item] = {}  # by store key
        self.by_namespace: dict[str, dict[str, Item]] = {}
        self.indexes: list[_Index] = []
        self.named: dict[str, _Index] = {}
        self.order: list[str] | None = None  # the keys sorted, until one comes or goes

    def put(self, item: Item, old: Item | None) -> None:
        key, obj = item.key, item.obj
        self.items[key] = item
        found = self.by_namespace.get(item.namespace)
        if found is None:
            found = self.by_namespace[item.namespace] = {}
        found[item.name] = item
        values = tuple([_indexed(index.of(obj)) for index in self.indexes])
        if old is not None and values == old._indexed:
            item._indexed = old._indexed
            return
        item._indexed = values = tuple(map(_shared, values))
        if old is None:
            self.order = None
            for index, value in zip(self.indexes, values, strict=True):
                index.put(value, key)
            return
        for index, value, before in zip(self.indexes, values, old._indexed, strict=True):
            if value != before:
                index.drop(before, key)
                index.put(value, key)

    def drop(self, item: Item) -> None:
        del self.items[item.key]
        found = self.by_namespace[item.namespace]
        del found[item.name]
        if not found:
            del self.by_namespace[item.namespace]
        self.order = None
        for index, value in zip(self.indexes, item._indexed, strict=True):
            index.drop(value, item.key)


class _Subscription:
    """A listener and the kinds it wants (None: all)."""

    def __init__(self, callback: Listener, kinds: set[Kind] | None) -> None:
        self.callback = callback
        self.names = None if kinds is None else frozenset(kind.name for kind in kinds)


class Cache:
    """See the module. `history`: how many events are kept for `since`, at least."""

    def __init__(self, store: Store, *, history: int = 20_000) -> None:
        self.revision = 0
        self.oldest = 0
        self.sessions: set[str] = set()
        self.unreadable: dict[str, str] = {}  # by store key: why
        self._store = store
        self._tables = {kind.name: _Table(kind) for kind in KINDS}
        self._by_plural = {kind.plural: self._tables[kind.name] for kind in KINDS}
        self._history_size = history
        self._history: list[CacheEvent] = []
        self._subscriptions: list[_Subscription] = []
        self._session_listeners: list[SessionListener] = []
        self._synced = asyncio.Event()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tie = count()

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Item | None:
        return self._tables[kind.name].by_namespace.get(namespace, _NOTHING).get(name)

    def in_doubt(self, kind: Kind, namespace: str, name: str) -> bool:
        """Whether it is not known here because what is stored of it can't be read: it may be there,
        so nothing that belongs to it may be cleared away."""
        return bool(self.unreadable) and keys.object_key(kind, namespace, name) in self.unreadable

    def items(self, kind: Kind, namespace: str = "") -> list[Item]:
        """All of a kind, or those of one namespace, in no order."""
        table = self._tables[kind.name]
        if not namespace:
            return list(table.items.values())
        return list(table.by_namespace.get(namespace, _NOTHING).values())

    def sorted_items(
        self, kind: Kind, namespace: str = "", *, after: str = "", limit: int = 0
    ) -> list[Item]:
        """In the order of their store keys, from behind the key `after`; `limit` 0 gives all."""
        table = self._tables[kind.name]
        if table.order is None:
            table.order = sorted(table.items)
        prefix = keys.kind_prefix(kind, namespace)
        order, items = table.order, table.items
        first = bisect_right(order, max(prefix, after))
        last = bisect_right(order, prefix + "\U0010ffff")
        if limit:
            last = min(last, first + limit)
        return [items[key] for key in order[first:last]]

    def by(self, kind: Kind, index: str, value: str) -> list[Item]:
        table = self._tables[kind.name]
        items = table.items
        return [items[key] for key in table.named[index].keys.get(value, ())]

    def count(self, kind: Kind, index: str, value: str) -> int:
        """How many `by` would give, without making the list."""
        return len(self._tables[kind.name].named[index].keys.get(value, ()))

    def by_values(self, kind: Kind, index: str) -> Collection[str]:
        """The values under which there is an item."""
        return list(self._tables[kind.name].named[index].keys)

    def since(self, revision: int) -> list[CacheEvent]:
        """The events after `revision`. Raises Compacted when they are not all kept any more."""
        if revision < self.oldest:
            raise Compacted(self.oldest)
        first = bisect_right(self._history, revision, key=_BY_REVISION)
        return self._history[first:]

    # Waiting and listening

    async def synced(self) -> None:
        """Until the first list is in."""
        await self._synced.wait()

    async def caught_up(self, revision: int) -> None:
        """Until the cache has seen `revision`: what you wrote at it, you can now read."""
        if revision <= self.revision:
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._tie), waiter))
        await waiter

    def add_index(self, kind: Kind, name: str, of: Index) -> None:
        """Keep items of `kind` by what `of(obj)` gives: a value, several, or None.

        Before `run`; `of` must be pure, quick and take any object that decodes.
        """
        table = self._tables[kind.name]
        if table.items:
            raise ValueError(f"index {name} of {kind.plural}: the cache holds objects already")
        index = _Index(of)
        table.indexes.append(index)
        table.named[name] = index

    def listen(self, callback: Listener, *, kinds: set[Kind] | None = None) -> Callable[[], None]:
        """Call `callback` with each batch of events from now on; returns how to stop that.

        A listener that is there before `run` gets the first list as ADDED events.
        """
        subscription = _Subscription(callback, kinds)
        self._subscriptions = [*self._subscriptions, subscription]

        def unsubscribe() -> None:
            self._subscriptions = [s for s in self._subscriptions if s is not subscription]

        return unsubscribe

    def listen_sessions(self, callback: SessionListener) -> Callable[[], None]:
        """Call `callback(node, alive)` when a node's session comes or goes."""
        self._session_listeners = [*self._session_listeners, callback]

        def unsubscribe() -> None:
            self._session_listeners = [s for s in self._session_listeners if s is not callback]

        return unsubscribe

    # Following the store

    async def run(self) -> None:
        """List, then watch, for ever. Only cancelling ends it."""
        delay = _RETRY_FIRST
        listed = False
        while True:
            try:
                if not listed:
                    await self._list()
                    listed, delay = True, _RETRY_FIRST
                await self._watch()
            except Compacted as error:
                _log.info("cache lists again", reason=str(error), at=self.revision)
                listed = False
            except StoreError as error:
                _log.warning("cache waits for the store", error=str(error), at=self.revision)
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(2 * delay, _RETRY_LAST)

    async def _watch(self) -> None:
        watch = self._store.watch(keys.ROOT, after=self.revision)
        try:
            async for changes in watch:
                if changes:
                    self._apply(changes)
        finally:
            await watch.aclose()

    def _apply(self, changes: Sequence[Change]) -> None:
        events: list[CacheEvent] = []
        sessions: list[tuple[str, bool]] = []
        for change in changes:
            key = change.key
            if key.startswith(_OBJECTS):
                self._apply_object(change, events)
            elif key.startswith(_SESSIONS):
                self._apply_session(key, change.value is not None, sessions)
        self._keep(events)
        self.revision = changes[-1].revision
        self._tell(events, sessions)

    def _apply_object(self, change: Change, events: list[CacheEvent]) -> None:
        key, value, revision, created, _ = change
        table = self._by_plural.get(key[len(_OBJECTS) :].partition("/")[0])
        if table is None:
            self._skip(key, "no kind of object that this version knows")
            return
        old = table.items.get(key)
        if value is None:
            if self.unreadable:
                self.unreadable.pop(key, None)
            if old is not None:
                events.append(_deleted(table, old, revision))
            return
        item = self._item(table, key, value, revision, created, old)
        if item is None:
            return
        table.put(item, old)
        kind = table.kind
        if old is None:
            events.append(CacheEvent(ADDED, kind, item, None, revision))
        else:
            events.append(CacheEvent(MODIFIED, kind, item, old, revision))

    def _item(
        self, table: _Table, key: str, value: bytes, revision: int, created: int,
        old: Item | None,
    ) -> Item | None:  # fmt: skip
        kind = table.kind
        try:
            obj = codec.decode(kind, value, revision)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._skip(key, value.why if isinstance(value, Unopened) else str(error))
            return None
        if self.unreadable:
            self.unreadable.pop(key, None)
        if old is not None:
            return Item(kind, old.namespace, old.name, old.key, value, revision, created, obj)
        try:
            _, namespace, name = keys.parse_object_key(key)
        except ValueError as error:
            self._skip(key, str(error))
            return None
        return Item(kind, intern(namespace), name, key, value, revision, created, obj)

    def _skip(self, key: str, why: str) -> None:
        if self.unreadable.get(key) != why:
            self.unreadable[key] = why
            _log.error("object not understood; its last readable state stays", key=key, why=why)

    def _apply_session(self, key: str, alive: bool, sessions: list[tuple[str, bool]]) -> None:
        node = key[len(_SESSIONS) :]
        if alive == (node in self.sessions):
            return
        if alive:
            self.sessions.add(node)
        else:
            self.sessions.discard(node)
        sessions.append((node, alive))

    def _keep(self, events: list[CacheEvent]) -> None:
        history, size = self._history, self._history_size
        history += events
        gone = len(history) - size
        if gone > size // 4:
            self.oldest = history[gone - 1].revision
            del history[:gone]

    def _tell(self, events: list[CacheEvent], sessions: list[tuple[str, bool]]) -> None:
        if events:
            chosen: dict[frozenset[str] | None, list[CacheEvent]] = {None: events}
            for subscription in self._subscriptions:
                names = subscription.names
                mine = chosen.get(names)
                if mine is None:
                    mine = [event for event in events if event.kind.name in names]  # type: ignore[operator]
                    chosen[names] = mine
                if mine:
                    try:
                        subscription.callback(mine)
                    except Exception:
                        _log.exception("a listener of the cache failed")
        for node, alive in sessions:
            for callback in self._session_listeners:
                try:
                    callback(node, alive)
                except Exception:
                    _log.exception("a session listener of the cache failed", node=node)
        while self._waiters and self._waiters[0][0] <= self.revision:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)

    # Listing (again)

    async def _list(self) -> None:
        objects = await self._store.list(keys.OBJECTS)
        sessions = await self._store.list(keys.SESSIONS, revision=objects.revision)
        first = not self._synced.is_set()
        back = objects.revision < self.revision
        events = self._difference(objects.items, objects.revision)
        changed: list[tuple[str, bool]] = []
        alive = {item.key for item in sessions.items}
        for node in sorted(self.sessions):
            if _SESSIONS + node not in alive:
                self._apply_session(_SESSIONS + node, False, changed)
        for key in sorted(alive):
            self._apply_session(key, True, changed)
        if first or back:
            # Nothing is kept from before: nobody can have watched from there, or what they
            # watched has been undone.
            self._history.clear()
            self.oldest = objects.revision
        else:
            self._keep(events)
        self.revision = objects.revision
        self._synced.set()
        self._tell(events, changed)

    def _difference(self, items: Sequence[KeyValue], revision: int) -> list[CacheEvent]:
        """Make the cache what `items` say; the events that lead there, by revision."""
        events: list[CacheEvent] = []
        there = {item.key for item in items}
        for key in [key for key in self.unreadable if key not in there]:
            del self.unreadable[key]
        for item in items:
            table = self._by_plural.get(item.key[len(_OBJECTS) :].partition("/")[0])
            old = table.items.get(item.key) if table is not None else None
            if table is not None and old is not None:
                if old.revision == item.revision and old.value == item.value:
                    continue
                if old.created != item.created:
                    # Another object of the same name: the delete between them is news too.
                    events.append(_deleted(table, old, item.revision))
            self._apply_object(
                Change(item.key, item.value, item.revision, item.created, item.lease), events
            )
        events.sort(key=_BY_REVISION)
        for table in self._tables.values():
            gone = [item for key, item in table.items.items() if key not in there]
            events += [_deleted(table, item, revision) for item in gone]
        return events


def _indexed(value: str | Iterable[str] | None) -> Indexed:
    if value is None or isinstance(value, str):
        return value
    return tuple(dict.fromkeys(value))


def _shared(value: Indexed) -> Indexed:
    """The same, in memory once for all items that have it."""
    return intern(value) if type(value) is str else value


def _each(value: Indexed) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _deleted(table: _Table, old: Item, revision: int) -> CacheEvent:
    table.drop(old)
    last = Item(
        table.kind, old.namespace, old.name, old.key, old.value, revision, old.created, old.obj
    )
    return CacheEvent(DELETED, table.kind, last, old, revision)
