"""Who uses a secret, and which of its versions: read from the cache.

A version is held by the tasks that have it in their containers or are to be given it, and by
services that may make tasks with it: to update to it, or to go back. What is held stays, whatever
its age.
"""

from __future__ import annotations

from collections.abc import Iterator

from api.rendering import pinned_secrets
from api.store.cache import Cache
from api.types.kinds import REVISION, SECRET, SERVICE, TASK
from api.types.revision import Revision
from api.types.secret import Secret
from api.types.service import Service, UpdateState
from api.types.task import Task


def users(cache: Cache, namespace: str, name: str) -> list[str]:
    """The services that name the secret, sorted."""
    return sorted(item.name for item in cache.by(SERVICE, "secret", f"{namespace}/{name}"))


def followers(cache: Cache, namespace: str, name: str) -> list[str]:
    """The secrets whose certificates its authority signs, sorted."""
    return sorted(item.name for item in cache.by(SECRET, "authority", f"{namespace}/{name}"))


def by_version(cache: Cache, namespace: str, name: str) -> dict[int, list[Task]]:
    """The tasks that are not over, under the version of the secret that each has or is to get."""
    found: dict[int, list[Task]] = {}
    for task, version, _ in _tasks(cache, namespace, name):
        found.setdefault(version, []).append(task)
    return found


def held(cache: Cache, namespace: str, name: str) -> frozenset[int]:
    """The versions that must stay."""
    versions: set[int] = set()
    for _, has, given in _tasks(cache, namespace, name):
        versions |= {has, given}
    oldest, newest = _ends(cache, namespace, name)
    for item in cache.by(SERVICE, "secret", f"{namespace}/{name}"):
        for each in _revisions(item.obj):
            revision = cache.get(REVISION, namespace, each)
            if revision is not None:
                versions.add(_given(revision.obj, name, oldest, newest))
    return frozenset(versions)


def highest(cache: Cache, namespace: str, name: str) -> int:
    """The highest version that any task has or any revision names; 0: there is none."""
    found = 0
    for item in cache.by(REVISION, "secret", f"{namespace}/{name}"):
        found = max(found, item.obj.spec.secrets.get(name, 0))
        for known in cache.by(TASK, "revision", f"{namespace}/{item.name}"):
            if known.obj.live:
                found = max(found, known.obj.status.secrets.get(name, 0))
    return found


def _revisions(service: Service) -> list[str]:
    """Those that its tasks may be made of."""
    update, job = service.status.update, service.status.job
    if job is not None:  # the newest run of a global job goes on to nodes that join
        return [run.revision for run in job.runs if not run.over or run is job.runs[0]]
    if update is None or update.state is UpdateState.COMPLETED:
        return [service.status.revision]
    return [update.revision, update.previous]


def _tasks(cache: Cache, namespace: str, name: str) -> Iterator[tuple[Task, int, int]]:
    """With the version that it has, and the one that it would be given by now."""
    oldest, newest = _ends(cache, namespace, name)
    for item in cache.by(REVISION, "secret", f"{namespace}/{name}"):
        given = _given(item.obj, name, oldest, newest)
        for known in cache.by(TASK, "revision", f"{namespace}/{item.name}"):
            task: Task = known.obj
            if task.live:
                yield task, task.status.secrets.get(name, given), given


def _ends(cache: Cache, namespace: str, name: str) -> tuple[int, int]:
    """The oldest and the newest version; of a secret that is not there, as its first would be."""
    item = cache.get(SECRET, namespace, name)
    if item is None:
        return 1, 1
    secret: Secret = item.obj
    return secret.status.oldest, secret.status.version


def _given(revision: Revision, name: str, oldest: int, newest: int) -> int:
    template = revision.spec.template
    if name in pinned_secrets(template):
        return revision.spec.version_of(name, oldest)
    return newest
