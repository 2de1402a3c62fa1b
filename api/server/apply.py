"""Many objects applied at once: all are checked before anything is written.

The model, item by item: what the manifest says is merged, three ways, with what was applied last
(kept in an annotation) and what is there now. So fields that others set stay, and fields that the
manifest no longer names go. The result is checked and drafted as any change is. Only when every
item has a draft are they written, in the order in which things depend on each other, many in one
commit; those that were changed meanwhile are merged anew.

Prune deletes what carries the set's label and is no longer in the manifests. It happens last, and
never for an empty set: an empty directory is a mistake more often than a wish.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from api import schema
from api.rendering import secret_names
from api.server import admission, dependencies, managed, payloads, reach, status
from api.server.admission import APPLYSET_LABEL, Draft, Rejected
from api.server.deletion import DeleteOptions
from api.server.deletions import Deletions
from api.server.documents import Document, clean, decode, three_way
from api.server.paths import Target
from api.server.payloads import LAST_APPLIED
from api.server.resources import TRIES, Resources, Written
from api.server.status import Cause, Failure
from api.store.cache import Cache, Item
from api.store.contract import ABSENT, Conflict, Store, Write
from api.store.keys import object_key
from api.types import codec
from api.types.kinds import BY_NAME, CONFIG, KINDS, NAMESPACE, NODE, SECRET, SERVICE, Kind
from api.types.service import Service

_ORDER = {kind.name: at for at, kind in enumerate(KINDS)}
MANAGER = "ctl"  # in the book of who manages which field
_BREATH = 50  # items that are decided without letting others run
_LABEL = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_NEW = Written(NAMESPACE, "", "", b"", 0)


# Of many targets, those that the caller may not use with that method: their places, and why.
Refused = Callable[[Sequence[Target], str], list[tuple[int, str]]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    namespace: str = admission.DEFAULT_NAMESPACE  # of items that name none
    dry_run: bool = False
    prune: str = ""  # the name of the applied set; empty: no pruning
    full: bool = False  # answer with the objects
    confined: bool = False  # for who may not have containers reach their nodes


class _Entry:
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


class _World:
    """What there is, and what the batch brings: for warnings and namespaces."""

    def __init__(self, resources: Resources, entries: Sequence[_Entry]) -> None:
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


class Applier:
    """Applies sets of documents."""

    def __init__(
        self, store: Store, cache: Cache, resources: Resources, deletions: Deletions
    ) -> None:
        self._deletions = deletions
        self._store = store
        self._cache = cache
        self._resources = resources

    async def apply(
        self, items: Sequence[Any], options: Options, refused: Refused
    ) -> dict[str, Any]:
        """The answer's body. Raises Failure, and then nothing was written; StoreError."""
        self._check_options(items, options)
        entries = await self._entries(items, options)
        _authorize(entries, refused)
        await self._open_all(entries)
        world = _World(self._resources, entries)
        await self._draft_all(entries, options, world)
        pruned = self._to_prune(entries, options)
        _authorize_pruning(pruned, refused)
        if not options.dry_run:
            await self._write_all(entries, options, world)
        said = [self._said(entry, options) for entry in entries]
        for gone in await self._prune(pruned, entries, options):
            said.append(_pruned(gone, options))
        return {"items": said}

    # Reading what is wanted

    def _check_options(self, items: Sequence[Any], options: Options) -> None:
        if not options.prune:
            return
        if not _LABEL.match(options.prune):
            raise status.bad_request(
                f"{options.prune!r} can't name an applied set: at most 63 letters, digits, '-',"
                " '_' and '.'"
            )
        if not items:
            raise status.bad_request(
                f"nothing is to be applied, and everything of the set {options.prune} would be"
                " pruned: refused. Delete the objects by name or label if that is what is meant:"
                f" ctl delete services,configs,secrets -l {APPLYSET_LABEL}={options.prune}"
            )

    async def _entries(self, items: Sequence[Any], options: Options) -> list[_Entry]:
        """Raises Failure with everything that is wrong with any item's envelope."""
        causes: list[Cause] = []
        entries: list[_Entry] = []
        for index, given in enumerate(items):
            await _breathe(index)
            try:
                entries.append(self._entry(index, given, options))
            except Rejected as error:
                causes += _at(index, error.causes)
        count = Counter(entry.id for entry in entries)
        for entry in entries:
            if count[entry.id] > 1:
                count[entry.id] = 0  # said once, at the first
                title = status.title(entry.kind, entry.namespace, entry.name)
                cause = Cause(
                    field="metadata.name",
                    message=f"{title} is given more than once",
                    reason="FieldValueDuplicate",
                )
                causes += _at(entry.index, [cause])
        if causes:
            raise status.invalid_items(causes)
        return entries

    def _entry(self, index: int, given: Any, options: Options) -> _Entry:
        kind = BY_NAME.get(str(given.get("kind"))) if isinstance(given, dict) else None
        if kind is None:
            problems = schema.validate(given)
            raise Rejected([Cause(field=p.field, message=p.text, reason=p.code) for p in problems])
        if not kind.declared:
            message = f"{kind.plural} are written by the system and can't be applied"
            raise Rejected([Cause(field="kind", message=message, reason="FieldValueForbidden")])
        metadata = given.get("metadata")
        said = metadata.get("namespace") if isinstance(metadata, dict) else None
        namespace = str(said or options.namespace) if kind.namespaced else ""
        try:
            document, _ = clean(kind, namespace, "", given)
        except Failure as failure:
            raise Rejected([Cause(message=failure.message)]) from None
        admission.check(document | ({"status": given["status"]} if "status" in given else {}))
        name: str = document["metadata"]["name"]
        return _Entry(index, kind, namespace, name, document)

    async def _open_all(self, entries: Sequence[_Entry]) -> None:
        """Their sealed values. Raises Failure with the causes of all items."""
        causes: list[Cause] = []
        for entry in entries:
            if entry.kind is not SECRET:
                continue
            await _breathe(entry.index)
            try:
                opened = self._resources.opened(entry.given)
                if opened is not entry.given:
                    admission.check(opened)  # their sizes, which nobody knew before
                    entry.given = opened
            except Rejected as error:
                causes += _at(entry.index, error.causes)
        if causes:
            raise status.invalid_items(causes)

    # Deciding

    async def _draft_all(self, entries: Sequence[_Entry], options: Options, world: _World) -> None:
        """Raises Failure with the causes of all items."""
        causes: list[Cause] = []
        for entry in entries:
            await _breathe(entry.index)
            try:
                await self._draft(entry, options, world)
            except Rejected as error:
                causes += _at(entry.index, error.causes)
            except Failure as failure:
                causes += _at(entry.index, [Cause(message=failure.message, reason=failure.reason)])
        causes = causes or self._none_left(entries)
        if causes:
            raise status.invalid_items(causes)

    def _none_left(self, entries: Sequence[_Entry]) -> list[Cause]:
        """Why not, where the set as a whole would leave the cluster without a manager."""
        drafts = [entry.draft for entry in entries if entry.draft is not None]
        try:
            self._resources.managers.require_one_left(drafts)
        except Failure as failure:
            named = failure.details.get("name")
            index = next(entry.index for entry in entries if entry.id == (NODE.name, "", named))
            return _at(index, [Cause(message=failure.message, reason=failure.reason)])
        return []

    async def _draft(self, entry: _Entry, options: Options, world: _World) -> None:
        """Decide one item on what there is now. Raises Rejected, Failure, StoreError."""
        entry.item = item = self._cache.get(entry.kind, entry.namespace, entry.name)
        wanted = _labelled(entry.given, options.prune)
        if item is None:
            if not world.brings_namespace(entry.namespace):
                self._resources.require_namespace(entry.kind, entry.namespace)
            draft = self._resources.new(entry.kind, _noted(wanted), None)
            entry.result = "created"
        else:
            draft = await self._draft_change(entry, item, wanted)
            entry.result = "configured" if draft.changed else "unchanged"
        if options.confined:
            old = decode(item.value) if item is not None else None
            reach.require(entry.kind, entry.name, draft.document, old)
        admission.check_order(entry.kind, entry.namespace, draft.document, world)
        draft.warnings = admission.warnings(entry.kind, entry.namespace, draft.document, world)
        entry.draft = draft
        revision = item.revision if item is not None else 0
        entry.written = _written(draft, revision)

    async def _draft_change(self, entry: _Entry, item: Item, wanted: Document) -> Draft:
        old = decode(item.value)
        live, payload = old, None
        if entry.kind is SECRET:
            wanted = payloads.joined(wanted)
            payload = await self._resources.payload_of(item)
            if "data" in wanted:
                live = payloads.with_data(old, payload)
        annotations = old["metadata"].get("annotations", {})
        last = _last_applied(annotations.get(LAST_APPLIED, ""))
        merged = schema.settle(three_way(last, _noted(wanted), live), wanted)
        document, _ = clean(entry.kind, entry.namespace, entry.name, merged)
        admission.check(document, old)
        # A book is kept where somebody else has begun one: sets are large, and their annotation
        # says what was applied.
        author = managed.Author(MANAGER, self._resources.now(), begins=False)
        book = managed.by_update(author)
        return self._resources.changed(item, document, old, payload, book)

    # Writing

    async def _write_all(self, entries: Sequence[_Entry], options: Options, world: _World) -> None:
        ordered = sorted(entries, key=lambda entry: (_ORDER[entry.kind.name], entry.index))
        for kind in KINDS:
            of_kind = [e for e in ordered if e.kind is kind and e.result != "unchanged"]
            for _ in range(TRIES):
                of_kind = await self._write(of_kind)
                if not of_kind:
                    break
                await self._again(of_kind, options, world)
                of_kind = [entry for entry in of_kind if entry.result != "unchanged"]
            if of_kind:
                entry = of_kind[0]
                raise status.conflict(entry.kind, entry.namespace, entry.name)

    async def _write(self, entries: Sequence[_Entry]) -> list[_Entry]:
        """Write the drafts; those that others were ahead of."""
        plain: list[_Entry] = []
        writes: list[Write] = []
        behind: list[_Entry] = []
        newest = 0
        for entry in entries:
            if entry.draft is None:
                continue
            of_entry = self._resources.writes(entry.draft, _expected(entry))
            if len(of_entry) == 1:
                plain.append(entry)
                writes += of_entry
                continue
            try:  # a secret and its bytes, together or not at all
                revision = await self._store.commit(of_entry)
            except Conflict:
                behind.append(entry)
                continue
            entry.written = _written(entry.draft, revision)
            newest = max(newest, revision)
        results = await self._store.write(writes) if writes else []
        for entry, result in zip(plain, results, strict=True):
            if isinstance(result, Conflict):
                behind.append(entry)
            elif entry.draft is not None:
                entry.written = _written(entry.draft, result)
                newest = max(newest, result)
        await self._resources.seen(newest)
        return behind

    async def _again(self, entries: Sequence[_Entry], options: Options, world: _World) -> None:
        """Decide anew those that were overtaken."""
        await self._resources.refresh()
        for entry in entries:
            try:
                await self._draft(entry, options, world)
            except Rejected as error:
                title = (entry.kind, entry.namespace, entry.name)
                raise status.invalid(*title, error.causes) from None

    # Pruning

    def _to_prune(self, entries: Sequence[_Entry], options: Options) -> list[Item]:
        """What the set had and no longer has, in the order of deletion. Raises Failure."""
        if not options.prune:
            return []
        kept = {object_key(entry.kind, entry.namespace, entry.name) for entry in entries}
        gone = [
            item
            for kind in reversed(KINDS)
            if kind.declared
            for item in self._cache.sorted_items(kind)
            if item.obj.metadata.labels.get(APPLYSET_LABEL) == options.prune
            and item.key not in kept
        ]
        _require_unused(gone, entries)
        for item in gone:  # refused now, before anything is written
            self._deletions.plan(item, _pruning(gone, entries, options))
        return gone

    async def _prune(
        self, items: Sequence[Item], entries: Sequence[_Entry], options: Options
    ) -> list[Written]:
        current = [self._cache.get(item.kind, item.namespace, item.name) for item in items]
        there = [item for item in current if item is not None]
        return await self._deletions.every(there, _pruning(items, entries, options))

    def _said(self, entry: _Entry, options: Options) -> dict[str, Any]:
        said: dict[str, Any] = {
            "kind": entry.kind.name,
            "namespace": entry.namespace,
            "name": entry.name,
            "result": entry.result,
            "warnings": list(entry.written.warnings),
        }
        if options.full or options.dry_run:
            said["object"] = msgspec.Raw(entry.written.served())
        return said


