"""What is stored below `…/trust/`, sealed as all that is stored.

An earlier version sealed keys and secrets in it by themselves, with the vault key; they are taken,
and written anew without that.

authority            which root signs, and while one takes the other's place, which comes
roots/<id>           a root's certificate and its key
tokens/<role>        a join token's secret
sealing, sealing/…   the keys that values in git are sealed to: `api.trust.sealing`
managers/<name>      a manager that lives, on a lease
"""

from __future__ import annotations

from datetime import datetime

from api.store.keys import ROOT
from api.types.meta import Struct

TRUST = ROOT + "trust/"
AUTHORITY = TRUST + "authority"
ROOTS = TRUST + "roots/"
TOKENS = TRUST + "tokens/"
MANAGERS = TRUST + "managers/"
SEALING_NEWEST = TRUST + "sealing"
SEALING_KEYS = TRUST + "sealing/"


class AuthorityRecord(Struct, kw_only=True):
    current: str  # a root's id
    next: str = ""  # the one that takes its place; it signs already
    cross: str = ""  # the next one's certificate, vouched for by the current one; PEM
    since: datetime  # of the last change
    keep_until: datetime | None = None  # the old root is not dropped before


class RootRecord(Struct, kw_only=True):
    certificate: str  # PEM
    key: bytes  # PEM
    created: datetime


class TokenRecord(Struct, kw_only=True):
    secret: bytes
    created: datetime


class ManagerRecord(Struct, kw_only=True):
    url: str
    since: datetime
    signs: str  # the id of the root that signed its server certificate
    trusts: list[str]  # ids of the roots it accepts
    ring: int = 0  # the generation of the ring of data keys that it has taken up


def root_key(id: str) -> str:
    return ROOTS + id


def token_key(role: str) -> str:
    return TOKENS + role


def sealing_key(id: str) -> str:
    return SEALING_KEYS + id


def manager_key(name: str) -> str:
    return MANAGERS + name
