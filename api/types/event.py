"""An event: something that happened to an object, said once and counted."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from api.types.meta import API_VERSION, Object, Struct


class ObjectReference(Struct, kw_only=True):
    api_version: str = API_VERSION
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Event(Object, kw_only=True):
    kind: ClassVar[str] = "Event"
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    type: str = "Normal"  # Normal | Warning
    reason: str = ""  # CamelCase, one word
    message: str = ""
    count: int = 1
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    reporting_component: str = ""
