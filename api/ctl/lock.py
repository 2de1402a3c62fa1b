"""`ctl lock`: whether a manager needs a key from people when it starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import msgspec

from api.ctl.session import Session, verb

if TYPE_CHECKING:
    from api.client import Client


@click.group("lock")
def command() -> None:
    """Have managers wait for an unlock key when they start.

    A locked cluster's managers keep their key-encryption key encrypted under the unlock key, which
    is nowhere but with you. One that starts serves nothing until `ctl unlock`; nodes and their
    containers go on meanwhile. So a stolen disk gives nothing away, and a machine that starts
    again by itself waits for you.
    """


@verb("enable")
def enable(session: Session) -> None:
    """Lock the cluster, and show the unlock key: once."""

    async def work(client: Client) -> None:
        tell_unlock_key(session, await client.lock())

    session.run(work)


@verb("rotate")
def rotate(session: Session) -> None:
    """Make another unlock key, and show it: once. The one before opens nothing any more."""

    async def work(client: Client) -> None:
        tell_unlock_key(session, await client.lock(rotate=True))

    session.run(work)


@verb("disable")
def disable(session: Session) -> None:
    """Take off the lock: managers start by themselves again."""

    async def work(client: Client) -> None:
        await client.take_off_lock()
        session.output.data("the cluster is not locked any more")

    session.run(work)


@verb("status")
@click.option("-o", "--output", type=click.Choice(["json"]), help="json: all of it.")
def status(session: Session, output: str | None) -> None:
    """Show whether the cluster is locked."""

    async def work(client: Client) -> None:
        now = (await client.keys()).lock
        if output:
            session.output.data(json.dumps(msgspec.to_builtins(now), indent=2))
            return
        since = f", since {now.since:%Y-%m-%d %H:%M} UTC" if now.since else ""
        session.output.data(f"locked with unlock key {now.id}{since}" if now.locked else "off")
        for each in now.waiting:
            session.output.note(f"waiting for {each}")

    session.run(work)


for _command in (enable, rotate, disable, status):
    command.add_command(_command)


def tell_unlock_key(session: Session, key: str) -> None:
    """The key is data, so that it can be piped into a safe; what to do with it is not."""
    session.output.data(key)
    session.output.note(
        "this is the unlock key, and it is not shown again: keep it in a safe place that is not on"
        " these machines. A manager that starts serves nothing until `ctl unlock` brings it; who"
        " loses it loses the cluster when the last manager stops"
    )
