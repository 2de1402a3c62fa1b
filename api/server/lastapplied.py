"""What was applied last, as an annotation says it: what the next apply is merged with."""

from __future__ import annotations

import msgspec

from api.server import payloads
from api.server.documents import Document
from api.server.payloads import LAST_APPLIED
from api.types.kinds import CONFIG, SECRET


def noted(document: Document) -> Document:
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


def read(text: str) -> Document:
    if not text:
        return {}
    try:
        said = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    if not isinstance(said, dict):
        return {}
    return said
