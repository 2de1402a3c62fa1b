"""What is let in, and what is made of it on the way: all decisions, no I/O.

A request's document becomes a Draft: validated, with defaults, with what the server adds (uid,
generation, times, finalizers), a secret's bytes split off. Whoever drafts compares, writes or
only shows it (dry run).

What a reference names need not exist yet: manifests come in any order, and tasks wait. It is
said as a warning.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from api import schema
from api.server import dependencies, made, materials, payloads, status, versions
from api.server.documents import Document, body_of, encode
from api.server.managed import Book
from api.server.status import Cause
from api.store.contract import Write
from api.store.keys import payload_key
from api.types import codec
from api.types.kinds import NAMESPACE, SECRET, SERVICE, Kind
from api.types.secret import SECRET_KEEP, SecretStatus
from api.types.service import TASKS_FINALIZER

NAMESPACE_FINALIZER = "skep.dev/contents"
DEFAULT_NAMESPACE = "default"
APPLYSET_LABEL = "skep.dev/applyset"

_FINALIZERS = {SERVICE.name: TASKS_FINALIZER, NAMESPACE.name: NAMESPACE_FINALIZER}
# What of metadata a client doesn't change by leaving it out.
_SERVERS = ("uid", "creationTimestamp", "deletionTimestamp", "managedFields")
STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"  # what to do with unknown fields
_AT = re.compile(r"\s*-? at `\$\.?(.*)`$")


class World(Protocol):
    """What else there is, as far as admission needs it."""

    def secret_keys(self, namespace: str, name: str) -> Iterable[str] | None:
        """The keys of a secret; None where there is no such secret."""

    def config_keys(self, namespace: str, name: str) -> Iterable[str] | None: ...

    def depends_on(self, namespace: str, name: str) -> list[str] | None:
        """The services that a service waits for; None where there is no such service."""

    def has_owner(self, namespace: str, reference: Document) -> bool:
        """Whether the object that an owner reference names is there, by its uid too."""


class Draft(msgspec.Struct, kw_only=True):
    """An object as it would be stored."""

    kind: Kind
    namespace: str
    name: str
    document: Document
    payload: dict[str, bytes] | None = None  # a secret's new bytes; None: as they were
    payload_writes: list[Write] = []  # where they go
    warnings: list[str] = []
    value: bytes = b""  # the document as the store takes it
    changed: bool = True  # False: it says what is stored already

    @property
    def gone(self) -> bool:
        """Whether this ends the object: it is being deleted and nothing holds it any more."""
        metadata = self.document["metadata"]
        return bool(metadata.get("deletionTimestamp")) and not metadata.get("finalizers")


class Rejected(Exception):
    """A document is wrong; every cause is in it."""

    def __init__(self, causes: list[Cause]) -> None:
        super().__init__("; ".join(cause.message for cause in causes))
        self.causes = causes


def check(document: Document, old: Document | None = None) -> None:
    """A document against its schema, as its user wrote it. Raises Rejected with every cause.

    `old` is what is stored of the object. A secret may be changed without its bytes: who does
    that has read it, and what they read had none.
    """
    if old is not None and document["kind"] == SECRET.name:
        document = {**document, "status": old.get("status", {})}
    problems = schema.validate(document)
    if problems:
        raise Rejected([Cause(field=p.field, message=p.text, reason=p.code) for p in problems])


def checked(
    document: Document, validation: str, old: Document | None = None
) -> tuple[Document, list[str]]:
    """A document without fields that nobody knows, and warnings of them.

    They are a mistake where `validation` is Strict. Raises Rejected with every cause.
    """
    if validation == STRICT:
        check(document, old)
        return document, []
    unknown = [p for p in schema.validate(document) if p.code is schema.Code.UNKNOWN]
    for problem in unknown:
        document = schema.without(document, problem.path)
    check(document, old)
    return document, left_out(unknown) if validation == WARN else []


def left_out(unknown: Iterable[schema.Problem]) -> list[str]:
    """Warnings of unknown fields."""
    return [f"{problem.field}: {problem.text}; it was left out" for problem in unknown]


def draft_new(
    kind: Kind, document: Document, *, now: datetime, book: Book | None = None, after: int = 0
) -> Draft:
    """A new object from a checked document. A secret's first version is the one that comes after
    `after`. Raises Rejected."""
    given = document
    document, payload = _completed(kind, document)
    if kind is SECRET and payload is None and not schema.has_system_values(document):
        message = "a secret needs at least one byte; give text in stringData or base64 in data"
        raise Rejected([Cause(field="data", message=message, reason="FieldValueRequired")])
    metadata = dict(document["metadata"])
    finalizer = _FINALIZERS.get(kind.name)
    if finalizer is not None and finalizer not in metadata.get("finalizers", ()):
        metadata["finalizers"] = [*metadata.get("finalizers", ()), finalizer]
    document["metadata"] = _envelope(metadata) | {
        "uid": str(uuid.uuid4()),
        "generation": 1,
        "creationTimestamp": timestamp(now),
    }
    if book is not None:
        document["metadata"]["managedFields"] = book(None, _view(given, payload))
    writes = _version(document, {}, payload, None, now, after=after) if payload is not None else []
    return _draft(kind, document, payload, writes=writes)


def draft_change(
    kind: Kind,
    document: Document,
    old: Document,
    old_payload: dict[str, bytes] | None,
    book: Book | None = None,
    *,
    now: datetime,
    held: Collection[int] = (),
) -> Draft:
    """The stored object `old` with the spec and metadata of a checked document.

    `old_payload` is needed where the document has data, and then `held` are the versions of the
    secret that are in use. `book` says who manages what from now on; None leaves that as it is.
    Raises Rejected.
    """
    document, given = _completed(kind, document)
    before, payload = old.get("status", {}), given
    if kind is SECRET:
        payload, before = _settled(document, given, old, old_payload or {})
    causes = _immutable(kind, document, old)
    if causes:
        raise Rejected(causes)
    was = old["metadata"]
    kept = {f: was[f] for f in _SERVERS if f in was}
    stays = {f: was[f] for f in ("finalizers", "ownerReferences") if f in was}
    changed = payload is not None or body_of(document) != body_of(old)
    generation = int(was.get("generation", 0)) + changed
    metadata = stays | document["metadata"] | kept | {"generation": generation}
    if book is not None:
        said = {**document, "metadata": metadata}
        was_said = _view(old, None if payload is None else old_payload or {})
        is_said = _view(said, given if payload is not None else None)
        metadata = metadata | {"managedFields": book(was_said, is_said)}
    document["metadata"] = _envelope(metadata)
    if "status" in old:
        document["status"] = before
    writes: list[Write] = []
    if payload is not None:
        writes = _version(document, before, payload, old_payload, now, held)
    return _draft(kind, document, payload, old, writes)


def _settled(
    document: Document, given: Document | None, old: Document, payload: dict[str, bytes]
) -> tuple[dict[str, bytes] | None, Document]:
    """A changed secret's bytes, None where they stay, and its status. Raises Rejected."""
    new, kept = made.settled(document, given, old, payload)
    fetched = set(kept.source.keys) if kept.source is not None else set()
    twice = sorted(fetched.intersection(given or ()))
    if twice:
        message = "the key is fetched from source already; say in source.keys which are wanted"
        causes = [(schema.field_path(("data", key)), message) for key in twice]
        raise Rejected([Cause(field=f, message=m, reason="FieldValueDuplicate") for f, m in causes])
    if new is not None and not any(new.values()) and not schema.has_system_values(document):
        message = "nothing would be left; give text in stringData or base64 in data"
        raise Rejected([Cause(field="data", message=message, reason="FieldValueRequired")])
    was = old.get("status", {})
    same = kept == msgspec.convert(was, SecretStatus)
    return new, was if same else msgspec.to_builtins(kept)


