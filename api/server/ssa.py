"""Server-side apply: create an object, or change what of it the applier manages."""

from __future__ import annotations

from typing import Any

from api import schema
from api.server import admission, fieldsets, managed, payloads, status
from api.server.admission import Draft, Rejected
from api.server.documents import Document, Preconditions, clean
from api.server.managed import Author, Entry
from api.server.resources import Resources, WriteOptions, Written, require_declared
from api.store.cache import Item
from api.types.kinds import SECRET, Kind

KUBECTL = "kubectl"  # its field manager when it applies on the server
_TRIES = 3  # where it comes and goes meanwhile


class ServerSide:
    """Applies single objects."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    async def apply(
        self, kind: Kind, namespace: str, name: str, given: Document, options: WriteOptions
    ) -> Written:
        """PATCH with `application/apply-patch+yaml`. Raises Failure, StoreError."""
        require_declared(kind, "PATCH")
        _require_said(given, options)
        if kind is SECRET:
            given = payloads.joined(given)
        document, preconditions = clean(kind, namespace, name, given)
        try:
            document = self._resources.opened(document)
        except Rejected as error:
            raise status.invalid(kind, namespace, name, error.causes) from None
        for _ in range(_TRIES):
            try:
                return await self._change(kind, document, preconditions, options)
            except status.Failure as failure:
                if failure.code != 404:
                    raise
            _require_none(kind, namespace, name, preconditions)
            try:
                return await self._create(kind, document, options)
            except status.Failure as failure:
                if failure.reason != "AlreadyExists":
                    raise
        raise status.conflict(kind, namespace, name)

    async def _create(self, kind: Kind, wanted: Document, options: WriteOptions) -> Written:
        metadata = wanted["metadata"]
        author = self._resources.author(options)
        try:
            document, said = admission.checked(wanted, options.validation)
            book = managed.exactly(managed.created(document, author, managed.APPLY))
            draft = self._resources.new(kind, document, book)
        except Rejected as error:
            namespace = metadata.get("namespace", "")
            raise status.invalid(kind, namespace, metadata["name"], error.causes) from None
        draft.warnings = said
        return await self._resources.insert(draft, options)

    async def _change(
        self, kind: Kind, wanted: Document, preconditions: Preconditions, options: WriteOptions
    ) -> Written:
        namespace, name = wanted["metadata"].get("namespace", ""), wanted["metadata"]["name"]
        author = self._resources.author(options)

        def decide(item: Item, old: Document, payload: dict[str, bytes] | None) -> Draft:
            live = payloads.with_data(old, payload or {}) if kind is SECRET else old
            known, said = _known(wanted, live, options)
            try:
                merged, entries = _applied(live, known, author, options)
            except managed.Conflicts as error:
                found = [(each.manager, fieldsets.words(each.path)) for each in error.found]
                raise status.field_conflicts(kind, name, found) from None
            document, _ = clean(kind, namespace, name, schema.settle(merged, known))
            for field in ("finalizers", "ownerReferences"):
                document["metadata"].setdefault(field, [])
            admission.check(document, old)
            book = managed.exactly(entries)
            draft = self._resources.changed(item, document, old, payload, book)
            draft.warnings = said
            return draft

        return await self._resources.change(kind, namespace, name, decide, preconditions, options)


def _applied(
    live: Document, wanted: Document, author: Author, options: WriteOptions
) -> tuple[Document, list[Entry]]:
    """Raises Conflicts.

    What `kubectl apply` once applied in its old way, and nobody changed since, is kubectl's own:
    applying it in the new way is no conflict. The annotation of the old way says what that is.
    """
    try:
        return managed.applied(live, wanted, author, force=options.force)
    except managed.Conflicts as error:
        if author.manager != KUBECTL:
            raise
        own = managed.unchanged(live, payloads.last_applied(live))
        if any(each.path not in own for each in error.found):
            raise
        return managed.applied(live, wanted, author, force=True)


def _known(wanted: Document, live: Document, options: WriteOptions) -> tuple[Document, list[str]]:
    """What is applied, without unknown fields where they are no mistake. Raises Rejected.

    It need not be complete, so only that is looked at here.
    """
    unknown = [p for p in schema.validate(wanted) if p.code is schema.Code.UNKNOWN]
    if options.validation == admission.STRICT or not unknown:
        return wanted, []
    for problem in unknown:
        wanted = schema.without(wanted, problem.path)
    said = admission.left_out(unknown) if options.validation == admission.WARN else []
    return wanted, said


def _require_said(given: Document, options: WriteOptions) -> None:
    if not options.manager:
        raise status.bad_request("to apply, say who does: fieldManager=<name> in the query")
    metadata: Any = given.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields"):
        raise status.bad_request("metadata.managedFields can't be applied; leave it out")
    for field in ("apiVersion", "kind"):
        if not given.get(field):
            raise status.bad_request(f"{field} must be given to apply")


def _require_none(kind: Kind, namespace: str, name: str, wanted: Preconditions) -> None:
    if wanted.uid or wanted.resource_version:
        why = "it does not exist, and the request is about one that does"
        raise status.conflict(kind, namespace, name, why)
