"""`ctl ca`: the cluster's authority."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click
import msgspec

from api.ctl.context import renewed
from api.ctl.errors import TimedOut
from api.ctl.session import Session, verb
from api.ctl.waiting import Duration, WaitOptions, wait_options

if TYPE_CHECKING:
    from api.client import Client
    from api.types.join import AuthorityStatus

_POLL = 1.0  # seconds; the authority is no object that could be watched
_SHOWN = 10  # of those waited for


@click.group("ca")
def command() -> None:
    """See and replace the root that all certificates come from."""


@verb("status")
@click.option("-o", "--output", type=click.Choice(["json"]), help="json: all of it.")
def status(session: Session, output: str | None) -> None:
    """Show the root, and while it is replaced how far that is."""

    async def work(client: Client) -> None:
        _tell(session, await client.authority(), output)

    session.run(work)


@verb("rotate")
@click.option(
    "--keep",
    type=Duration(),
    default="0",
    metavar="TIME",
    help="Accept the old root for that long at least, such as 168h for people's contexts.",
)
@wait_options
def rotate(session: Session, keep: float, wait: WaitOptions) -> None:
    """Put a new root in the place of the present one.

    \b
    The old root vouches for the new one, so nothing stops: managers take new certificates at
    once, nodes a few at a time. The old root is dropped when every node and manager has moved; a
    node that is away is waited for, until it comes back or is removed.
    \b
    Contexts get a new certificate when they are used meanwhile; those that are not end with the
    old root, so give people time with --keep, unless its key is in wrong hands. A manager's
    admin.yaml is always good to be imported again.
    """

    async def work(client: Client) -> None:
        begun = await client.authority(rotate=True, keep=keep)
        new = begun.next.id if begun.next else begun.current.id
        session.output.data(f"root {new} takes the place of {begun.current.id}")
        await renewed(session, client)
        if wait.wait:
            await _until_done(session, client, wait.timeout)

    session.run(work)


for _command in (status, rotate):
    command.add_command(_command)


async def _until_done(session: Session, client: Client, timeout: float) -> None:
    """Raises TimedOut."""
    said = ""
    try:
        async with asyncio.timeout(timeout):
            while (now := await client.authority()).next is not None:
                if (line := f"{now.moved} of {now.nodes} nodes have moved") != said:
                    session.output.note(line)
                    said = line
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise TimedOut(
            f"not done within {timeout:g} s; it goes on", "`ctl ca status` says for whom it waits"
        ) from None
    session.output.data(f"root {now.current.id} is the only one now")


def _tell(session: Session, now: AuthorityStatus, output: str | None) -> None:
    if output:
        session.output.data(json.dumps(msgspec.to_builtins(now), indent=2))
        return
    lines = [f"root      {now.current.id}, good until {now.current.expires:%Y-%m-%d}"]
    if now.next is not None:
        lines += [
            f"next      {now.next.id}, since {now.since:%Y-%m-%d %H:%M} UTC",
            f"moved     {now.moved} of {now.nodes} nodes",
            *([f"kept      until {now.keep_until:%Y-%m-%d %H:%M} UTC"] if now.keep_until else []),
            *(f"waiting   for {each}" for each in now.waiting[:_SHOWN]),
        ]
        if len(now.waiting) > _SHOWN:
            lines.append(f"          and {len(now.waiting) - _SHOWN} more")
    session.output.lines(lines)
