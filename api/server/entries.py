"""The items of a set on their way: what was given, what is there, what each becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from api.server import admission, dependencies
from api.server.admission import Draft
from api.server.documents import Document
from api.server.paths import Target
from api.server.resources import Resources, Written
from api.server.status import Cause
from api.store.cache import Item
from api.types.kinds import CONFIG, NAMESPACE, SECRET, SERVICE, Kind

_NEW = Written(NAMESPACE, "", "", b"", 0)

# Of many targets, those that the caller may not use with that method: their places, and why.
Refused = Callable[[Sequence[Target], str], list[tuple[int, str]]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    namespace: str = admission.DEFAULT_NAMESPACE  # of items that name none
    dry_run: bool = False
    prune: str = ""  # the name of the applied set; empty: no pruning
    full: bool = False  # answer with the objects
    confined: bool = False  # for who may not have containers reach their nodes


class Entry:
    """One item on its way: what was given, what is there, what it becomes."""

    __slots__ = (
        "draft",
        "given",
        "index",
        "item",
        "kind",
        "name",
        "namespace",
        "result",
        "written",
    )

    def __init__(self, index: int, kind: Kind, namespace: str, name: str, given: Document) -> None:
        self.index = index
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.given = given
        self.item: Item | None = None
        self.draft: Draft | None = None
        self.result = ""  # created | configured | unchanged
        self.written: Written = _NEW

    @property
    def id(self) -> tuple[str, str, str]:
        return self.kind.name, self.namespace, self.name


class World:
    """What there is, and what the batch brings: for warnings and namespaces."""

    def __init__(self, resources: Resources, entries: Sequence[Entry]) -> None:
        self._resources = resources
        self._entries = {entry.id: entry for entry in entries}

    def secret_keys(self, namespace: str, name: str) -> set[str] | None:
        return self._keys(SECRET, namespace, name, self._resources.secret_keys(namespace, name))

    def config_keys(self, namespace: str, name: str) -> set[str] | None:
        return self._keys(CONFIG, namespace, name, self._resources.config_keys(namespace, name))

    def depends_on(self, namespace: str, name: str) -> list[str] | None:
        entry = self._entries.get((SERVICE.name, namespace, name))
        if entry is None:
            return self._resources.depends_on(namespace, name)
        return dependencies.named(entry.given if entry.draft is None else entry.draft.document)

    def has_owner(self, namespace: str, reference: Document) -> bool:
        return self._resources.has_owner(namespace, reference)

    def brings_namespace(self, name: str) -> bool:
        return (NAMESPACE.name, "", name) in self._entries

    def _keys(self, kind: Kind, namespace: str, name: str, there: Any) -> set[str] | None:
        entry = self._entries.get((kind.name, namespace, name))
        if entry is None:
            return None if there is None else set(there)
        brought = {
            key
            for field in ("data", "stringData", "binaryData")
            for key in entry.given.get(field) or ()
        }
        return brought | set(there or ())


def at_item(index: int, causes: Sequence[Cause]) -> list[Cause]:
    """Causes of an item, seen from the request."""
    return [
        Cause(
            field=f"items[{index}].{cause.field}" if cause.field else f"items[{index}]",
            message=cause.message,
            reason=cause.reason,
            index=index,
        )
        for cause in causes
    ]
