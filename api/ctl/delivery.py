"""Waiting until all services that use a secret have a version of it: the secret's `--wait`.

Services that are replaced for a new version are waited for as `ctl apply --wait` does. Of those
that follow it in place each task is: their status says nothing of it, and their tasks' do. Jobs
get it with their next run, so nothing is waited for there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from api.ctl.follow import wait_until
from api.ctl.newest import pinned, template_of
from api.ctl.output import Output
from api.ctl.resources import Target
from api.ctl.wanted import IN_EFFECT, Wanted
from api.types.columns import condition, field, is_job
from api.types.kinds import SECRET, SERVICE, TASK
from api.types.task import TERMINAL

if TYPE_CHECKING:
    from api.client import Client

Document = dict[str, Any]


async def wait_delivered(
    output: Output, client: Client, namespace: str, name: str, version: int, timeout: float
) -> None:
    """Raises TimedOut, CtlError, as `wait_until`."""
    end = asyncio.get_running_loop().time() + timeout
    replaced, following = await _users(output, client, namespace, name, version)
    targets = [Target(SERVICE, service) for service in replaced]
    await wait_until(output, client, targets, namespace, IN_EFFECT, timeout)
    wanted = _has(name, version)
    # Tasks that come meanwhile are given the newest version: they are only to be looked at again.
    while late := await _late(client, namespace, following, wanted):
        left = max(0.0, end - asyncio.get_running_loop().time())
        tasks = [Target(TASK, task) for task in late]
        await wait_until(output, client, tasks, namespace, wanted, left)


async def wait_renewed(
    output: Output, client: Client, namespace: str, name: str, before: int, timeout: float
) -> None:
    """Until the cluster has made another version than `before`, and all have that. Raises as
    `wait_delivered`."""
    end = asyncio.get_running_loop().time() + timeout

    def why_not(secret: Document | None) -> str:
        said = condition(secret or {}, "Generated").get("message")
        return str(said or "its new values are not made yet")

    wanted = Wanted(f"renewed after version {before}", lambda it: _version(it) > before, why_not)
    await wait_until(output, client, [Target(SECRET, name)], namespace, wanted, timeout)
    version = _version(await client.get(SECRET, namespace, name))
    output.data(f"secret/{name} is at version {version}")
    left = max(0.0, end - asyncio.get_running_loop().time())
    await wait_delivered(output, client, namespace, name, version, left)


async def _users(
    output: Output, client: Client, namespace: str, name: str, version: int
) -> tuple[list[str], list[str]]:
    """The services that are replaced for a new version, and those that follow it in place."""
    users = frozenset((await client.secret_holders(namespace, name)).get("services") or ())
    if not users:
        output.note(f"no service uses secret {name}")
        return [], []
    replaced: list[str] = []
    following: list[str] = []
    for service in (await client.list(SERVICE, namespace)).items:
        user = service["metadata"]["name"]
        if user not in users:
            continue
        if is_job(service):
            output.note(f"service/{user}: its next run gets version {version} of secret {name}")
            continue
        if name in pinned(service):
            replaced.append(user)
        if name in _followed(service):
            following.append(user)
    return replaced, following


def _followed(service: Document) -> frozenset[str]:
    """The secrets whose files are replaced in its containers."""
    from api.rendering import delivered

    return frozenset(mount.name for mount in delivered(template_of(service)) if mount.swapped)


async def _late(
    client: Client, namespace: str, services: Sequence[str], wanted: Wanted
) -> list[str]:
    """The services' tasks that are not as wanted."""
    found: list[str] = []
    for service in services:
        tasks = await client.list(TASK, namespace, field_selector=f"spec.service={service}")
        found += [task["metadata"]["name"] for task in tasks.items if not wanted.met(task)]
    return found


def _has(name: str, version: int) -> Wanted:
    """That a task has the version, or does not need it any more."""

    def held(task: Document) -> int:
        return int(field(task, "status", "secrets", name) or 0)

    def met(task: Document | None) -> bool:
        return task is None or _leaves(task) or held(task) >= version

    def why_not(task: Document | None) -> str:
        if task is None:
            return ""
        has = f"it has version {held(task)}" if held(task) else "it has none of it yet"
        said = field(task, "status", "error") or field(task, "status", "message")
        return f"{has}: {said}" if said else has

    return Wanted(f"given version {version} of secret {name}", met, why_not, absence=True)


def _leaves(task: Document) -> bool:
    state = field(task, "status", "state") or ""
    return state in TERMINAL or (field(task, "spec", "desiredState") or "Running") != "Running"


def _version(secret: Document | None) -> int:
    return int(field(secret or {}, "status", "version") or 0)
