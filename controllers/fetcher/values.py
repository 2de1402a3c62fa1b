"""What providers give, as a secret's keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from controllers.fetcher.contract import FetchError

_KEY = re.compile(r"(?!\.{1,2}$)[-._A-Za-z0-9]{1,253}")  # as in schemas/v1/secret.json
_SHOWN = 10


def from_json(given: Any) -> dict[str, bytes]:
    """An object's values as bytes: text as it is, the rest as JSON. Raises ValueError."""
    if not isinstance(given, dict):
        raise ValueError("not an object")
    return {
        str(key): value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        for key, value in given.items()
        if value is not None
    }


def mapped(
    found: Mapping[str, bytes], keys: Mapping[str, str], taken: Collection[str]
) -> dict[str, bytes]:
    """The secret's keys with their bytes. `taken` are those that come from elsewhere.

    Raises FetchError, in words that name keys and never values.
    """
    if not found:
        raise FetchError("there is nothing in it")
    missing = sorted(other for other in keys.values() if other not in found)
    if missing:
        there = ", ".join(sorted(found)[:_SHOWN])
        raise FetchError(f"it has no {' and no '.join(missing)}; there is {there}")
    new = {key: found[other] for key, other in keys.items()} if keys else dict(found)
    for key in sorted(new):
        if not _KEY.fullmatch(key):
            raise FetchError(
                f"its key {key[:40]!r} can't be a secret's key; map it to another in source.keys"
            )
        if key in taken:
            raise FetchError(
                f"it has a key {key}, which this secret has from elsewhere; say in source.keys"
                " which keys are wanted"
            )
    return new