def _pruning(gone: Sequence[Item], entries: Sequence[_Entry], options: Options) -> DeleteOptions:
    """Services that go too, or are applied and were looked at, keep no secret from going."""
    ids = {f"{item.namespace}/{item.name}" for item in gone if item.kind is SERVICE}
    ids |= {f"{entry.namespace}/{entry.name}" for entry in entries if entry.kind is SERVICE}
    return DeleteOptions(dry_run=options.dry_run, leaving=frozenset(ids))


def _require_unused(gone: Sequence[Item], entries: Sequence[_Entry]) -> None:
    """Of services that are applied, what counts is what they are about to name. Raises Failure
    409."""
    named: dict[str, str] = {}
    for entry in entries:
        if entry.kind is SERVICE and entry.draft is not None:
            service = cast(Service, codec.decode(SERVICE, entry.draft.value, 0))
            for name in secret_names(service.spec.template):
                named[f"{entry.namespace}/{name}"] = entry.name
    for item in gone:
        user = named.get(f"{item.namespace}/{item.name}") if item.kind is SECRET else None
        if user is not None:
            why = (
                f"it is no more part of what is applied, and service {user} names it; nothing was"
                " changed. Apply it too, or take it out of the service"
            )
            title = status.title(SECRET, item.namespace, item.name)
            raise Failure(409, "Conflict", f"{title} can't be pruned: {why}")


