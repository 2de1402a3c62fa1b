"""`ctl seal key` and `ctl seal keys`: the cluster's public sealing keys, and their care."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.ctl.errors import Conflict, CtlError, Usage
from api.ctl.sealedfiles import write
from api.ctl.sealingkeys import fetch, keep
from api.ctl.session import Session, verb
from api.ctl.table import Table

if TYPE_CHECKING:
    from api.seal.keyfile import KeyFile


@verb("key")
@click.option(
    "--fetch", "target", default="", metavar="FILE", help="Write them to a file, for --key."
)
def key(session: Session, target: str) -> None:
    """Fetch the cluster's public sealing keys, and show them.

    \b
    They are kept for this context, so that `ctl seal` works where no manager answers. A file of
    them holds no secret; in git it lets everybody seal who has the repository.
    """
    keys_now = fetch(session)
    if target:
        write(Path(target), keys_now.text())
        session.output.data(f"{target}: {len(keys_now.keys)} keys, the newest {keys_now.newest.id}")
        return
    _show(session, keys_now)


@click.group("keys")
def keys() -> None:
    """Make a new sealing key before its time, or drop an old one."""


@verb("renew")
def renew(session: Session) -> None:
    """Have another key made now; the others open on.

    The cluster does this by itself every 30 days.
    """
    made = session.ask(lambda client: client.renew_sealing_key())
    keep(session, made)
    session.output.data(f"values are sealed to key {made.newest.id} from now on")


@verb("drop")
@click.argument("id")
@click.option(
    "--check",
    "paths",
    multiple=True,
    metavar="DIR",
    help="Refuse where something in these files is sealed to it; may be repeated.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def drop(session: Session, id: str, paths: tuple[str, ...], yes: bool) -> None:
    """Delete a key: what was sealed to it never opens again, in old commits too.

    \b
    Seal what there is anew first:
    ctl seal rotate --all secrets/
    ctl seal keys drop 5c3f0d7be2a91846 --check secrets/
    """
    from api.ctl.sealchecks import sealed_to

    if paths and (found := sealed_to(session, paths, id)):
        raise Conflict(
            f"{found[0].where}: {found[0].place.key} is sealed to key {id}"
            + (f", and {len(found) - 1} other values are" if len(found) > 1 else ""),
            "seal them anew first: ctl seal rotate --all DIR",
        )
    if not yes:
        _confirm(id)
    left = session.ask(lambda client: client.drop_sealing_key(id))
    keep(session, left)
    session.output.data(f"sealing key {id} dropped")


for _command in (renew, drop):
    keys.add_command(_command)


def _confirm(id: str) -> None:
    import sys

    if not sys.stdin.isatty():
        raise Usage("dropping a key can't be undone", "give --yes if that is meant")
    typed = click.prompt(f"Nothing sealed to {id} will open again. Its id, to go on", err=True)
    if typed.strip() != id:
        raise CtlError("that is another id; nothing was dropped")


def _show(session: Session, known: KeyFile) -> None:
    now = datetime.now(UTC)
    rows = [
        [
            each.id,
            f"{each.created:%Y-%m-%d %H:%M}",
            f"{each.expires:%Y-%m-%d %H:%M}" + (" (expired)" if each.expired(now) else ""),
            "sealed to" if index == 0 else "opens",
        ]
        for index, each in enumerate(known.keys)
    ]
    session.output.lines(Table(["ID", "CREATED", "EXPIRES", "USE"]).lines(rows))
