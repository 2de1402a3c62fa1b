"""Objects, created and changed. Every write names the revision it was decided on.

The model of a change: read the object from the cache, decide (pure, in `admission`), commit if
the object is still at that revision. If it isn't, and the request did not insist on a version,
wait until the cache has what the store has and decide again. A write answers when the cache has
seen it, so that its client reads what it wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, cast

import structlog

from api.server import admission, managed, payloads, reach, status
from api.server.admission import Draft, Rejected
from api.server.discovery import STATUS_KINDS
from api.server.documents import (
    Document,
    Preconditions,
    clean,
    decode,
)
from api.server.managed import Author, Book
from api.server.managers import Managers
from api.server.patches import Patch
from api.server.payloads import Payloads
from api.server.sealed import Opener
from api.store import holders
from api.store.cache import Cache, Item
from api.store.contract import ABSENT, Conflict, Store, Write
from api.store.keys import object_key, payload_keys
from api.types import codec
from api.types.kinds import (
    BY_NAME,
    CONFIG,
    EVENT,
    NAMESPACE,
    SECRET,
    SERVICE,
    Kind,
)
from api.types.secret import Secret

TRIES = 10  # of a change that others keep overtaking
CATCH_UP = 5.0  # seconds that an answer waits for the cache
UNKNOWN = "unknown"  # who writes, where nothing says it
_SUFFIX = "abcdefghijklmnopqrstuvwxyz0123456789"

_log = structlog.get_logger(__name__)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Written(NamedTuple):
    """What a write led to. `changed` False: the object was so already."""

    kind: Kind
    namespace: str
    name: str
    value: bytes
    revision: int
    warnings: Sequence[str] = ()
    changed: bool = True
    deleted: bool = False  # the object is gone; `value` is its last state
    created: bool = False

    def served(self) -> bytes:
        return codec.served(self.kind, self.value, self.revision)


class WriteOptions(NamedTuple):
    """How to write. `force`: when applying, take fields over from others. `confined`: for who may
    not have containers reach their nodes."""

    dry_run: bool = False
    validation: str = admission.STRICT
    manager: str = ""  # who writes, for managedFields
    force: bool = False
    confined: bool = False


PLAIN = WriteOptions()


class Resources:
    """Writes objects. Its reads are the cache's."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        payloads: Payloads,
        opener: Opener,
        managers: Managers,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._cache = cache
        self._payloads = payloads
        self._opener = opener
        self._clock = clock
        self.managers = managers

    def now(self) -> datetime:
        return self._clock()

    # What admission asks of the world

    def secret_keys(self, namespace: str, name: str) -> Iterable[str] | None:
        item = self._cache.get(SECRET, namespace, name)
        return None if item is None else item.obj.status.sizes.keys()

    def config_keys(self, namespace: str, name: str) -> Iterable[str] | None:
        item = self._cache.get(CONFIG, namespace, name)
        return None if item is None else {**item.obj.data, **item.obj.binary_data}.keys()

    def depends_on(self, namespace: str, name: str) -> list[str] | None:
        item = self._cache.get(SERVICE, namespace, name)
        return None if item is None else [one.service for one in item.obj.spec.depends_on]

    def has_owner(self, namespace: str, reference: Document) -> bool:
        kind = BY_NAME.get(str(reference.get("kind")))
        if kind is None:
            return False
        item = self._cache.get(kind, namespace if kind.namespaced else "", str(reference["name"]))
        return item is not None and item.obj.metadata.uid == reference.get("uid")

    # Reading

    def item(self, kind: Kind, namespace: str, name: str) -> Item:
        """Raises Failure 404."""
        found = self._cache.get(kind, namespace, name)
        if found is None:
            raise status.not_found(kind, namespace, name)
        return found

    async def seen(self, revision: int) -> None:
        """Until the cache has that revision; gives up, with a log line, after a while."""
        try:
            async with asyncio.timeout(CATCH_UP):
                await self._cache.caught_up(revision)
        except TimeoutError:
            _log.warning("the cache lags behind", wanted=revision, at=self._cache.revision)

    async def reached(self, revision: int) -> None:
        """A client may have read from another manager what this one's cache is yet to see.

        Raises Failure 410 for a version that the store never gave, StoreError.
        """
        if revision <= self._cache.revision:
            return
        if revision > await self._store.revision():
            raise status.expired(
                f"version {revision} has not been reached by this cluster, which may have been"
                " restored from an older backup; list again and go on from there"
            )
        await self.seen(revision)

    async def refresh(self) -> None:
        """Until the cache has all that the store has now. Raises Unavailable."""
        await self.seen(await self._store.revision())

    # Writing

    async def create(
        self, kind: Kind, namespace: str, given: Document, options: WriteOptions = PLAIN
    ) -> Written:
        """Raises Failure, StoreError."""
        require_declared(kind, "POST")
        document, _ = clean(kind, namespace, "", _named(given))
        name = str(document["metadata"].get("name", ""))
        author = self.author(options)
        try:
            document = self.opened(document)
            document, said = admission.checked(document, options.validation)
            book = managed.exactly(managed.created(document, author, managed.UPDATE))
            draft = self.new(kind, document, book)
        except Rejected as error:
            raise status.invalid(kind, namespace, name, error.causes) from None
        draft.warnings = said
        return await self.insert(draft, options)

    async def insert(self, draft: Draft, options: WriteOptions) -> Written:
        """Write a draft of a new object. Raises Failure, StoreError."""
        kind, namespace, name = draft.kind, draft.namespace, draft.name
        self.require_namespace(kind, namespace)
        if options.confined:
            reach.require(kind, name, draft.document, None)
        try:
            admission.check_order(kind, namespace, draft.document, self)
        except Rejected as error:
            raise status.invalid(kind, namespace, name, error.causes) from None
        draft.warnings += admission.warnings(kind, namespace, draft.document, self)
        if self._cache.get(kind, namespace, name) is not None:
            raise status.already_exists(kind, namespace, name)
        if options.dry_run:
            return self._written(draft, 0, created=True)
        try:
            revision = await self.commit(draft, ABSENT)
        except Conflict:
            raise status.already_exists(kind, namespace, name) from None
        return self._written(draft, revision, created=True)

    async def replace(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        given: Document,
        options: WriteOptions = PLAIN,
    ) -> Written:
        """PUT: what the document says, and where it says nothing, nothing.

        But finalizers and owners that it does not name stay, and so do a secret's bytes: who
        replaces a secret they read has never seen them. Raises Failure, StoreError.
        """
        require_declared(kind, "PUT")
        document, preconditions = clean(kind, namespace, name, given)
        book = _book(self.author(options), given)

        def decide(item: Item, old: Document, payload: dict[str, bytes] | None) -> Draft:
            known, said = admission.checked(self.opened(document), options.validation, old)
            draft = self.changed(item, known, old, payload, book)
            draft.warnings = said
            return draft

        return await self.change(kind, namespace, name, decide, preconditions, options)

    async def patch(
        self, kind: Kind, namespace: str, name: str, patch: Patch, options: WriteOptions = PLAIN
    ) -> Written:
        """A patch of all but the status. Raises Failure, StoreError."""
        require_declared(kind, "PATCH")
        _, preconditions = clean(kind, namespace, name, patch.envelope)

        def decide(item: Item, old: Document, payload: dict[str, bytes] | None) -> Draft:
            whole = payloads.with_data(old, payload or {}) if patch.touches_data else old
            changed = patch.change(_versioned(whole, item))
            document, wanted = clean(kind, namespace, name, changed)
            self.require(item, wanted)
            document = self.opened(document)
            for field in ("finalizers", "ownerReferences"):
                document["metadata"].setdefault(field, [])
            document, said = admission.checked(document, options.validation, old)
            book = _book(self.author(options), changed)
            draft = self.changed(item, document, old, payload, book)
            draft.warnings = said
            return draft

        return await self.change(kind, namespace, name, decide, preconditions, options)

    async def write_status(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Patch,
        options: WriteOptions = PLAIN,
    ) -> Written:
        """PUT or PATCH of `/status`: only the status is taken. Raises Failure, StoreError."""
        if kind not in STATUS_KINDS:
            raise status.not_allowed("writing the status", f"{kind.plural}: the system writes it")
        _, preconditions = clean(kind, namespace, name, patch.envelope)

        def decide(item: Item, old: Document, _: dict[str, bytes] | None) -> Draft:
            changed = patch.change(_versioned(old, item))
            self.require(item, clean(kind, namespace, name, changed)[1])
            return admission.draft_status(kind, changed.get("status", {}), old)

        return await self.change(kind, namespace, name, decide, preconditions, options)

    async def commit(self, draft: Draft, expect: int) -> int:
        """Write a draft if the object is at `expect`, and wait for the cache. Raises Conflict."""
        revision = await self._store.commit(self.writes(draft, expect))
        await self.seen(revision)
        return revision

    def writes(self, draft: Draft, expect: int) -> list[Write]:
        """A draft as writes of one commit: a secret's bytes go with the object, or not at all."""
        gone = draft.gone
        key = object_key(draft.kind, draft.namespace, draft.name)
        writes = [Write(key, None if gone else draft.value, expect)]
        if draft.kind is SECRET and gone:
            secret = cast(Secret, codec.decode(SECRET, draft.value, 0))
            of_payload = [*payload_keys(secret), *(write.key for write in draft.payload_writes)]
            return writes + [Write(each, None) for each in dict.fromkeys(of_payload)]
        return writes + draft.payload_writes

    def opened(self, document: Document) -> Document:
        """A secret's document with its sealed values opened. Raises Rejected."""
        return self._opener.opened(document)

    def require_namespace(self, kind: Kind, namespace: str) -> None:
        """Raises Failure where objects can't be made in a namespace."""
        if not kind.namespaced:
            return
        item = self._cache.get(NAMESPACE, "", namespace)
        if item is None and namespace != admission.DEFAULT_NAMESPACE:
            failure = status.not_found(NAMESPACE, "", namespace)
            failure.message += "; create it first, or apply it together with what goes into it"
            raise failure
        if item is not None and item.obj.metadata.deletion_timestamp is not None:
            raise status.forbidden(
                f"namespace {namespace} is being deleted: nothing new can be made in it"
            )

    async def payload_of(self, item: Item) -> dict[str, bytes]:
        """A secret's bytes, for comparing. Raises StoreError."""
        return await self._payloads.stored(item)

    def changed(
        self,
        item: Item,
        document: Document,
        old: Document,
        payload: dict[str, bytes] | None,
        book: Book | None,
    ) -> Draft:
        """A draft of the stored object `item` as the checked document says. Raises Rejected."""
        held = () if payload is None else holders.held(self._cache, item.namespace, item.name)
        return admission.draft_change(
            item.kind, document, old, payload, book, now=self._clock(), held=held
        )

    def new(self, kind: Kind, document: Document, book: Book | None) -> Draft:
        """A draft of a new object. A secret that is made anew while tasks have versions of the one
        before goes on after them: no number ever means two contents. Raises Rejected."""
        metadata = document["metadata"]
        after = 0
        if kind is SECRET:
            namespace, name = metadata.get("namespace", ""), metadata["name"]
            after = holders.highest(self._cache, namespace, name)
        return admission.draft_new(kind, document, now=self._clock(), book=book, after=after)

    # Parts

    async def change(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        decide: Callable[[Item, Document, dict[str, bytes] | None], Draft],
        preconditions: Preconditions,
        options: WriteOptions,
    ) -> Written:
        """Decide and write, again where others were ahead. Raises Failure, StoreError."""
        await self._seen_by_client(preconditions.resource_version)
        for _ in range(TRIES):
            item = self.item(kind, namespace, name)
            self.require(item, preconditions)
            payload = await self.payload_of(item) if kind is SECRET else None
            try:
                draft = decide(item, decode(item.value), payload)
                admission.check_order(kind, namespace, draft.document, self)
            except Rejected as error:
                raise status.invalid(kind, namespace, name, error.causes) from None
            if options.confined:
                reach.require(kind, name, draft.document, decode(item.value))
            self.managers.require_one_left([draft])
            draft.warnings += admission.warnings(kind, namespace, draft.document, self)
            if not draft.changed and not draft.gone:
                return self._written(draft, item.revision, changed=False)
            if options.dry_run:
                return self._written(draft, item.revision)
            try:
                revision = await self.commit(draft, item.revision)
            except Conflict:
                self.unless_insisted(item, preconditions)
                await self.refresh()
                continue
            return self._written(draft, revision)
        raise status.conflict(kind, namespace, name)

    def author(self, options: WriteOptions) -> Author:
        return Author(options.manager or UNKNOWN, self._clock())

    async def _seen_by_client(self, version: str) -> None:
        if version.isdecimal() and len(version) < 20:
            with contextlib.suppress(status.Failure):  # then it can't be the object's either
                await self.reached(int(version))

    def require(self, item: Item, wanted: Preconditions) -> None:
        if wanted.uid and wanted.uid != item.obj.metadata.uid:
            why = "another object has that name now (its uid differs)"
            raise status.conflict(item.kind, item.namespace, item.name, why)
        if wanted.resource_version and wanted.resource_version != str(item.revision):
            why = (
                f"it is at version {item.revision}, and the request is about version"
                f" {wanted.resource_version}; read it again and repeat the change"
            )
            raise status.conflict(item.kind, item.namespace, item.name, why)

    def unless_insisted(self, item: Item, wanted: Preconditions) -> None:
        """After a conflict: raises Failure where the request named the version it meant."""
        if wanted.resource_version:
            raise status.conflict(item.kind, item.namespace, item.name) from None

    def _written(
        self, draft: Draft, revision: int, *, changed: bool = True, created: bool = False
    ) -> Written:
        return Written(
            kind=draft.kind,
            namespace=draft.namespace,
            name=draft.name,
            value=draft.value,
            revision=revision,
            warnings=draft.warnings,
            changed=changed,
            deleted=draft.gone,
            created=created,
        )


def require_declared(kind: Kind, method: str) -> None:
    if not kind.declared:
        events = "; events can be deleted" if kind is EVENT else ""
        raise status.not_allowed(method, f"{kind.plural}: the system writes them{events}")


def _named(given: Document) -> Document:
    """With a name made up where only `generateName` says how it begins."""
    metadata = given.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name"):
        return given
    prefix = metadata.get("generateName")
    if not isinstance(prefix, str) or not prefix:
        return given
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return {**given, "metadata": {**metadata, "name": prefix + suffix}}


def _versioned(document: Document, item: Item) -> Document:
    """As its reader saw it: with the version, which a patch may name."""
    metadata = {**document["metadata"], "resourceVersion": str(item.revision)}
    return {**document, "metadata": metadata}


def _book(author: Author, given: Document) -> Book:
    try:
        return managed.by_update(author, given)
    except managed.Unreadable as error:
        raise status.bad_request(f"metadata.managedFields can't be read: {error}") from None
