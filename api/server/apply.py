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
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from api import schema
from api.server import admission, applyset, lastapplied, managed, payloads, reach, status
from api.server.admission import Draft, Rejected
from api.server.deletions import Deletions
from api.server.documents import Document, clean, decode, three_way
from api.server.entries import Entry, Options, Refused, World, at_item
from api.server.paths import Target
from api.server.payloads import LAST_APPLIED
from api.server.resources import TRIES, Resources, Written
from api.server.status import Cause, Failure
from api.store.cache import Cache, Item
from api.store.contract import ABSENT, Conflict, Store, Write
from api.types.kinds import BY_NAME, KINDS, NODE, SECRET

_ORDER = {kind.name: at for at, kind in enumerate(KINDS)}
MANAGER = "ctl"  # in the book of who manages which field
_BREATH = 50  # items that are decided without letting others run


class Applier:
    """Applies sets of documents."""

    def __init__(
        self, store: Store, cache: Cache, resources: Resources, deletions: Deletions
    ) -> None:
        self._pruning = applyset.Pruning(cache, deletions)
        self._store = store
        self._cache = cache
        self._resources = resources

    async def apply(
        self, items: Sequence[Any], options: Options, refused: Refused
    ) -> dict[str, Any]:
        """The answer's body. Raises Failure, and then nothing was written; StoreError."""
        applyset.check(items, options)
        entries = await self._entries(items, options)
        _authorize(entries, refused)
        await self._open_all(entries)
        world = World(self._resources, entries)
        await self._draft_all(entries, options, world)
        pruned = self._pruning.chosen(entries, options)
        applyset.authorize(pruned, refused)
        if not options.dry_run:
            await self._write_all(entries, options, world)
        said = [self._said(entry, options) for entry in entries]
        for gone in await self._pruning.prune(pruned, entries, options):
            said.append(applyset.said(gone, options))
        return {"items": said}

    # Reading what is wanted

    async def _entries(self, items: Sequence[Any], options: Options) -> list[Entry]:
        """Raises Failure with everything that is wrong with any item's envelope."""
        causes: list[Cause] = []
        entries: list[Entry] = []
        for index, given in enumerate(items):
            await _breathe(index)
            try:
                entries.append(self._entry(index, given, options))
            except Rejected as error:
                causes += at_item(index, error.causes)
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
                causes += at_item(entry.index, [cause])
        if causes:
            raise status.invalid_items(causes)
        return entries

    def _entry(self, index: int, given: Any, options: Options) -> Entry:
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
        return Entry(index, kind, namespace, name, document)

    async def _open_all(self, entries: Sequence[Entry]) -> None:
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
                causes += at_item(entry.index, error.causes)
        if causes:
            raise status.invalid_items(causes)

    # Deciding

    async def _draft_all(self, entries: Sequence[Entry], options: Options, world: World) -> None:
        """Raises Failure with the causes of all items."""
        causes: list[Cause] = []
        for entry in entries:
            await _breathe(entry.index)
            try:
                await self._draft(entry, options, world)
            except Rejected as error:
                causes += at_item(entry.index, error.causes)
            except Failure as failure:
                causes += at_item(
                    entry.index, [Cause(message=failure.message, reason=failure.reason)]
                )
        causes = causes or self._none_left(entries)
        if causes:
            raise status.invalid_items(causes)

    def _none_left(self, entries: Sequence[Entry]) -> list[Cause]:
        """Why not, where the set as a whole would leave the cluster without a manager."""
        drafts = [entry.draft for entry in entries if entry.draft is not None]
        try:
            self._resources.managers.require_one_left(drafts)
        except Failure as failure:
            named = failure.details.get("name")
            index = next(entry.index for entry in entries if entry.id == (NODE.name, "", named))
            return at_item(index, [Cause(message=failure.message, reason=failure.reason)])
        return []

    async def _draft(self, entry: Entry, options: Options, world: World) -> None:
        """Decide one item on what there is now. Raises Rejected, Failure, StoreError."""
        entry.item = item = self._cache.get(entry.kind, entry.namespace, entry.name)
        wanted = applyset.labelled(entry.given, options.prune)
        if item is None:
            if not world.brings_namespace(entry.namespace):
                self._resources.require_namespace(entry.kind, entry.namespace)
            draft = self._resources.new(entry.kind, lastapplied.noted(wanted), None)
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

    async def _draft_change(self, entry: Entry, item: Item, wanted: Document) -> Draft:
        old = decode(item.value)
        live, payload = old, None
        if entry.kind is SECRET:
            wanted = payloads.joined(wanted)
            payload = await self._resources.payload_of(item)
            if "data" in wanted:
                live = payloads.with_data(old, payload)
        annotations = old["metadata"].get("annotations", {})
        last = lastapplied.read(annotations.get(LAST_APPLIED, ""))
        merged = schema.settle(three_way(last, lastapplied.noted(wanted), live), wanted)
        document, _ = clean(entry.kind, entry.namespace, entry.name, merged)
        admission.check(document, old)
        # A book is kept where somebody else has begun one: sets are large, and their annotation
        # says what was applied.
        author = managed.Author(MANAGER, self._resources.now(), begins=False)
        book = managed.by_update(author)
        return self._resources.changed(item, document, old, payload, book)

    # Writing

    async def _write_all(self, entries: Sequence[Entry], options: Options, world: World) -> None:
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

    async def _write(self, entries: Sequence[Entry]) -> list[Entry]:
        """Write the drafts; those that others were ahead of."""
        plain: list[Entry] = []
        writes: list[Write] = []
        behind: list[Entry] = []
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

    async def _again(self, entries: Sequence[Entry], options: Options, world: World) -> None:
        """Decide anew those that were overtaken."""
        await self._resources.refresh()
        for entry in entries:
            try:
                await self._draft(entry, options, world)
            except Rejected as error:
                title = (entry.kind, entry.namespace, entry.name)
                raise status.invalid(*title, error.causes) from None

    def _said(self, entry: Entry, options: Options) -> dict[str, Any]:
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


def _authorize(entries: Sequence[Entry], refused: Refused) -> None:
    """Raises Failure 403 with every item that the caller may not write."""
    targets = [Target(entry.kind, entry.namespace, entry.name) for entry in entries]
    found = refused(targets, "PATCH")
    if found:
        causes = [
            cause
            for at, why in found
            for cause in at_item(entries[at].index, [Cause(message=why, reason="Forbidden")])
        ]
        raise status.forbidden_items(causes)


async def _breathe(index: int) -> None:
    """Let heartbeats and watches go on meanwhile, now and then."""
    if index % _BREATH == _BREATH - 1:
        await asyncio.sleep(0)


def _expected(entry: Entry) -> int:
    return ABSENT if entry.item is None else entry.item.revision


def _written(draft: Draft, revision: int) -> Written:
    return Written(draft.kind, draft.namespace, draft.name, draft.value, revision, draft.warnings)
