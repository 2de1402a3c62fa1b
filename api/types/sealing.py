"""What `ctl seal` asks of a manager about sealed values. No value itself is in any of it."""

from __future__ import annotations

from api.types.meta import Struct


class SealedValue(Struct, kw_only=True):
    """A sealed value and where it stands."""

    namespace: str
    name: str
    key: str
    sealed: str


class SealedValues(Struct, kw_only=True):
    items: list[SealedValue]


class Verdict(Struct, kw_only=True):
    """Of one sealed value. `sealed` is what it is when sealed to the newest key, where that was
    asked for."""

    problem: str = ""  # why it does not open; empty: it does
    key_id: str = ""
    sealed: str = ""


class Verdicts(Struct, kw_only=True):
    items: list[Verdict]
