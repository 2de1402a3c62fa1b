"""The indexes that the controllers and the server look things up by.

Values that name an object in a namespace are `namespace/name`.
"""

from __future__ import annotations

from collections.abc import Iterator

from api.rendering import secret_names
from api.store.cache import Cache
from api.types.event import Event
from api.types.kinds import EVENT, KINDS, REVISION, SECRET, SERVICE, TASK
from api.types.meta import Object
from api.types.revision import Revision
from api.types.secret import Secret
from api.types.service import Service
from api.types.task import Task


def standard(cache: Cache) -> None:
    """Add them all; before `cache.run`."""
    cache.add_index(TASK, "service", _service_of_task)
    cache.add_index(TASK, "revision", _revision_of_task)
    cache.add_index(TASK, "node", _node_of_task)
    cache.add_index(TASK, "state", _state_of_task)
    cache.add_index(REVISION, "service", _service_of_revision)
    cache.add_index(REVISION, "secret", _secrets_of_revision)
    cache.add_index(SERVICE, "secret", _secrets_of_service)
    cache.add_index(SERVICE, "config", _configs_of_service)
    cache.add_index(SECRET, "authority", _authorities_of_secret)
    cache.add_index(EVENT, "object", _object_of_event)
    for kind in KINDS:
        if kind.declared:
            cache.add_index(kind, "owner", _owners_of)


def _service_of_task(task: Task) -> str:
    return f"{task.metadata.namespace}/{task.spec.service}"


def _revision_of_task(task: Task) -> str:
    return f"{task.metadata.namespace}/{task.spec.revision}"


def _node_of_task(task: Task) -> str | None:
    return task.spec.node or None


def _state_of_task(task: Task) -> str:
    return task.status.state


def _service_of_revision(revision: Revision) -> str:
    return f"{revision.metadata.namespace}/{revision.spec.service}"


def _secrets_of_revision(revision: Revision) -> list[str]:
    namespace = revision.metadata.namespace
    return [f"{namespace}/{name}" for name in secret_names(revision.spec.template)]


def _secrets_of_service(service: Service) -> list[str]:
    namespace = service.metadata.namespace
    return [f"{namespace}/{name}" for name in secret_names(service.spec.template)]


def _configs_of_service(service: Service) -> Iterator[str]:
    namespace = service.metadata.namespace
    return (f"{namespace}/{mount.name}" for mount in service.spec.template.configs)


def _authorities_of_secret(secret: Secret) -> list[str] | None:
    """The secrets whose authorities sign its certificates."""
    named = {each.x509.ca for each in secret.generate.values() if each.x509 and each.x509.ca}
    return [f"{secret.metadata.namespace}/{name}" for name in sorted(named)] or None


def _owners_of(obj: Object) -> tuple[str, ...] | None:
    return tuple([owner.uid for owner in obj.metadata.owner_references]) or None


def _object_of_event(event: Event) -> str | None:
    return event.involved_object.uid or None
