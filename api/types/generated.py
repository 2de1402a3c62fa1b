"""What a secret says of values that the system makes or fetches, and what it says of those it has.

A manifest says what sort of value is wanted, never the value. What is said here of a value that is
there (a fingerprint, an age recipient, when a certificate ends) gives nothing of it away.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from api.types.meta import Struct

CERTIFICATE_LIFE = "90d"
AUTHORITY_LIFE = "3650d"


class Certificate(Struct, kw_only=True):
    """An X.509 certificate with its key."""

    common_name: str = ""  # empty: the first of its names, or the secret's
    dns_names: list[str] = []
    ip_addresses: list[str] = []
    usages: list[str] = msgspec.field(default_factory=lambda: ["server"])  # server | client
    key_type: str = "ecdsa-p256"
    lifetime: str = ""  # empty: 90d; of an authority 3650d
    renew_before: str = ""  # its end; empty: a third of its life
    ca: str = ""  # the secret of the authority that signs it; empty: itself
    is_ca: bool = msgspec.field(default=False, name="isCA")
    overlap: str = "24h"  # how long an authority's predecessor is trusted on


class SshKey(Struct, kw_only=True):
    type: str = "ed25519"  # ed25519 | ecdsa | rsa
    comment: str = ""  # empty: namespace/name of the secret


class AgeKey(Struct, kw_only=True):
    """An identity of age, with its recipient."""


class Generate(Struct, kw_only=True):
    """What to make under one name: random text, unless one of the others is given."""

    length: int = 0  # characters, or words; 0: as many as make 128 bits
    charset: str = "alphanumeric"
    alphabet: str = ""  # instead of a charset
    classes: list[str] = []  # lower | upper | digit | symbol: at least one of each
    separator: str = "-"  # between words
    bytes: int = 0  # random bytes instead of text
    encoding: str = "base64"  # of these bytes: base64 | base64url | hex | raw
    x509: Certificate | None = None
    ssh: SshKey | None = None
    age: AgeKey | None = None


class Rotation(Struct, kw_only=True):
    """When values are made anew: when they are so old, or at set times."""

    every: str = ""
    cron: str = ""
    time_zone: str = "UTC"


class Generated(Struct, kw_only=True):
    """What was made under one name, without what is secret of it."""

    spec: Generate  # that it was made from
    keys: list[str] = []
    made: datetime
    not_before: datetime | None = None
    not_after: datetime | None = None
    fingerprint: str = ""
    public_key: str = ""  # an SSH public key, an age recipient
    version: int = 0  # of the secret, as it was when this was written
    issuer: str = ""  # which key signed it
    authority: str = ""  # the authority's secret as it was last looked at: uid/version
    overlap_until: datetime | None = None  # an authority's: when its predecessor goes


class Source(Struct, kw_only=True):
    """Where values are fetched from: a provider that the managers' operator has defined."""

    provider: str
    path: str = ""  # at the provider
    version: int = 0  # of what is there; 0: the newest
    keys: dict[str, str] = {}  # the secret's key → the provider's; empty: all, as they are
    refresh: str = "5m"


class SourceStatus(Struct, kw_only=True):
    """How fetching goes. `keys` are those that came from there."""

    keys: list[str] = []
    fetched: datetime | None = None  # when it last went well, within an hour
    changed: datetime | None = None  # when it last brought something new
    failures: int = 0  # in a row, as far as it was written down
    message: str = ""  # of the last failure
    mark: str = ""  # of what the secret said when they were fetched


def forms(wanted: Generate) -> list[str]:
    """The fields that say what it is, of which there may be one."""
    given = {
        "x509": wanted.x509 is not None,
        "ssh": wanted.ssh is not None,
        "age": wanted.age is not None,
        "bytes": wanted.bytes > 0,
    }
    return [name for name, there in given.items() if there]


def keys_of(name: str, wanted: Generate) -> list[str]:
    """The keys of the secret that are made under a name."""
    if wanted.x509 is not None:
        return list(dict.fromkeys([f"{name}.crt", f"{name}.key", "ca.crt"]))
    if wanted.ssh is not None or wanted.age is not None:
        return [name, f"{name}.pub"]
    return [name]


def system_keys(status: msgspec.Struct) -> set[str]:
    """The keys of a secret (by its status) that the system made or fetched."""
    generated: dict[str, Generated] = getattr(status, "generated", {})
    source: SourceStatus | None = getattr(status, "source", None)
    made = {key for each in generated.values() for key in each.keys}
    return made | set(source.keys if source is not None else ())