def _authorize(entries: Sequence[_Entry], refused: Refused) -> None:
    """Raises Failure 403 with every item that the caller may not write."""
    targets = [Target(entry.kind, entry.namespace, entry.name) for entry in entries]
    found = refused(targets, "PATCH")
    if found:
        causes = [
            cause
            for at, why in found
            for cause in _at(entries[at].index, [Cause(message=why, reason="Forbidden")])
        ]
        raise status.forbidden_items(causes)


def _authorize_pruning(items: Sequence[Item], refused: Refused) -> None:
    """Raises Failure 403 with every object that the caller may not delete."""
    found = refused([Target(item.kind, item.namespace, item.name) for item in items], "DELETE")
    if found:
        raise status.forbidden_items([Cause(message=why, reason="Forbidden") for _, why in found])


async def _breathe(index: int) -> None:
    """Let heartbeats and watches go on meanwhile, now and then."""
    if index % _BREATH == _BREATH - 1:
        await asyncio.sleep(0)


def _pruned(gone: Written, options: Options) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": gone.kind.name,
        "namespace": gone.namespace,
        "name": gone.name,
        "result": "pruned",
        "warnings": list(gone.warnings),
    }
    if options.full or options.dry_run:
        said["object"] = msgspec.Raw(gone.served())
    return said


