"""`ctl token`: what lets a machine join."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from api.ctl.session import Session, verb

if TYPE_CHECKING:
    from api.client import Client

_role = click.argument("role", type=click.Choice(["worker", "manager"]))
_quiet = click.option("-q", "--quiet", is_flag=True, help="Only the token.")


@click.group("token")
def command() -> None:
    """Show and replace the tokens that let machines join.

    A token carries the digest of the cluster's authority, so that a machine knows whom it joins,
    and a secret. Who has the manager's can become all that the cluster is: keep it as such.
    """


@verb("show")
@_role
@_quiet
def show(session: Session, role: str, quiet: bool) -> None:
    """Print the line that joins a machine."""
    session.run(lambda client: _tell(session, client, role, quiet, rotate=False))


@verb("rotate")
@_role
@_quiet
def rotate(session: Session, role: str, quiet: bool) -> None:
    """Make a new token, and print the line. The old token is refused from now on.

    Machines that have joined stay what they are.
    """
    session.run(lambda client: _tell(session, client, role, quiet, rotate=True))


for _command in (show, rotate):
    command.add_command(_command)


async def join_line(
    client: Client, servers: Sequence[str], role: str, *, rotate: bool = False
) -> str:
    """The one line that joins a machine."""
    token = await client.token(role, rotate=rotate)
    where = reachable([*servers, *(await client.authority()).managers])
    return f"ctl join --token {token} {where}"


def reachable(servers: Sequence[str]) -> str:
    """Of the managers' URLs the first that other machines can use, as host:port."""
    found = [urlsplit(url).netloc for url in servers]
    return next((each for each in found if not _loopback(each)), found[0])


def _loopback(where: str) -> bool:
    host = urlsplit(f"//{where}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _tell(session: Session, client: Client, role: str, quiet: bool, *, rotate: bool) -> None:
    if quiet:
        session.output.data(await client.token(role, rotate=rotate))
        return
    line = await join_line(client, session.context.servers, role, rotate=rotate)
    session.output.data(line)
    if _loopback(line.rpartition(" ")[2]):
        session.output.note(
            "this manager listens on loopback only, so only this machine can join; restart it with"
            " --listen 0.0.0.0:7443 for others"
        )
