"""Which versions of its secrets a service's tasks are to be started with. Decided without I/O.

A new version of a secret whose mount says `onChange: restart` makes another revision of the
service, as a new template does, and so rolls by the same rules. What must hold:

- Nothing but a new version makes another revision: not that a secret comes to be, or is deleted,
  nor that a newer skep looks at what an older one has stored.
- A service that was undone to a revision keeps the versions that go with it, until there is a
  newer one than those that it was undone from.
- A job that has run does not run again because a secret changed: its next run gets the new version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from api.rendering import pinned_secrets
from api.types.job import JobStatus
from api.types.revision import Revision, revision_name
from api.types.secret import SecretStatus
from api.types.service import UNDONE_SECRETS, UNDONE_TO, Service

Find = Callable[[str], SecretStatus | None]


class Wanted(NamedTuple):
    """The revision that a service's tasks are to be of."""

    name: str
    secrets: Mapping[str, int]  # as in RevisionSpec


def wanted(service: Service, revisions: Sequence[Revision], find: Find) -> Wanted:
    """`find` gives a secret of the service's namespace; None: it is not there."""
    template = service.spec.template
    pinned = pinned_secrets(template)
    if not pinned:
        return Wanted(revision_name(service.metadata.name, template), {})
    by_name = {revision.metadata.name: revision for revision in revisions}
    if service.spec.is_job and service.spec.schedule is None:
        ran = by_name.get(_newest_run(service.status.job))
        if ran is not None and ran.spec.template == template:
            return Wanted(ran.metadata.name, ran.spec.secrets)
    undone = by_name.get(service.metadata.annotations.get(UNDONE_TO, ""))
    if undone is not None and _stays_undone(service, undone, pinned, find):
        return Wanted(undone.metadata.name, undone.spec.secrets)
    before = by_name.get(_revision_now(service))
    secrets: dict[str, int] = {}
    for name in sorted(pinned):
        status = find(name)
        if status is None or not status.version:
            version = 0 if before is None else before.spec.secrets.get(name, 0)
        else:
            version = 0 if status.version == status.oldest else status.version
        if version:
            secrets[name] = version
    return Wanted(revision_name(service.metadata.name, template, secrets), secrets)


def seen(service: Service, find: Find) -> dict[str, int]:
    """The newest versions of the secrets that its revisions name versions of, for its status; of
    one that is gone, what was seen of it last."""
    found: dict[str, int] = {}
    for name in sorted(pinned_secrets(service.spec.template)):
        status = find(name)
        before = service.status.observed_secrets.get(name, 0)
        version = before if status is None else status.version
        if version:
            found[name] = version
    return found


def lost(revisions: Sequence[Revision], find: Find) -> frozenset[str]:
    """The revisions that name versions whose bytes are gone. A secret that is not there at all is
    waited for."""
    found: set[str] = set()
    for revision in revisions:
        for name in pinned_secrets(revision.spec.template):
            status = find(name)
            if status is None or not status.version:
                continue
            if not status.has(revision.spec.version_of(name, status.oldest)):
                found.add(revision.metadata.name)
    return frozenset(found)


def _stays_undone(service: Service, undone: Revision, pinned: frozenset[str], find: Find) -> bool:
    """Whether nothing came after it was undone: no other template, no newer version."""
    name, template = service.metadata.name, service.spec.template
    if revision_name(name, template, undone.spec.secrets) != undone.metadata.name:
        return False
    said = _undone_from(service)
    for secret in pinned:
        status = find(secret)
        version = 0 if status is None else status.version
        if version and said.get(secret) != version:
            return False
    return not lost([undone], find)


def _undone_from(service: Service) -> dict[str, int]:
    """{} where what is said can't be read: who wrote that by hand gets the newest versions."""
    try:
        return msgspec.json.decode(
            service.metadata.annotations.get(UNDONE_SECRETS, "{}"), type=dict[str, int]
        )
    except msgspec.DecodeError:
        return {}


def _newest_run(job: JobStatus | None) -> str:
    return job.runs[0].revision if job is not None and job.runs else ""


def _revision_now(service: Service) -> str:
    update = service.status.update
    return update.revision if update is not None else service.status.revision
