"""What deleting an object means: decided without I/O.

An object that nothing holds goes at once. One with finalizers is marked, and goes when their work
is done; a service waits so for its tasks, a namespace for what is in it. For a task it means that
it shall be removed: its agent stops it first.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from api.server import admission, status
from api.server.documents import Preconditions, decode, encode
from api.store.cache import Cache, Item
from api.store.contract import Write
from api.store.holders import followers
from api.store.keys import payload_keys
from api.types import codec
from api.types.kinds import CONFIG, KINDS, NAMESPACE, NODE, REVISION, SECRET, SERVICE, TASK
from api.types.meta import FOREGROUND, ORPHAN
from api.types.task import Task, TaskState

_NAMED = 5  # services in a sentence
POLICIES = ("Background", "Foreground", "Orphan")


class DeleteOptions(NamedTuple):
    preconditions: Preconditions = Preconditions()
    dry_run: bool = False
    force: bool = False  # also a node that is connected, a secret that is used
    leaving: frozenset[str] = frozenset()  # services that are about to need no secret any more
    policy: str = "Background"  # what becomes of objects that it owns: one of POLICIES


NO_OPTIONS = DeleteOptions()


def require_deletable(item: Item, cache: Cache, options: DeleteOptions) -> None:
    """Raises Failure where it must not be deleted."""
    kind, name = item.kind, item.name
    if kind is REVISION:
        raise status.not_allowed("DELETE", "revisions: they go with their service")
    if kind is NAMESPACE and name == admission.DEFAULT_NAMESPACE:
        raise status.forbidden("namespace default can't be deleted; delete what is in it")
    if kind is NODE and item.obj.spec.role == "manager":
        why = f"it is a manager's machine; demote it first: ctl node demote {name}"
        raise status.conflict(kind, "", name, why)
    if kind is NODE and not options.force and name in cache.sessions:
        why = (
            "its agent is connected; stop the agent first, or insist (`ctl node rm --force`):"
            " its certificate ends with it, and its tasks are replaced elsewhere"
        )
        raise status.conflict(kind, "", name, why)
    if kind is SECRET and not options.force and (services := used_by(item, cache, options.leaving)):
        why = (
            f"can't be deleted: {_services(services)} {'use' if len(services) > 1 else 'uses'} it."
            " Take it out of them first, or insist (ctl delete --force; gracePeriodSeconds 0): what"
            " runs keeps its files, but no task can start with it, after a crash neither"
        )
        raise status.Failure(409, "Conflict", f"{status.title(kind, item.namespace, name)} {why}")
    if options.policy == "Orphan" and kind in (SERVICE, NAMESPACE):
        what = "its tasks" if kind is SERVICE else "what is in it"
        raise status.bad_request(
            f"{status.title(kind, item.namespace, name)} can't be deleted with propagation policy"
            f" Orphan: {what} would stay without it, and can't; use Background or Foreground"
        )


def writes_of(
    item: Item, options: DeleteOptions, now: datetime, *, owns: bool
) -> tuple[list[Write], bytes]:
    """The writes that delete it or begin to (none: it is on its way), and its last value.

    `owns`: other objects belong to it, so that the policy makes a difference.
    """
    metadata = item.obj.metadata
    if item.kind is TASK:
        task: Task = codec.copy(item.obj)
        if task.spec.desired_state == TaskState.REMOVE:
            return [], item.value
        task.spec.desired_state = TaskState.REMOVE
        value = codec.encode(task)
        return [Write(item.key, value, item.revision)], value
    held = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.policy) if owns else None
    if metadata.finalizers or held:
        if metadata.deletion_timestamp is not None:
            return [], item.value
        document = decode(item.value)
        document["metadata"]["deletionTimestamp"] = admission.timestamp(now)
        if held:
            document["metadata"]["finalizers"] = [*metadata.finalizers, held]
        value = encode(item.kind, document)
        return [Write(item.key, value, item.revision)], value
    writes = [Write(item.key, None, item.revision)]
    if item.kind is SECRET:
        writes += [Write(key, None) for key in payload_keys(item.obj)]
    return writes, item.value


def owns(item: Item, cache: Cache) -> bool:
    """Whether other objects belong to it."""
    uid = item.obj.metadata.uid
    return any(cache.by(kind, "owner", uid) for kind in KINDS if kind.declared)


def used_by(item: Item, cache: Cache, leaving: Collection[str] = ()) -> list[str]:
    """The services that name a secret or config and stay, sorted."""
    index = {SECRET.name: "secret", CONFIG.name: "config"}.get(item.kind.name)
    if index is None:
        return []
    return sorted(
        user.name
        for user in cache.by(SERVICE, index, f"{item.namespace}/{item.name}")
        if user.obj.metadata.deletion_timestamp is None
        and f"{user.namespace}/{user.name}" not in leaving
    )


def still_used(item: Item, cache: Cache) -> list[str]:
    """Warnings where services still name it, or it signs others' certificates."""
    said: list[str] = []
    what = f"{item.kind.name.lower()} {item.namespace}/{item.name}"
    if users := used_by(item, cache):
        said.append(f"{what} is still named by {_services(users)}; their new tasks wait for it")
    if item.kind is SECRET and (signed := followers(cache, item.namespace, item.name)):
        which = ", ".join(signed[:_NAMED]) + (", …" if len(signed) > _NAMED else "")
        said.append(
            f"{what} signed the certificates of {which}: they are good until they end, and can't"
            " be renewed without it"
        )
    return said


def _services(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"service{'s' if len(names) > 1 else ''} {', '.join(names[:_NAMED])}{more}"
