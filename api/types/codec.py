"""Objects to stored bytes and back.

A stored value always begins with `{"apiVersion":"skep.dev/v1","kind":"…","metadata":{`. So the
resource version, which only the store knows, is spliced into the bytes where they are served,
without decoding them.
"""

from __future__ import annotations

from typing import TypeVar, cast

import msgspec

from api.types.kinds import KINDS, Kind
from api.types.meta import API_VERSION, Metadata, Object, Struct

T = TypeVar("T", bound=Object)

_ENCODER = msgspec.json.Encoder()
_DECODERS = {kind.name: msgspec.json.Decoder(kind.type) for kind in KINDS}
_HEADS = {
    kind.name: f'{{"apiVersion":"{API_VERSION}","kind":"{kind.name}",'.encode() for kind in KINDS
}
_METADATA = b'"metadata":{'


def encode(obj: Object) -> bytes:
    """The bytes to store: without the resource version, which is the store's to give."""
    kept = obj.metadata.resource_version
    obj.metadata.resource_version = ""
    try:
        return _HEADS[obj.kind] + _ENCODER.encode(obj)[1:]
    finally:
        obj.metadata.resource_version = kept


def decode(kind: Kind, value: bytes, revision: int) -> Object:
    """The object in a stored value. Raises msgspec.ValidationError or msgspec.DecodeError."""
    obj: Object = _DECODERS[kind.name].decode(value)
    obj.metadata.resource_version = str(revision)
    return obj


def served(kind: Kind, value: bytes, revision: int) -> bytes:
    """The stored value as the API serves it: with its resource version."""
    head = len(_HEADS[kind.name]) + len(_METADATA)
    if value[head - len(_METADATA) : head] != _METADATA:
        raise ValueError(f"not a stored {kind.name}: {value[:head]!r}")
    comma = b"" if value[head : head + 1] == b"}" else b","
    return b'%b"resourceVersion":"%d"%b%b' % (value[:head], revision, comma, value[head:])


def copy(obj: T) -> T:
    """A deep copy: cached objects are shared, so change a copy of them."""
    return cast(T, _DECODERS[obj.kind].decode(_ENCODER.encode(obj)))


def amended(
    kind: Kind,
    value: bytes,
    *,
    metadata: Metadata | None = None,
    status: Struct | None = None,
) -> bytes:
    """The stored value with another metadata or status, the rest kept byte for byte.

    This is how controllers write to objects that users own: a spec stays as it was written, also
    where this version of the program doesn't know a field of it.
    """
    parts = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    if metadata is not None:
        parts["metadata"] = msgspec.Raw(_ENCODER.encode(_unversioned(metadata)))
    if status is not None:
        parts["status"] = msgspec.Raw(_ENCODER.encode(status))
    del parts["apiVersion"], parts["kind"]
    return _HEADS[kind.name] + _ENCODER.encode(parts)[1:]


def _unversioned(metadata: Metadata) -> Metadata:
    return msgspec.structs.replace(metadata, resource_version="")
