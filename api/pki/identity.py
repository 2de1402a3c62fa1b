"""Who a certificate says its holder is.

The role is the subject's organization, the name its common name. The role `skep:etcd` comes from
the same authority, but is nobody to the API: a key stolen from an etcd member opens no API.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

AUTHORITY_NAME = "skep cluster authority"  # and a space, and the authority's id
ID_LENGTH = 8


class Role(StrEnum):
    ADMIN = "skep:admin"
    NODE = "skep:node"
    MANAGER = "skep:manager"
    ETCD = "skep:etcd"
    UNLOCK = "skep:unlock"  # a locked manager, to who unlocks it; nobody to all others
    USER = "skep:user"  # its rights are in the store's object of its name


class Identity(NamedTuple):
    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role.removeprefix('skep:')} {self.name}"


def identity_of(certificate: Mapping[str, Any] | None) -> Identity | None:
    """The identity in a verified peer certificate, as `ssl` gives it (`getpeercert()`).

    None where there is no certificate, or its subject isn't exactly one known role and one name.
    """
    if not certificate:
        return None
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    roles = [value for field, value in subject if field == "organizationName"]
    names = [value for field, value in subject if field == "commonName"]
    if len(roles) != 1 or len(names) != 1 or not names[0]:
        return None
    try:
        return Identity(Role(roles[0]), names[0])
    except ValueError:
        return None


def uid_of(certificate: Mapping[str, Any] | None) -> str:
    """What tells the holder from others that had the name before; empty where it says none."""
    found = _parts(certificate, "subject", "userId")
    return found[0] if len(found) == 1 else ""


def issuer_of(certificate: Mapping[str, Any] | None) -> str:
    """The id of the authority that signed it; empty where that is none of ours."""
    found = _parts(certificate, "issuer", "commonName")
    name, _, id = (found[0] if len(found) == 1 else "").rpartition(" ")
    return id if name == AUTHORITY_NAME else ""


def _parts(certificate: Mapping[str, Any] | None, of: str, field: str) -> list[str]:
    pairs = [pair for part in (certificate or {}).get(of, ()) for pair in part]
    return [value for name, value in pairs if name == field]
