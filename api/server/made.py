"""A secret's values that the system makes or fetches, beside those that its user gives.

All of them are one payload. Which keys are the system's stands in the status; a user's change
leaves them as they are, and takes away those of what the manifest no longer asks for.

A new secret has no version before all of its values are there: tasks wait for it, as for one that
does not exist, and never see half of it. What is there sooner (what its user gave, what is fetched
before the rest is made) waits under the key that no version has. Decisions without I/O; making and
fetching is the controllers'.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import msgspec

from api.server import versions
from api.server.documents import Document
from api.store.cache import Item
from api.store.contract import Write
from api.store.keys import payload_key
from api.types import codec
from api.types.generated import Generate, keys_of, system_keys
from api.types.meta import Condition, condition
from api.types.randomtext import bits
from api.types.secret import Secret, SecretStatus

_GUESSABLE = 64.0  # bits; below it is said, and done


class Settled(NamedTuple):
    """`payload` None: as it was. `status` is what to go on from."""

    payload: dict[str, bytes] | None
    status: SecretStatus


def is_whole(secret: Secret, status: SecretStatus) -> bool:
    """Whether all is there that a secret asks the system for."""
    fetched = secret.source is None or (status.source is not None and bool(status.source.fetched))
    return fetched and secret.generate.keys() <= status.generated.keys()


def change(
    item: Item,
    status: SecretStatus,
    data: dict[str, bytes],
    old: dict[str, bytes],
    now: datetime,
    *,
    held: Collection[int] = (),
    origin: str = "",
) -> list[Write]:
    """The writes of one commit that give a stored secret this status and these bytes; where the
    bytes are as they were, only the status, and nothing where that is, too.

    The status' version and sizes follow from the bytes. Raises ValueError for bytes that a secret
    can't have.
    """
    secret: Secret = item.obj
    first = not secret.status.version and is_whole(secret, status)
    if data == old and not first:
        if status == secret.status:
            return []
        return [only_status(item, status)]
    versions.check(data)
    if not secret.status.version and not first:
        return [only_status(item, status), waiting(item.namespace, item.name, data)]
    new = versions.added(status, data, now, keep=secret.keep, held=held, origin=origin)
    number = new.status.version
    new.status.generated = {
        name: msgspec.structs.replace(each, version=number)
        for name, each in new.status.generated.items()
    }
    writes = versions.payload_writes(item.namespace, item.name, status, new, data, old or None)
    if first:
        writes.append(Write(payload_key(item.namespace, item.name), None))
    return [only_status(item, new.status), *writes]


def not_yet(secret: Secret) -> str:
    """What a secret that has no version waits for, in words that follow "it is"."""
    status = secret.status
    parts = []
    if secret.generate.keys() - status.generated.keys():
        parts.append(_yet("made", condition(status.conditions, "Generated")))
    if secret.source is not None and not (status.source and status.source.fetched):
        parts.append(_yet("fetched", condition(status.conditions, "Fetched")))
    return " and ".join(parts) or "not there yet"


def _yet(done: str, said: Condition | None) -> str:
    return f"not {done} yet: {said.message}" if said and said.message else f"not {done} yet"


def waiting(namespace: str, name: str, data: dict[str, bytes]) -> Write:
    """Bytes that are there before the first version."""
    return Write(payload_key(namespace, name), versions.encode(data, 0))


def only_status(item: Item, status: SecretStatus) -> Write:
    """A stored secret with another status, its bytes as they were."""
    return Write(item.key, codec.amended(item.kind, item.value, status=status), item.revision)


def users_own(document: Document, payload: dict[str, bytes]) -> dict[str, bytes]:
    """What of a stored secret's bytes its user gave."""
    systems = system_keys(_status(document))
    return {key: value for key, value in payload.items() if key not in systems}


def settled(
    document: Document,
    given: dict[str, bytes] | None,
    old: Document,
    payload: dict[str, bytes],
) -> Settled:
    """The bytes of a changed secret, and its status without what is not asked for any more.

    `given` is what its user gives now, None where that stays; `old` and `payload` are stored.
    """
    status = _status(old)
    asked = document.get("generate") or {}
    kept = msgspec.structs.replace(
        status,
        generated={name: each for name, each in status.generated.items() if name in asked},
        source=status.source if document.get("source") else None,
    )
    ended = {"Generated": not asked, "Fetched": not document.get("source")}
    kept = msgspec.structs.replace(
        kept,
        conditions=[each for each in kept.conditions if not ended.get(each.type)],
        next_rotation=status.next_rotation if asked else None,
    )
    # What the system is to make and the user gave until now stays until it is made.
    systems = system_keys(kept) | {
        key
        for name, each in asked.items()
        for key in keys_of(name, msgspec.convert(each, Generate))
    }
    own = users_own(old, payload) if given is None else given
    whole = {key: value for key, value in payload.items() if key in systems} | own
    finished = not status.version and not (asked or document.get("source"))
    return Settled(None if whole == payload and not finished else whole, kept)


def weak(document: Document) -> list[str]:
    """Warnings of values that can be guessed."""
    said = []
    for name, given in (document.get("generate") or {}).items():
        wanted = msgspec.convert(given, Generate)
        if wanted.x509 or wanted.ssh or wanted.age or bits(wanted) >= _GUESSABLE:
            continue
        said.append(
            f"generate.{name} has {bits(wanted):.0f} bits and can be guessed by who may try often;"
            " without a length it gets 128"
        )
    return said


def _status(document: Document) -> SecretStatus:
    return msgspec.convert(document.get("status", {}), SecretStatus)
