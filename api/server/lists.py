"""Lists: selected, in pages that belong together.

A list is the cache's state between two awaits, so it is one moment's. Its later pages are read
from the cache while that has not moved, and else from the store at the first page's revision; when
the store no longer has that, the client is told to begin again (410).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from api.server import tables
from api.server.selectors import Selection
from api.server.status import Failure, bad_request, expired
from api.server.tables import PLAIN, Form
from api.store.cache import Cache, Item
from api.store.contract import Compacted, Store
from api.store.keys import kind_prefix
from api.types import codec
from api.types.kinds import EVENT, TASK, Kind

_UNREADABLE = "the continue token can't be read; begin the list anew"
_PAGE = 500  # objects read from the store at once

# A field whose value names an index, so that a selection by it need not look at everything.
_INDEXED = {
    (TASK.name, "spec.node"): "node",
    (TASK.name, "status.state"): "state",
    (EVENT.name, "involvedObject.uid"): "object",
}
# The same, where the index is by namespace/value.
_INDEXED_IN_NAMESPACE = {
    (TASK.name, "spec.service"): "service",
    (TASK.name, "spec.revision"): "revision",
}


class Query(NamedTuple):
    kind: Kind
    namespace: str
    selection: Selection
    limit: int = 0
    after: str = ""  # a store key
    revision: int = 0  # of the first page


class Page(NamedTuple):
    items: list[bytes]  # as served
    revision: int
    next: str  # the token for the next page; empty: this was the last

    def body(self, kind: Kind, form: Form = PLAIN, now: datetime | None = None) -> bytes:
        """`now` is needed for tables, which say how old things are."""
        metadata: dict[str, str] = {"resourceVersion": str(self.revision)}
        if self.next:
            metadata["continue"] = self.next
        return tables.listed(form, kind, self.items, metadata, now or datetime.now(UTC))


class _Token(msgspec.Struct, array_like=True):
    revision: int
    after: str


def read_token(text: str) -> tuple[int, str]:
    """Raises Failure 400."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        token = msgspec.json.decode(raw, type=_Token)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise bad_request(_UNREADABLE) from None
    if token.revision <= 0:
        raise bad_request(_UNREADABLE)
    return token.revision, token.after


def selected(cache: Cache, kind: Kind, namespace: str, selection: Selection) -> list[Item]:
    """The objects that match, in the order of their keys."""
    candidates = _candidates(cache, kind, namespace, selection)
    if candidates is None:
        items = cache.sorted_items(kind, namespace)
        return [i for i in items if selection.holds(i.obj)] if selection else items
    kept = (
        item
        for item in candidates
        if (not namespace or item.namespace == namespace) and selection.holds(item.obj)
    )
    return sorted(kept, key=lambda item: item.key)


async def page(cache: Cache, store: Store, query: Query) -> Page:
    """Raises Failure 410 and StoreError."""
    if query.revision and query.revision != cache.revision:
        return await _from_store(store, query)
    items = selected(cache, query.kind, query.namespace, query.selection)
    if query.after:
        items = [item for item in items if item.key > query.after]
    following = ""
    if query.limit and len(items) > query.limit:
        items = items[: query.limit]
        following = _write_token(cache.revision, items[-1].key)
    return Page([item.served() for item in items], cache.revision, following)


async def _from_store(store: Store, query: Query) -> Page:
    prefix = kind_prefix(query.kind, query.namespace)
    found: list[bytes] = []
    after = query.after
    try:
        while True:
            read = await store.list(prefix, after=after, limit=_PAGE, revision=query.revision)
            for entry in read.items:
                obj = codec.decode(query.kind, entry.value, entry.revision)
                if query.selection.holds(obj):
                    if query.limit and len(found) == query.limit:
                        return Page(found, query.revision, _write_token(query.revision, after))
                    found.append(codec.served(query.kind, entry.value, entry.revision))
                after = entry.key
            if not read.more:
                return Page(found, query.revision, "")
    except Compacted:
        raise gone() from None


def gone() -> Failure:
    return expired("the list has changed too much since its first page; begin it anew")


def _candidates(
    cache: Cache, kind: Kind, namespace: str, selection: Selection
) -> Iterable[Item] | None:
    """A few objects among which all that match are; None where no index helps."""
    if not selection.fields:
        return None
    name = selection.exact("metadata.name")
    if name is not None and (namespace or not kind.namespaced):
        item = cache.get(kind, namespace, name)
        return [] if item is None else [item]
    for requirement in selection.fields:
        if requirement.negated or not requirement.value:
            continue
        field = (kind.name, requirement.path)
        if field in _INDEXED:
            return cache.by(kind, _INDEXED[field], requirement.value)
        if namespace and field in _INDEXED_IN_NAMESPACE:
            return cache.by(kind, _INDEXED_IN_NAMESPACE[field], f"{namespace}/{requirement.value}")
    return None


def _write_token(revision: int, after: str) -> str:
    raw = msgspec.json.encode(_Token(revision, after))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
