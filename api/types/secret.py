"""A secret and a config: bytes delivered to the tasks that name them.

A secret's payload is not part of the object: the server moves `data` to a key of its own
(`api.store.keys.payload_key`) on the way in, so that nothing that lists, watches, prints or
caches objects can leak it. What is left says the keys' names and sizes, and which versions there
are: each has a payload of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from api.types.generated import Generate, Generated, Rotation, Source, SourceStatus
from api.types.meta import Condition, Object, Struct

SECRET_MAX_BYTES = 512_000
CONFIG_MAX_BYTES = 1_024_000
SECRET_KEEP = 5  # versions

# Annotation of a generated secret: the `status.version` that is to be replaced by a new one now.
# Done when the version is another, so that it is done once, whoever looks how often.
ROTATE = "skep.dev/rotate"


class SecretVersion(Struct, kw_only=True):
    version: int
    created: datetime | None = None
    size: int = 0  # bytes in all
    origin: str = ""  # where the bytes came from, if not from whoever wrote the secret
    destroyed: datetime | None = None

    @property
    def kept(self) -> bool:
        """Whether its bytes are still there."""
        return self.destroyed is None


class SecretStatus(Struct, kw_only=True):
    version: int = 0  # counts up with every change of the payload
    sizes: dict[str, int] = {}  # bytes of each key
    versions: list[SecretVersion] = []  # the oldest first; none: only `version`, from earlier
    first: int = 0  # the oldest that there ever was, where that is not 1
    used_by: int = 0  # services that name it
    generated: dict[str, Generated] = {}  # by the name in `generate`
    source: SourceStatus | None = None
    last_rotation: datetime | None = None
    next_rotation: datetime | None = None
    conditions: list[Condition] = []  # Generated, Fetched

    @property
    def oldest(self) -> int:
        """The version that those mean who knew the secret when it had, or was to have, but one."""
        if self.first:
            return self.first
        return 1 if self.versions else max(self.version, 1)

    def has(self, version: int) -> bool:
        """Whether the bytes of that version are still there."""
        if not self.versions:
            return version == self.version
        return any(known.version == version and known.kept for known in self.versions)


class Secret(Object, kw_only=True):
    kind: ClassVar[str] = "Secret"
    keep: int = SECRET_KEEP  # versions whose bytes are kept, the newest included
    generate: dict[str, Generate] = {}  # by name; what keys that makes is in `api.types.generated`
    rotation: Rotation | None = None
    source: Source | None = None
    status: SecretStatus = msgspec.field(default_factory=SecretStatus)


class Config(Object, kw_only=True):
    kind: ClassVar[str] = "Config"
    data: dict[str, str] = {}  # text
    binary_data: dict[str, str] = {}  # base64


class Payload(Struct, kw_only=True):
    """A version's bytes, by key, under a store key of their own. Never served to clients."""

    data: dict[str, bytes]  # base64 in JSON
    version: int


class Rollback(Struct, kw_only=True):
    """What is asked of `secrets/<name>/rollback`."""

    version: int = 0  # 0: the one before


class VersionHolders(Struct, kw_only=True):
    version: int
    tasks: list[str] = []  # that are not over, and have it or are to get it


class Holders(Struct, kw_only=True):
    """What `secrets/<name>/holders` answers."""

    services: list[str] = []  # that name the secret
    secrets: list[str] = []  # whose certificates it signs
    versions: list[VersionHolders] = []
