"""The kinds there are: their names in URLs, store keys and on the command line."""

from __future__ import annotations

from typing import Final

import msgspec

from api.types.event import Event
from api.types.meta import Object
from api.types.namespace import Namespace
from api.types.node import Node
from api.types.revision import Revision
from api.types.secret import Config, Secret
from api.types.service import Service
from api.types.task import Task
from api.types.user import User


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # Service
    plural: str  # services
    type: type[Object]
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    # Users declare these in manifests; the others are written by the system alone.
    declared: bool = True


NAMESPACE: Final = Kind(
    name="Namespace", plural="namespaces", type=Namespace, namespaced=False, short_names=("ns",)
)
NODE: Final = Kind(name="Node", plural="nodes", type=Node, namespaced=False, short_names=("no",))
USER: Final = Kind(name="User", plural="users", type=User, namespaced=False)
SERVICE: Final = Kind(name="Service", plural="services", type=Service, short_names=("svc",))
SECRET: Final = Kind(name="Secret", plural="secrets", type=Secret)
CONFIG: Final = Kind(name="Config", plural="configs", type=Config, short_names=("cfg",))
REVISION: Final = Kind(
    name="Revision", plural="revisions", type=Revision, short_names=("rev",), declared=False
)
TASK: Final = Kind(name="Task", plural="tasks", type=Task, declared=False)
EVENT: Final = Kind(name="Event", plural="events", type=Event, short_names=("ev",), declared=False)

# In the order in which objects are applied; deletion goes the other way.
KINDS: Final = (NAMESPACE, NODE, USER, SECRET, CONFIG, SERVICE, REVISION, TASK, EVENT)
BY_NAME: Final = {kind.name: kind for kind in KINDS}
BY_PLURAL: Final = {kind.plural: kind for kind in KINDS}
BY_TYPE: Final = {kind.type: kind for kind in KINDS}


def kind_for(word: str) -> Kind | None:
    """The kind a person means by `word`: Service, services, service, svc."""
    lower = word.lower()
    for kind in KINDS:
        if lower in (kind.name.lower(), kind.plural, *kind.short_names):
            return kind
    return None
