"""A user: a person or a program with certificates of its own, and what it may do.

Rights are in the object and not in the certificate, so they change with the next request and end
with the object. One kind does what Kubernetes spreads over Role, RoleBinding and their cluster-wide
twins: three fixed roles cover what people ask for, and a list that names role and namespaces can
be read without looking anything up.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from api.types.meta import Object, Struct


class Grant(Struct, kw_only=True):
    role: str  # admin | operator | viewer
    namespaces: list[str] = []  # empty: the whole cluster


class UserSpec(Struct, kw_only=True):
    grants: list[Grant] = []


class UserStatus(Struct, kw_only=True):
    holder: str = ""  # what its certificates carry; another one withdraws them all
    expires: datetime | None = None  # when the newest certificate ends


class User(Object, kw_only=True):
    kind: ClassVar[str] = "User"
    spec: UserSpec = msgspec.field(default_factory=UserSpec)
    status: UserStatus = msgspec.field(default_factory=UserStatus)
