"""Large values, made smaller: a config of 1,000 KiB of quotes or line ends is twice as long in
JSON, which is more than etcd takes at once."""

from __future__ import annotations

import zlib

from api.store.keys import kind_prefix
from api.types.kinds import CONFIG

LARGE = 1_000_000  # bytes; what is smaller is left as it is

_CONFIGS = kind_prefix(CONFIG)
_MARK = b"\0z"  # no JSON begins so


def pack(key: str, value: bytes) -> bytes:
    """`key` says whether it is a config's."""
    if not ((key.startswith(_CONFIGS) and len(value) >= LARGE) or value.startswith(_MARK)):
        return value
    return _MARK + zlib.compress(value, 1)


def unpack(packed: bytes) -> bytes:
    """What `pack` was given. Raises zlib.error for what it did not make."""
    return zlib.decompress(packed[len(_MARK) :]) if packed.startswith(_MARK) else packed
