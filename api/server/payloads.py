"""Secrets' bytes on their way in and to the nodes: split from the object, kept apart from it.

What leaves here for a message, a log or an annotation is keys and sizes, never values.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from typing import Any, NamedTuple

import msgspec

from api import schema
from api.server.documents import Document
from api.store.contract import Store
from api.store.keys import payload_key
from api.types.secret import Config, Payload

LAST_APPLIED = "skep.dev/last-applied"
KUBECTL_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_KEEP_BYTES = 64 * 1024 * 1024
_DECODER = msgspec.json.Decoder(Payload)


class StoredPayload(NamedTuple):
    data: dict[str, bytes]
    version: int
    revision: int  # of the store


def split(document: Document) -> tuple[Document, dict[str, bytes] | None]:
    """A valid secret without its bytes; and the bytes, or None where it names none."""
    rest = {k: v for k, v in document.items() if k not in ("data", "stringData")}
    named = "data" in document or "stringData" in document
    return rest, schema.payload(document) if named else None


def with_data(document: Document, payload: dict[str, bytes]) -> Document:
    """The whole secret as its user once wrote it, to merge a change into. Never serve this."""
    return {**document, "data": {k: base64.b64encode(v).decode() for k, v in payload.items()}}


def joined(document: Document) -> Document:
    """`stringData` moved into `data`; values that are wrong are left for the schema to name."""
    texts = document.get("stringData")
    if not isinstance(texts, dict):
        return document
    encoded = {
        key: base64.b64encode(text.encode()).decode() if isinstance(text, str) else text
        for key, text in texts.items()
    }
    rest = {k: v for k, v in document.items() if k != "stringData"}
    return {**rest, "data": {**(document.get("data") or {}), **encoded}}


def encode(data: dict[str, bytes], version: int) -> bytes:
    return msgspec.json.encode(Payload(data=data, version=version))


def config_bytes(config: Config) -> dict[str, bytes]:
    """A config's files."""
    texts = {key: text.encode() for key, text in config.data.items()}
    return texts | {key: schema.decode_base64(text) for key, text in config.binary_data.items()}


def redacted(document: Document) -> Document:
    """The document with `data` kept by its keys only: what an annotation may say of it.

    Configs too: the annotation would double an object that may fill the store's limit.
    """
    hidden = {
        field: dict.fromkeys(document[field], "")
        for field in ("data", "stringData", "binaryData")
        if isinstance(document.get(field), dict)
    }
    return {**document, **hidden}


def without_copies(annotations: dict[str, Any]) -> dict[str, Any]:
    """A secret's annotations, without the payload that `kubectl apply` copies into one."""
    text = annotations.get(KUBECTL_LAST_APPLIED)
    if text is None:
        return annotations
    rest = {k: v for k, v in annotations.items() if k != KUBECTL_LAST_APPLIED}
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError):
        return rest
    if not isinstance(said, dict):
        return rest
    return {**rest, KUBECTL_LAST_APPLIED: msgspec.json.encode(redacted(said)).decode() + "\n"}


def last_applied(document: Document) -> Document:
    """What kubectl noted that it applied; nothing where it can't be read."""
    text = document["metadata"].get("annotations", {}).get(KUBECTL_LAST_APPLIED, "")
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError):
        return {}
    whole = isinstance(said, dict) and isinstance(said.get("metadata", {}), dict)
    return said if whole else {}


class Payloads:
    """Reads payloads from the store; keeps those lately used, each under the object's revision.

    The object and its payload change in one commit, so the object's revision (or a later one,
    where only its labels changed) tells whether what is kept is still it.
    """

    def __init__(self, store: Store, *, keep: int = _KEEP_BYTES) -> None:
        self._store = store
        self._keep = keep
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], tuple[int, StoredPayload]] = OrderedDict()

    async def get(self, namespace: str, name: str, *, at: int = 0) -> StoredPayload | None:
        """The payload as of the object's revision `at` or later (0: as it is now).

        None where there is none. Raises StoreError.
        """
        id = (namespace, name)
        kept = self._kept.get(id)
        if kept is not None and at and kept[0] >= at:
            self._kept.move_to_end(id)
            return kept[1]
        read = await self._store.get(payload_key(namespace, name))
        self.forget(namespace, name)
        if read is None:
            return None
        payload = _DECODER.decode(read.value)
        stored = StoredPayload(payload.data, payload.version, read.revision)
        self._kept[id] = (max(at, read.revision), stored)
        self._bytes += _size(stored)
        while self._bytes > self._keep:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)
        return stored

    def forget(self, namespace: str, name: str) -> None:
        """Call when the secret is gone: its bytes don't stay in memory."""
        kept = self._kept.pop((namespace, name), None)
        if kept is not None:
            self._bytes -= _size(kept[1])


def _size(payload: StoredPayload) -> int:
    return sum(map(len, payload.data.values()))


def content_version(data: dict[str, bytes]) -> int:
    """A number that is another when the content is: for configs, which have no version."""
    digest = hashlib.sha256()
    for key in sorted(data):
        digest.update(len(key).to_bytes(4) + key.encode() + len(data[key]).to_bytes(8) + data[key])
    return int.from_bytes(digest.digest()[:6])
