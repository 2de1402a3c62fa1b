"""The set that an apply belongs to: what it had before and does not name any more is pruned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from api.rendering import secret_names
from api.server import status
from api.server.admission import APPLYSET_LABEL
from api.server.deletion import DeleteOptions
from api.server.deletions import Deletions
from api.server.documents import Document
from api.server.entries import Entry, Options, Refused
from api.server.paths import Target
from api.server.resources import Written
from api.server.status import Cause, Failure
from api.store.cache import Cache, Item
from api.store.keys import object_key
from api.types import codec
from api.types.kinds import KINDS, SECRET, SERVICE
from api.types.service import Service

_LABEL = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")


class Pruning:
    """`chosen` before anything is written, `prune` after everything is."""

    def __init__(self, cache: Cache, deletions: Deletions) -> None:
        self._cache = cache
        self._deletions = deletions

    def chosen(self, entries: Sequence[Entry], options: Options) -> list[Item]:
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

    async def prune(
        self, items: Sequence[Item], entries: Sequence[Entry], options: Options
    ) -> list[Written]:
        current = [self._cache.get(item.kind, item.namespace, item.name) for item in items]
        there = [item for item in current if item is not None]
        return await self._deletions.every(there, _pruning(items, entries, options))


def check(items: Sequence[Any], options: Options) -> None:
    """Raises Failure for a set that can't be meant."""
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


def labelled(document: Document, applyset: str) -> Document:
    if not applyset:
        return document
    metadata = document["metadata"]
    labels = {**(metadata.get("labels") or {}), APPLYSET_LABEL: applyset}
    return {**document, "metadata": {**metadata, "labels": labels}}


def authorize(items: Sequence[Item], refused: Refused) -> None:
    """Raises Failure 403 with every object that the caller may not delete."""
    found = refused([Target(item.kind, item.namespace, item.name) for item in items], "DELETE")
    if found:
        raise status.forbidden_items([Cause(message=why, reason="Forbidden") for _, why in found])


def said(gone: Written, options: Options) -> dict[str, Any]:
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


def _pruning(gone: Sequence[Item], entries: Sequence[Entry], options: Options) -> DeleteOptions:
    """Services that go too, or are applied and were looked at, keep no secret from going."""
    ids = {f"{item.namespace}/{item.name}" for item in gone if item.kind is SERVICE}
    ids |= {f"{entry.namespace}/{entry.name}" for entry in entries if entry.kind is SERVICE}
    return DeleteOptions(dry_run=options.dry_run, leaving=frozenset(ids))


def _require_unused(gone: Sequence[Item], entries: Sequence[Entry]) -> None:
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
