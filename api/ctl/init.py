"""`ctl init`: a cluster's first machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.ctl.daemons import HOME, Daemon
from api.ctl.errors import CtlError
from api.ctl.session import Session, verb
from api.ctl.token import join_line

if TYPE_CHECKING:
    from api.context import Context

_START_SECONDS = 90.0


@verb("init")
@click.option(
    "--listen",
    default="0.0.0.0:7443",
    show_default=True,
    help="Address and port of the API. Nothing is answered without a certificate or a token.",
)
@click.option(
    "--advertise",
    multiple=True,
    metavar="NAME",
    help="A name or address that the other machines use. Default: this machine's own address.",
)
@click.option(
    "--home", type=click.Path(path_type=Path), default=HOME, show_default=True, help="For its data."
)
@click.option("--name", default="", help="What to call the cluster here. Default: default.")
@click.option("--no-start", is_flag=True, help="Only say how the manager is started.")
def command(
    session: Session,
    listen: str,
    advertise: tuple[str, ...],
    home: Path,
    name: str,
    no_start: bool,
) -> None:
    """Make this machine the first of a cluster: its manager.

    \b
    Starts a manager in the background, takes in its context, and prints the lines that join
    other machines (and this one, if it is to run containers too). Where a manager runs already,
    it only prints them.
    \b
    Examples:
      ctl init
      ctl init --advertise skep.example.com --listen :7443
    """
    arguments = [
        "--listen",
        listen,
        *(word for each in advertise for word in ("--advertise", each)),
    ]
    manager = Daemon("manager", home, arguments)
    runs = manager.owner()
    if not runs and no_start:
        session.output.data(manager.command)
        session.output.note("then run `ctl init` again: it prints the lines that join machines")
        return
    if runs:
        session.output.note(f"a manager runs here already (pid {runs})")
    else:
        manager.start()
    admin = manager.data_dir / "admin.yaml"
    manager.until(lambda: _answers(admin), "the manager answers", _START_SECONDS)
    context = _take_in(session, admin, name)
    session.output.note(f"the cluster is up: {context.server}")
    session.output.note("\nto add a machine that runs containers (this one too), run there:")
    session.output.data(_line(context, "worker"))
    session.output.note("\nto add a manager (needs an etcd cluster, see --etcd-endpoints):")
    session.output.data(_line(context, "manager"))
    if not runs:
        session.output.note(
            f"\nthe manager runs until this machine is restarted (log: {manager.log});"
            " hack/systemd has a unit that starts it at boot"
        )


def _answers(admin: Path) -> bool:
    from api.client import ClientError
    from api.context import ContextError, load
    from api.pki.errors import PkiError

    async def ask() -> bool:
        async with load(admin).select().client() as client:
            return await client.ready()

    try:
        return admin.exists() and asyncio.run(ask())
    except (ClientError, ContextError, PkiError):
        return False


def _take_in(session: Session, admin: Path, name: str) -> Context:
    from api.context import ContextError, load, save

    try:
        file = load()
        taken = file.import_from(load(admin), name)
        save(file)
    except ContextError as error:
        raise CtlError(str(error)) from None
    session.output.note(f"context/{taken} imported and in use")
    return file.contexts[taken]


def _line(context: Context, role: str) -> str:
    async def ask() -> str:
        async with context.client() as client:
            return await join_line(client, context.servers, role)

    return asyncio.run(ask())