def _view(document: Document, payload: dict[str, bytes] | None) -> Document:
    """With a secret's bytes where they are about to change: to say which keys do."""
    return document if payload is None else payloads.with_data(document, payload)


def draft_status(kind: Kind, wanted: Any, old: Document) -> Draft:
    """The stored object with another status, and nothing else changed. Raises Rejected."""
    if not isinstance(wanted, dict):
        raise Rejected([Cause(field="status", message="must be an object")])
    return _draft(kind, {**old, "status": wanted}, None, old)


def check_order(kind: Kind, namespace: str, document: Document, world: World) -> None:
    """Raises Rejected where services would wait for each other for ever, with the cycle."""
    if kind is SERVICE and (first := dependencies.named(document)):
        name = document["metadata"]["name"]
        if causes := dependencies.cycle(namespace, name, first, world.depends_on):
            raise Rejected(causes)


def warnings(kind: Kind, namespace: str, document: Document, world: World) -> list[str]:
    """What is accepted, but will not work as it stands."""
    said: list[str] = []
    if document["metadata"].get("deletionTimestamp"):
        title = status.title(kind, namespace, document["metadata"]["name"])
        said.append(
            f"{title} is being deleted, which this does not stop; apply it again when it is gone"
        )
    owners = document["metadata"].get("ownerReferences") or []
    if owners and not any(world.has_owner(namespace, owner) for owner in owners):
        said.append(
            "none of its owners exists (a uid may be another one's): it is about to be deleted"
        )
    if kind is SECRET:
        return said + made.weak(document)
    if kind is not SERVICE:
        return said
    template = document.get("spec", {}).get("template", {})
    for field, word, keys_of in (
        ("secrets", "secret", world.secret_keys),
        ("configs", "config", world.config_keys),
    ):
        for mount in template.get(field) or ():
            said += _reference(word, namespace, mount, keys_of)
    said += dependencies.absent(namespace, dependencies.named(document), world.depends_on)
    if login := template.get("imageCredentials"):
        said += _reference("secret", namespace, {"name": login}, world.secret_keys)
    for mount in materials.rendered(template):
        said += _reference("secret", namespace, mount, world.secret_keys)
    for name, wanted in sorted((template.get("secretEnv") or {}).items()):
        mount = {"name": wanted["secret"], "key": wanted.get("key", "")}
        said += _reference("secret", namespace, mount, world.secret_keys)
        said.append(materials.exposed(name, wanted["secret"]))
    said += materials.opened(template)
    return list(dict.fromkeys(said))


def timestamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _completed(kind: Kind, document: Document) -> tuple[Document, dict[str, bytes] | None]:
    """With defaults; a secret's bytes apart."""
    document = schema.default(document)
    payload: dict[str, bytes] | None = None
    if kind is SECRET:
        document, payload = payloads.split(document)
        annotations = document["metadata"].get("annotations")
        if annotations:
            kept = payloads.without_copies(annotations)
            document["metadata"] = document["metadata"] | {"annotations": kept}
    document.pop("status", None)  # defaults may have made one; it is not the user's
    return document, payload


def _draft(
    kind: Kind,
    document: Document,
    payload: dict[str, bytes] | None,
    old: Document | None = None,
    writes: list[Write] | None = None,
) -> Draft:
    metadata = document["metadata"]
    value = encode(kind, document)
    try:
        # What is stored must decode, or nobody could read it again.
        codec.decode(kind, value, 0)
    except msgspec.ValidationError as error:
        raise Rejected([_typed_cause(error)]) from None
    return Draft(
        kind=kind,
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        document=document,
        payload=payload,
        payload_writes=writes or [],
        value=value,
        changed=payload is not None or document != old,
    )


def _envelope(metadata: Document) -> Document:
    """Without what is empty, and in one order: the same object, the same bytes."""
    first = ("name", "namespace", "uid", "labels", "annotations", "generation")
    order = [f for f in first if f in metadata] + [f for f in metadata if f not in first]
    return {f: metadata[f] for f in order if metadata[f] not in (None, "", {}, [])}


def _immutable(kind: Kind, document: Document, old: Document) -> list[Cause]:
    if kind is not SERVICE:
        return []
    was = old.get("spec", {}).get("mode", "replicated")
    wanted = document.get("spec", {}).get("mode", "replicated")
    if was == wanted:
        return []
    message = f"is {was} and can't become {wanted}; delete the service and create it anew"
    return [Cause(field="spec.mode", message=message, reason="FieldValueForbidden")]


def _version(
    document: Document,
    status_before: Document,
    payload: dict[str, bytes],
    old_payload: dict[str, bytes] | None,
    now: datetime,
    held: Collection[int] = (),
    after: int = 0,
) -> list[Write]:
    """Give a secret's document the status that says a version more; the writes of its bytes.

    One that the system is to complete has no version before it has."""
    before = msgspec.convert(status_before, SecretStatus)
    metadata = document["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    if not before.version and schema.has_system_values(document):
        document["status"] = msgspec.to_builtins(before)
        return [made.waiting(namespace, name, payload)]
    keep = int(document.get("keep", SECRET_KEEP))
    new = versions.added(before, payload, now, keep=keep, held=held, after=after)
    document["status"] = msgspec.to_builtins(new.status)
    writes = versions.payload_writes(namespace, name, before, new, payload, old_payload)
    if (
        old_payload is not None and not before.version
    ):  # it waited for others that are not asked for
        writes.append(Write(payload_key(namespace, name), None))
    return writes


def _reference(
    word: str,
    namespace: str,
    mount: Document,
    keys_of: Callable[[str, str], Iterable[str] | None],
) -> list[str]:
    name, key = mount.get("name", ""), mount.get("key", "")
    keys = keys_of(namespace, name)
    if keys is None:
        return [f"{word} {namespace}/{name} does not exist yet; tasks will wait for it"]
    if key and key not in keys:
        return [f"{word} {namespace}/{name} has no key {key} yet; tasks will wait for it"]
    return []


def _typed_cause(error: msgspec.ValidationError) -> Cause:
    text = str(error)
    match = _AT.search(text)
    field = match.group(1) if match else ""
    return Cause(field=field, message=_AT.sub("", text))
