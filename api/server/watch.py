"""Watches: every change after a revision, told once to each who asked.

The model: one listener on the cache serves all watchers (`Watches`). A change is put into words
once, whatever the number of watchers, and the bytes are shared. Each watcher has a queue of such
bytes and a coroutine that writes them out; a watcher whose client does not read is cut off when
its queue is full, and comes back with the last version it saw.

A watcher with a selector sees an object that stops matching as DELETED and one that begins to as
ADDED, as in Kubernetes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from api.server.lists import selected
from api.server.selectors import Selection
from api.server.status import Failure, expired
from api.server.tables import PLAIN, Form, shown
from api.store.cache import ADDED, DELETED, MODIFIED, Cache, CacheEvent
from api.store.contract import Compacted
from api.types import codec
from api.types.kinds import Kind

QUEUE_BYTES = 64 * 1024 * 1024  # what a client may be behind, as a default


class Watcher:
    """One client's watch: its queue."""

    def __init__(
        self,
        kind: Kind,
        namespace: str,
        selection: Selection,
        queue_bytes: int,
        form: Form = PLAIN,
    ) -> None:
        self.form = form
        self._most = queue_bytes
        self.kind = kind
        self.namespace = namespace
        self.selection = selection
        self.ended = False  # cut off, or the server stops
        self._queue: list[bytes] = []
        self._bytes = 0
        self._there = asyncio.Event()
        self.on_overrun: Callable[[], None] | None = None

    @property
    def takes_all(self) -> bool:
        return not self.namespace and not self.selection and self.form.plain

    def begin(self, lines: bytes) -> None:
        """What the client asked for to begin with: of any size, as it is there already."""
        if lines:
            self._queue.append(lines)
            self._there.set()

    def put(self, lines: bytes) -> None:
        if self.ended:
            return
        self._queue.append(lines)
        self._bytes += len(lines)
        self._there.set()
        if self._bytes > self._most:
            self.end()
            self._queue.clear()
            if self.on_overrun is not None:
                self.on_overrun()

    def end(self) -> None:
        self.ended = True
        self._there.set()

    async def next(self, patience: float) -> bytes:
        """What has gathered; empty after `patience` seconds of nothing."""
        try:
            async with asyncio.timeout(patience):
                await self._there.wait()
        except TimeoutError:
            return b""
        self._there.clear()
        lines = b"".join(self._queue)
        self._queue.clear()
        self._bytes = 0
        return lines

    def tell(self, events: Iterable[Told]) -> None:
        lines = b"".join(told.line_for(self) for told in events)
        if lines:
            self.put(lines)


class Told:
    """A change in words, made when the first watcher wants it."""

    __slots__ = ("_lines", "_plain", "event")

    def __init__(self, event: CacheEvent) -> None:
        self.event = event
        self._plain: bytes | None = None
        self._lines: dict[Form, bytes] = {}

    def line(self, form: Form = PLAIN) -> bytes:
        if form is PLAIN:  # by far the most: not worth a look-up
            if self._plain is None:
                self._plain = _line(self.event.type, self.event.item.served())
            return self._plain
        line = self._lines.get(form)
        if line is None:
            line = _shown(self.event.type, self.event.item.kind, self.event.item.served(), form)
            self._lines[form] = line
        return line

    def line_for(self, watcher: Watcher) -> bytes:
        event = self.event
        if watcher.namespace and event.item.namespace != watcher.namespace:
            return b""
        form = watcher.form
        if not watcher.selection:
            return self.line(form)
        now = event.type != DELETED and watcher.selection.holds(event.item.obj)
        before = event.old is not None and watcher.selection.holds(event.old.obj)
        if not before:
            return self._as(ADDED, form) if now else b""
        return self._as(MODIFIED, form) if now else self._leaving(form)

    def _as(self, type: str, form: Form) -> bytes:
        if self.event.type == type:
            return self.line(form)
        return _shown(type, self.event.item.kind, self.event.item.served(), form)

    def _leaving(self, form: Form) -> bytes:
        """An object that no longer matches: its last state that did, at this change's version."""
        old = self.event.old
        if self.event.type == DELETED or old is None:
            return self.line(form)
        last = codec.served(old.kind, old.value, self.event.revision)
        return _shown(DELETED, old.kind, last, form)


class Watches:
    """All watchers of one server."""

    def __init__(self, cache: Cache, *, queue_bytes: int = QUEUE_BYTES) -> None:
        self._cache = cache
        self._queue_bytes = queue_bytes
        self._by_kind: dict[str, set[Watcher]] = {}
        self._unsubscribe = cache.listen(self._changed)

    def close(self) -> None:
        """End them all."""
        self._unsubscribe()
        for watchers in self._by_kind.values():
            for watcher in watchers:
                watcher.end()

    @property
    def count(self) -> int:
        return sum(map(len, self._by_kind.values()))

    def open(
        self,
        kind: Kind,
        namespace: str,
        selection: Selection,
        *,
        after: int,
        listed: bool,
        form: Form = PLAIN,
    ) -> Watcher:
        """A watcher of what comes after revision `after`; 0: of what there is, and then comes.

        `listed` ends what there is with the bookmark that says so. Raises Failure 410 where that
        revision is no longer kept. To be closed with `leave`.
        """
        watcher = Watcher(kind, namespace, selection, self._queue_bytes, form)
        if after:
            try:
                missed = self._cache.since(after)
            except Compacted as error:
                raise too_old(after, error.oldest) from None
            told = (Told(event) for event in missed if event.kind is kind)
            watcher.begin(b"".join(one.line_for(watcher) for one in told))
        else:
            items = selected(self._cache, kind, namespace, selection)
            watcher.begin(b"".join(_shown(ADDED, kind, i.served(), form) for i in items))
            if listed:
                watcher.begin(bookmark(kind, self._cache.revision, form, initial=True))
        # No await since the history was read: nothing can fall between it and what follows.
        self._by_kind.setdefault(kind.name, set()).add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._by_kind.get(watcher.kind.name, set()).discard(watcher)

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        by_kind: dict[str, list[Told]] = {}
        for event in events:
            if self._by_kind.get(event.kind.name):
                by_kind.setdefault(event.kind.name, []).append(Told(event))
        for name, told in by_kind.items():
            whole: bytes | None = None
            for watcher in list(self._by_kind[name]):
                if watcher.takes_all:
                    if whole is None:
                        whole = b"".join(one.line() for one in told)
                    watcher.put(whole)
                else:
                    watcher.tell(told)


def too_old(revision: int, oldest: int) -> Failure:
    return expired(
        f"version {revision} is too old to watch from: changes before {oldest} are no longer kept;"
        " list again and watch from there"
    )


def bookmark(kind: Kind, revision: int, form: Form = PLAIN, *, initial: bool = False) -> bytes:
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    version, name = form.names_of(kind)
    obj: dict[str, object] = {"apiVersion": version, "kind": name, "metadata": metadata}
    if form.form == "Table":
        obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "rows": []}
    elif form.form == "Partial":
        obj |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return _line("BOOKMARK", msgspec.json.encode(obj))


def error_line(failure: Failure) -> bytes:
    return _line("ERROR", msgspec.json.encode(failure.status()))


def _shown(type: str, kind: Kind, served: bytes, form: Form) -> bytes:
    return _line(type, served if form.plain else shown(form, kind, served, datetime.now(UTC)))


def _line(type: str, obj: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (type.encode(), obj)
