"""Secrets' bytes on their way in and to the nodes: split from the object, kept apart from it.

What leaves here for a message, a log or an annotation is keys and sizes, never values.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from api import schema
from api.server import made
from api.server.documents import Document
from api.store.cache import DELETED, CacheEvent, Item
from api.store.contract import Store
from api.store.keys import payload_key
from api.types.secret import Config, Payload, Secret

LAST_APPLIED = "skep.dev/last-applied"
KUBECTL_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_KEEP_BYTES = 64 * 1024 * 1024
_DECODER = msgspec.json.Decoder(Payload)


def split(document: Document) -> tuple[Document, dict[str, bytes] | None]:
    """A valid secret without its bytes; and the bytes, or None where it names none."""
    rest = {k: v for k, v in document.items() if k not in ("data", "stringData")}
    named = "data" in document or "stringData" in document
    return rest, schema.payload(document) if named else None


def with_data(document: Document, payload: dict[str, bytes]) -> Document:
    """The whole secret as its user once wrote it, to merge a change into. Never serve this.

    What the system made or fetched is not the user's.
    """
    own = made.users_own(document, payload)
    return {**document, "data": {k: base64.b64encode(v).decode() for k, v in own.items()}}


def joined(document: Document) -> Document:
    """`stringData` moved into `data`; values that are wrong are left for the schema to name."""
    texts = document.get("stringData")
    if not isinstance(texts, dict) or not isinstance(document.get("data") or {}, dict):
        return document
    encoded = {
        key: base64.b64encode(text.encode()).decode() if isinstance(text, str) else text
        for key, text in texts.items()
    }
    rest = {k: v for k, v in document.items() if k != "stringData"}
    return {**rest, "data": {**(document.get("data") or {}), **encoded}}


def unsealing(patch: Document) -> Document:
    """A merge patch that takes sealed values away, said of the data that they became."""
    sealed = patch.get("sealed")
    if not isinstance(sealed, dict) or not isinstance(patch.get("data") or {}, dict):
        return patch
    gone = {key: None for key, text in sealed.items() if text is None}
    data = {**gone, **(patch.get("data") or {})}
    rest = {k: v for k, v in patch.items() if k != "data"}
    kept = {key: text for key, text in sealed.items() if text is not None}
    return {**rest, "sealed": kept, **({"data": data} if data else {})}


def resealed(document: Document) -> Document:
    """A patched secret: what is sealed takes the place of the data that was."""
    sealed, data = document.get("sealed"), document.get("data")
    if not isinstance(sealed, dict) or not isinstance(data, dict):
        return document
    return {**document, "data": {key: text for key, text in data.items() if key not in sealed}}


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
        for field in ("data", "stringData", "sealed", "binaryData")
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
    """Reads payloads from the store; keeps those lately used.

    A version's bytes never change while its secret lives, so they are kept under the secret's uid.
    """

    def __init__(self, store: Store, *, keep: int = _KEEP_BYTES) -> None:
        self._store = store
        self._keep = keep
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, int], Payload] = OrderedDict()

    async def get(self, item: Item, version: int = 0) -> Payload | None:
        """The bytes of a version of a secret (0: of the current one); None where there are none.

        Raises StoreError.
        """
        secret: Secret = item.obj
        version = version or secret.status.version
        if not version:
            return None
        id = (secret.metadata.uid, version)
        kept = self._kept.get(id)
        if kept is not None:
            self._kept.move_to_end(id)
            return kept
        payload = await self._read(item.namespace, item.name, version)
        if payload is None:
            return None
        self._kept[id] = payload
        self._bytes += _size(payload)
        while self._bytes > self._keep:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)
        return payload

    async def stored(self, item: Item) -> dict[str, bytes]:
        """All that is there of a secret: the current version's bytes, or, where there is none yet
        because the system is to make or fetch some of them, those that are there already. Never
        for nodes. Raises StoreError."""
        secret: Secret = item.obj
        if secret.status.version:
            payload = await self.get(item)
        else:
            payload = await self._read(item.namespace, item.name, 0)
        return {} if payload is None else payload.data

    async def _read(self, namespace: str, name: str, version: int) -> Payload | None:
        for key in (payload_key(namespace, name, version), payload_key(namespace, name)):
            read = await self._store.get(key)
            payload = None if read is None else _DECODER.decode(read.value)
            if payload is not None and payload.version == version:
                return payload
        return None

    def heard(self, events: Sequence[CacheEvent]) -> None:
        """What is gone from the store doesn't stay in memory: to listen to the cache with."""
        for event in events:
            uid = event.item.obj.metadata.uid
            status = None if event.type == DELETED else event.item.obj.status
            for id in [id for id in self._kept if id[0] == uid]:
                if status is None or not status.has(id[1]):
                    self._bytes -= _size(self._kept.pop(id))


def _size(payload: Payload) -> int:
    return sum(map(len, payload.data.values()))
