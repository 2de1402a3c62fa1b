"""Who manages which field: server-side apply, and the book that is kept for it.

The book stands in `metadata.managedFields`, in Kubernetes' form. Its rules, as Kubernetes has them:

- Who applies owns exactly the fields of what they applied. A field that they no longer apply goes,
  unless somebody else owns it too.
- Applying another value to a field that somebody else owns is a conflict; `force` takes it over.
  The same value is no conflict: both own it.
- Who writes otherwise (PUT, PATCH) owns what they changed, and takes it from whoever had it.
- What an object had before its book was begun belongs to `before-first-apply`.

All here is pure. Not in the book: names, times, the status, defaults, and skep's own finalizers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from api.schema import for_kind
from api.server import fieldsets
from api.server.documents import Document
from api.server.fieldsets import NOTHING, FieldSet, Path
from api.types.kinds import BY_NAME
from api.types.meta import API_VERSION

APPLY: Final = "Apply"
UPDATE: Final = "Update"
BEFORE: Final = "before-first-apply"
MOST_MANAGER = 128  # characters of a manager's name, as in Kubernetes
_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
_OWN = "skep.dev/"


class Entry(NamedTuple):
    """One manager's fields. `at` is when they last changed, RFC 3339."""

    manager: str
    operation: str
    at: str
    fields: FieldSet


class Author(NamedTuple):
    """Who writes. `begins`: also where no book is kept of the object yet."""

    manager: str
    now: datetime
    begins: bool = True


class Conflict(NamedTuple):
    manager: str
    operation: str
    path: Path


class Conflicts(Exception):
    """Others own what is to be changed."""

    def __init__(self, found: Sequence[Conflict]) -> None:
        super().__init__(f"{len(found)} conflicts")
        self.found = list(found)


# Makes what managedFields is to be, of the object as it was and as it becomes.
Book = Callable[[Document | None, Document], list[Document]]


class Unreadable(ValueError):
    """A book that a client wrote can't be understood; the text says why."""


def read(document: Document | None) -> list[Entry]:
    """An object's book. Raises Unreadable."""
    metadata = (document or {}).get("metadata", {})
    return [_entry(given) for given in metadata.get("managedFields") or ()]


def write(entries: Sequence[Entry]) -> list[Document]:
    return [
        {
            "manager": entry.manager,
            "operation": entry.operation,
            "apiVersion": API_VERSION,
            "time": entry.at,
            "fieldsType": "FieldsV1",
            "fieldsV1": fieldsets.encode(entry.fields),
        }
        for entry in entries
        if entry.fields or entry.operation == APPLY
    ]


def by_update(author: Author, given: Document | None = None) -> Book:
    """For a write that is no apply. `given` is what a client wrote, its own book in it.

    As in Kubernetes, a client may write the book; `[{}]` ends it, and an empty one says nothing.
    Raises Unreadable.
    """
    said = ((given or {}).get("metadata") or {}).get("managedFields")
    theirs = read(given) if said and said != [{}] else None

    def book(old: Document | None, new: Document) -> list[Document]:
        if said == [{}]:
            return []
        entries = read(old) if theirs is None else theirs
        return write(after_update(old, new, entries, author))

    return book


def exactly(entries: Sequence[Entry]) -> Book:
    return lambda old, new: write(entries)


def after_update(
    old: Document | None, new: Document, entries: Sequence[Entry], author: Author
) -> list[Entry]:
    """The book after `author` made `new` of `old`, otherwise than by applying."""
    if not author.begins and not entries:
        return []
    node = _schema(new)
    made = fieldsets.difference(_managed(old), _managed(new), node)
    if not made:
        return list(entries)
    kept = []
    mine = NOTHING
    for entry in entries:
        left = entry.fields - made.removed
        if (entry.manager, entry.operation) == (author.manager, UPDATE):
            mine = left
            continue
        taken = fieldsets.overlap(left, made.changed)
        kept.append(entry._replace(fields=left - taken) if left - taken != entry.fields else entry)
    own = Entry(author.manager, UPDATE, _time(author.now), mine | made.changed)
    return [entry for entry in (*kept, own) if entry.fields or entry.operation == APPLY]


