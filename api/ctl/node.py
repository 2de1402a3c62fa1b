"""`ctl node`: whether nodes take tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from api.ctl.errors import TimedOut
from api.ctl.follow import WaitOptions, wait_options
from api.ctl.output import Output
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of
from api.types.kinds import NODE, TASK
from api.types.task import TERMINAL

if TYPE_CHECKING:
    from api.client import Client

_DONE = {"drain": "drained", "pause": "paused", "active": "activated"}
_names = click.argument("nodes", nargs=-1, required=True, shell_complete=names_of("node"))


@click.group("node")
def command() -> None:
    """Take nodes out of service, and back."""


@verb("drain")
@_names
@wait_options
def drain(session: Session, nodes: tuple[str, ...], wait: WaitOptions) -> None:
    """Move tasks elsewhere, and let none come."""

    async def work(client: Client) -> None:
        await _set(session.output, client, nodes, "drain")
        if wait.wait:
            await _empty(session.output, client, nodes, wait.timeout)

    session.run(work)


@verb("pause")
@_names
def pause(session: Session, nodes: tuple[str, ...]) -> None:
    """Keep tasks, and let none come."""
    session.run(lambda client: _set(session.output, client, nodes, "pause"))


@verb("activate")
@_names
def activate(session: Session, nodes: tuple[str, ...]) -> None:
    """Let tasks come again."""
    session.run(lambda client: _set(session.output, client, nodes, "active"))


for _command in (drain, pause, activate):
    command.add_command(_command)


async def _set(output: Output, client: Client, nodes: Sequence[str], availability: str) -> None:
    for name in dict.fromkeys(nodes):
        node = await client.get(NODE, "", name)
        if node.get("spec", {}).get("availability", "active") == availability:
            output.data(f"node/{name} unchanged")
            continue
        await client.patch(NODE, "", name, {"spec": {"availability": availability}})
        output.data(f"node/{name} {_DONE[availability]}")


async def _empty(output: Output, client: Client, nodes: Sequence[str], timeout: float) -> None:
    """Until no task is live on the nodes. Raises TimedOut."""
    left: dict[str, set[str]] = {name: set() for name in nodes}
    try:
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            for name in left:
                group.create_task(_until_empty(output, client, name, left[name]))
    except TimeoutError:
        counts = ", ".join(f"{len(tasks)} on {name}" for name, tasks in left.items() if tasks)
        raise TimedOut(
            f"not empty within {timeout:g} s: tasks still run ({counts})",
            "a task leaves when another runs in its place: `ctl get tasks -A` says what those"
            " wait for",
        ) from None


async def _until_empty(output: Output, client: Client, name: str, live: set[str]) -> None:
    fields = f"spec.node={name}"
    listing = await client.list(TASK, "", field_selector=fields)
    live.update(task["metadata"]["uid"] for task in listing.items if _live(task))
    if not live:
        return
    output.note(f"node/{name}: {len(live)} task{'s' if len(live) != 1 else ''} to move")
    changes = client.watch(
        TASK, "", resource_version=listing.resource_version, field_selector=fields
    )
    async with contextlib.aclosing(changes):
        async for change in changes:
            uid = change.object["metadata"]["uid"]
            if change.type == "DELETED" or not _live(change.object):
                live.discard(uid)
            else:
                live.add(uid)
            if not live:
                return


def _live(task: dict[str, object]) -> bool:
    status = task.get("status")
    state = status.get("state") if isinstance(status, dict) else None
    return state not in TERMINAL
