"""Versions of a secret: one more with each change of its bytes, and the last few kept.

Decided without I/O. The object says which versions there are; the bytes of each are under a key of
their own, and object and bytes change in one commit. A version that is held (a task has it, or may
be given it again) stays beyond the number that is kept, until it is let go of.

A secret written before there were versions has its bytes under one key without a number. They get
their version's key with the first change.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from api.store.cache import Item
from api.store.contract import Write
from api.store.keys import payload_key
from api.types import codec
from api.types.kinds import SECRET
from api.types.secret import SECRET_MAX_BYTES, Payload, Secret, SecretStatus, SecretVersion

_KEY = re.compile(r"(?!\.{1,2}$)[-._A-Za-z0-9]{1,253}")  # as in schemas/v1/secret.json


class NewVersion(NamedTuple):
    """`gone`: the versions whose bytes go because of it."""

    status: SecretStatus
    gone: list[int]


def new_version(
    item: Item,
    data: dict[str, bytes],
    old: dict[str, bytes] | None,
    now: datetime,
    *,
    held: Collection[int] = (),
    origin: str = "",
) -> list[Write]:
    """The writes of one commit that give a stored secret these bytes; none: it has them already.

    `old` are the bytes that it has, None where it has none yet. `origin` says in words where the
    new ones come from. Raises ValueError for bytes that a secret can't have.
    """
    if old == data:
        return []
    check(data)
    secret: Secret = item.obj
    new = added(secret.status, data, now, keep=secret.keep, held=held, origin=origin)
    return [
        Write(item.key, codec.amended(SECRET, item.value, status=new.status), item.revision),
        *payload_writes(item.namespace, item.name, secret.status, new, data, old),
    ]


def added(
    before: SecretStatus,
    data: Mapping[str, bytes],
    now: datetime,
    *,
    keep: int,
    held: Collection[int] = (),
    origin: str = "",
    after: int = 0,
) -> NewVersion:
    """The status with one version more, whose number is above `after`."""
    version = max(before.version, after) + 1
    sizes = {key: len(value) for key, value in data.items()}
    newest = SecretVersion(
        version=version,
        created=now.replace(microsecond=0),
        size=sum(sizes.values()),
        origin=origin,
    )
    first = before.oldest if before.version else 1
    versions, gone = retained([*history(before), newest], keep, held)
    status = msgspec.structs.replace(
        before, version=version, sizes=sizes, versions=versions, first=first if first > 1 else 0
    )
    return NewVersion(status, gone)


def history(status: SecretStatus) -> list[SecretVersion]:
    """All known versions, the oldest first: also of a secret from before they were listed."""
    if status.versions or not status.version:
        return status.versions
    return [SecretVersion(version=status.version, size=sum(status.sizes.values()))]


def retained(
    versions: Collection[SecretVersion], keep: int, held: Collection[int]
) -> tuple[list[SecretVersion], list[int]]:
    """The versions that stay, and those whose bytes go. A destroyed one is remembered for as long
    as it would have been kept."""
    newest = sorted(versions, key=lambda known: known.version)
    recent = {known.version for known in newest[-max(keep, 1) :]}
    stay = [v for v in newest if v.version in recent or (v.kept and v.version in held)]
    gone = [v.version for v in newest if v.kept and v not in stay]
    return stay, gone


def payload_writes(
    namespace: str,
    name: str,
    before: SecretStatus,
    new: NewVersion,
    data: dict[str, bytes],
    old: dict[str, bytes] | None,
) -> list[Write]:
    """What goes with the new status into one commit. `old` as in `new_version`."""
    version = new.status.version
    writes = [Write(payload_key(namespace, name, version), encode(data, version))]
    gone = [payload_key(namespace, name, each) for each in new.gone]
    if before.version and not before.versions:  # from before versions had keys
        gone = [payload_key(namespace, name)]
        if old and before.version not in new.gone:
            key = payload_key(namespace, name, before.version)
            writes.append(Write(key, encode(old, before.version)))
    return writes + [Write(key, None) for key in gone]


def encode(data: dict[str, bytes], version: int) -> bytes:
    return msgspec.json.encode(Payload(data=data, version=version))


def check(data: Mapping[str, bytes]) -> None:
    """Raises ValueError, in words and without the bytes, for what no secret can hold."""
    size = sum(map(len, data.values()))
    if not size:
        raise ValueError("a secret needs at least one byte, and there is none")
    if size > SECRET_MAX_BYTES:
        raise ValueError(f"holds {size} bytes, and at most {SECRET_MAX_BYTES} are allowed")
    for key in data:
        if not _KEY.fullmatch(key):
            raise ValueError(f"the key {key[:40]!r} is no file name of letters, digits, -, _ and .")