def _expected(entry: _Entry) -> int:
    return ABSENT if entry.item is None else entry.item.revision


def _written(draft: Draft, revision: int) -> Written:
    return Written(draft.kind, draft.namespace, draft.name, draft.value, revision, draft.warnings)


def _labelled(document: Document, applyset: str) -> Document:
    if not applyset:
        return document
    metadata = document["metadata"]
    labels = {**(metadata.get("labels") or {}), APPLYSET_LABEL: applyset}
    return {**document, "metadata": {**metadata, "labels": labels}}


def _noted(document: Document) -> Document:
    """With the annotation that says what was applied: of data, only the keys."""
    metadata = document["metadata"]
    annotations = {
        key: text
        for key, text in (metadata.get("annotations") or {}).items()
        if key != LAST_APPLIED
    }
    said: Document = {**document, "metadata": {**metadata, "annotations": annotations}}
    if not annotations:
        del said["metadata"]["annotations"]
    if document["kind"] == SECRET.name:
        said = payloads.joined(said)
        said["metadata"] = {
            **said["metadata"],
            **({"annotations": payloads.without_copies(annotations)} if annotations else {}),
        }
    if document["kind"] in (SECRET.name, CONFIG.name):
        said = payloads.redacted(said)
    note = msgspec.json.encode(said).decode()
    noted = {**metadata, "annotations": {**annotations, LAST_APPLIED: note}}
    return {**document, "metadata": noted}


def _last_applied(text: str) -> Document:
    if not text:
        return {}
    try:
        said = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    if not isinstance(said, dict):
        return {}
    return said


def _at(index: int, causes: Sequence[Cause]) -> list[Cause]:
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
