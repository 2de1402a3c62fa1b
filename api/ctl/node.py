"""`ctl node`: whether nodes take tasks, what their machines are for, and that they go.

A node's role says what its machine is for: constraints see it (`node.role==manager`), and removing
or demoting goes by it. The manager itself is a program that a person starts there, with the key
that `ctl join` brings with a manager's token; so promoting marks the node and says that line.
Managers hold no part of the store here (they share an etcd cluster, or there is one manager alone),
so a demotion can't cost the store its quorum; that the last manager stays is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from api.ctl.errors import CtlError, TimedOut
from api.ctl.output import Output
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of
from api.ctl.token import join_line
from api.ctl.waiting import WaitOptions, wait_options
from api.types.kinds import NODE, TASK
from api.types.task import TERMINAL

if TYPE_CHECKING:
    from api.client import Client

_DONE = {"drain": "drained", "pause": "paused", "active": "activated"}
_names = click.argument("nodes", nargs=-1, required=True, shell_complete=names_of("node"))


@click.group("node")
def command() -> None:
    """Take nodes out of service and back, change their role, remove them."""


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


@verb("rm")
@_names
@click.option("--force", is_flag=True, help="Also nodes whose agent is connected.")
def remove(session: Session, nodes: tuple[str, ...], force: bool) -> None:
    """Remove nodes from the cluster; their certificates are refused from then on.

    Their tasks are replaced on other nodes. To empty a node in good order first: `ctl node drain`.
    """
    session.run(lambda client: _remove(session.output, client, nodes, force))


@verb("promote")
@_names
def promote(session: Session, nodes: tuple[str, ...]) -> None:
    """Make nodes' machines managers', and say what is to be done there."""

    async def work(client: Client) -> None:
        if not (await client.authority()).shared_store:
            raise CtlError(
                "this cluster's store is an etcd of its only manager's own, which another manager"
                " can't reach",
                "run an etcd cluster and start the managers with --etcd-endpoints",
            )
        await _give_role(session.output, client, nodes, "manager")
        line = await join_line(client, session.context.servers, "manager")
        session.output.note("to start a manager there, get the cluster's key first, with:")
        session.output.note(f"  {line}")

    session.run(work)


@verb("demote")
@_names
def demote(session: Session, nodes: tuple[str, ...]) -> None:
    """Make nodes workers again. Stop the manager on the machine first."""

    async def work(client: Client) -> None:
        await _not_the_last(client, nodes)
        await _give_role(session.output, client, nodes, "worker")
        session.output.note(
            "end `skepd manager` there if it still runs, and remove its data directory: the key in"
            " it opens the cluster's secrets"
        )

    session.run(work)


for _command in (drain, pause, activate, remove, promote, demote):
    command.add_command(_command)


async def _set(output: Output, client: Client, nodes: Sequence[str], availability: str) -> None:
    for name in dict.fromkeys(nodes):
        node = await client.get(NODE, "", name)
        if node.get("spec", {}).get("availability", "active") == availability:
            output.data(f"node/{name} unchanged")
            continue
        await client.patch(NODE, "", name, {"spec": {"availability": availability}})
        output.data(f"node/{name} {_DONE[availability]}")


async def _remove(output: Output, client: Client, nodes: Sequence[str], force: bool) -> None:
    for name in dict.fromkeys(nodes):
        node = await client.get(NODE, "", name)
        await client.delete(NODE, "", name, uid=node["metadata"]["uid"], force=force)
        output.data(f"node/{name} removed")
        if force:
            output.note(
                f"containers that it has run on until they are removed there: they carry the label"
                f" dev.skep.node={name}"
            )


async def _give_role(output: Output, client: Client, nodes: Sequence[str], role: str) -> None:
    for name in dict.fromkeys(nodes):
        if _role(await client.get(NODE, "", name)) == role:
            output.data(f"node/{name} unchanged")
            continue
        await client.patch(NODE, "", name, {"spec": {"role": role}})
        output.data(f"node/{name} is a {role}")


async def _not_the_last(client: Client, nodes: Sequence[str]) -> None:
    """Raises CtlError where no manager would be left."""
    named = set(nodes)
    managers = {
        each["metadata"]["name"]
        for each in (await client.list(NODE)).items
        if _role(each) == "manager"
    }
    # One that runs on a machine which is no node, or a worker, stays as well.
    elsewhere = len((await client.authority()).managers) - len(managers)
    if managers & named and not managers - named and elsewhere <= 0:
        raise CtlError(
            f"node {', '.join(sorted(managers & named))} is the last manager: nobody would be left"
            " to run the cluster",
            "promote another one first: ctl node promote NAME",
        )


def _role(node: Mapping[str, Any]) -> str:
    return str(node.get("spec", {}).get("role", "worker"))


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
