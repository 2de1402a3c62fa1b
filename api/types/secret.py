"""A secret and a config: bytes delivered to the tasks that name them.

A secret's payload is not part of the object: the server moves `data` to a key of its own
(`api.store.keys.payload_key`) on the way in, so that nothing that lists, watches, prints or
caches objects can leak it. What is left says the keys' names and sizes.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from api.types.meta import Object, Struct

SECRET_MAX_BYTES = 512_000
CONFIG_MAX_BYTES = 1_024_000


class SecretStatus(Struct, kw_only=True):
    version: int = 0  # counts up with every change of the payload
    sizes: dict[str, int] = {}  # bytes of each key


class Secret(Object, kw_only=True):
    kind: ClassVar[str] = "Secret"
    status: SecretStatus = msgspec.field(default_factory=SecretStatus)


class Config(Object, kw_only=True):
    kind: ClassVar[str] = "Config"
    data: dict[str, str] = {}  # text
    binary_data: dict[str, str] = {}  # base64


class Payload(Struct, kw_only=True):
    """A secret's bytes, by key, under a store key of their own. Never served to clients."""

    data: dict[str, bytes]  # base64 in JSON
    version: int