def applied(
    live: Document, wanted: Document, author: Author, *, force: bool
) -> tuple[Document, list[Entry]]:
    """What `live` becomes where `author` applies `wanted`, and its book. Raises Conflicts.

    Only fields that are kept book of are looked at; all else of `live` stays.
    """
    node = _schema(live)
    there, given = _managed(live), _managed(wanted)
    entries = read(live) or _before(there, node, live)
    asked = fieldsets.fields(given, node)
    whole = fieldsets.merged(there, given, node)
    changes = fieldsets.difference(there, whole, node)
    others = [e for e in entries if (e.manager, e.operation) != (author.manager, APPLY)]
    others = _without_conflicts(others, changes.changed | changes.removed, force)
    owned = NOTHING.union(*(entry.fields for entry in others))
    last = next((entry for entry in entries if entry not in others and _is(entry, author)), None)
    dropped = (last.fields if last else NOTHING) - asked - owned
    result = fieldsets.without(whole, node, dropped, asked | owned)
    mine = Entry(author.manager, APPLY, _time(author.now), asked)
    if last is not None and last.fields == asked:
        mine = last
    return _put_back(live, result), [mine, *others]


def unchanged(live: Document, said: Document) -> FieldSet:
    """The fields that `said` had, and that `live` has with the same value."""
    node = _schema(live)
    there, noted = fieldsets.leaves(_managed(live), node), fieldsets.leaves(_managed(said), node)
    return frozenset(p for p, leaf in noted.items() if p in there and there[p] == leaf)


def created(wanted: Document, author: Author, operation: str) -> list[Entry]:
    """The book of an object that did not exist before."""
    given = fieldsets.fields(_managed(wanted), _schema(wanted))
    return [Entry(author.manager, operation, _time(author.now), given)]


def _without_conflicts(others: list[Entry], changed: FieldSet, force: bool) -> list[Entry]:
    """The others, less what they lose. Raises Conflicts where they'd lose and `force` is off."""
    found: list[Conflict] = []
    left: list[Entry] = []
    for entry in others:
        lost = fieldsets.overlap(entry.fields, changed)
        found += [Conflict(entry.manager, entry.operation, path) for path in sorted(lost)]
        rest = entry.fields - lost
        if rest or (not lost and entry.operation == APPLY):
            left.append(entry._replace(fields=rest) if lost else entry)
    if found and not force:
        raise Conflicts(found)
    return left


def _is(entry: Entry, author: Author) -> bool:
    return (entry.manager, entry.operation) == (author.manager, APPLY)


def _before(there: Document, node: Document, live: Document) -> list[Entry]:
    owned = fieldsets.fields(there, node)
    made = str(live["metadata"].get("creationTimestamp", ""))
    return [Entry(BEFORE, UPDATE, made, owned)] if owned else []


def _managed(document: Document | None) -> Document:
    """The part of an object that book is kept of."""
    if document is None:
        return {}
    given = document.get("metadata") or {}
    metadata = {field: given[field] for field in _METADATA if given.get(field)}
    if "finalizers" in metadata:
        metadata["finalizers"] = [
            name for name in metadata["finalizers"] if not str(name).startswith(_OWN)
        ]
        if not metadata["finalizers"]:
            del metadata["finalizers"]
    body = {
        field: value
        for field, value in document.items()
        if field not in ("apiVersion", "kind", "metadata", "status")
    }
    return {**({"metadata": metadata} if metadata else {}), **body}


def _put_back(live: Document, managed: Document) -> Document:
    """`live` with another managed part."""
    metadata = {k: v for k, v in live["metadata"].items() if k not in _METADATA}
    metadata |= managed.get("metadata", {})
    own = [n for n in live["metadata"].get("finalizers", ()) if str(n).startswith(_OWN)]
    if own:
        metadata["finalizers"] = [*own, *metadata.get("finalizers", ())]
    result: Document = {f: live[f] for f in ("apiVersion", "kind", "status") if f in live}
    body = {field: value for field, value in managed.items() if field != "metadata"}
    return result | {"metadata": metadata} | body


def _schema(document: Document) -> Document:
    return for_kind(BY_NAME[document["kind"]])


def _entry(given: Any) -> Entry:
    try:
        operation = given["operation"]
        if operation not in (APPLY, UPDATE):
            raise Unreadable(f"operation must be {APPLY} or {UPDATE}")
        if given.get("fieldsType", "FieldsV1") != "FieldsV1":
            raise Unreadable("fieldsType must be FieldsV1")
        manager = str(given.get("manager", ""))
        if len(manager) > MOST_MANAGER:
            raise Unreadable(f"manager has more than {MOST_MANAGER} characters")
        members = fieldsets.decode(given.get("fieldsV1", {}))
        return Entry(manager, operation, str(given.get("time") or ""), members)
    except (AttributeError, KeyError, TypeError) as error:
        raise Unreadable(
            f"an entry has no {error}" if isinstance(error, KeyError) else "an entry must be a map"
        ) from None
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(str(error)) from None


def _time(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
