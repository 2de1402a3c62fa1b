"""`ctl delete`: objects by name, by label, all of a kind, or what manifests name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from api.ctl.errors import CtlError, NotFound, Usage
from api.ctl.follow import wait_until
from api.ctl.manifests import Given, file_options, load
from api.ctl.resources import Target, targets
from api.ctl.session import Session, refusal, verb
from api.ctl.suggestions import kinds_then_names
from api.ctl.waiting import DEFAULT_TIMEOUT, Duration
from api.ctl.wanted import parse
from api.types.kinds import BY_NAME, KINDS, SECRET

if TYPE_CHECKING:
    from api.client import Client

_ORDER = {kind.name: place for place, kind in enumerate(KINDS)}


class _Doomed(NamedTuple):
    target: Target
    namespace: str


class _How(NamedTuple):
    labels: str
    fields: str
    dry_run: bool
    force: bool
    ignore_not_found: bool


@verb("delete")
@click.argument("what", nargs=-1, shell_complete=kinds_then_names)
@file_options
@click.option(
    "-l", "--selector", default="", metavar="LABELS", help="All objects with these labels."
)
@click.option("--field-selector", default="", metavar="FIELDS", help="All with these fields.")
@click.option("--all", "every", is_flag=True, help="All objects of the kind.")
@click.option(
    "--wait/--no-wait", default=True, help="Wait until they are gone (the default), or don't."
)
@click.option(
    "--timeout", type=Duration(), default=DEFAULT_TIMEOUT, show_default=True, help="How long."
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
@click.option("--force", is_flag=True, help="Also what the server would rather keep.")
@click.option("--ignore-not-found", is_flag=True, help="Succeed where one does not exist.")
def command(
    session: Session,
    what: tuple[str, ...],
    given: Given,
    selector: str,
    field_selector: str,
    every: bool,
    wait: bool,
    timeout: float,
    dry_run: bool,
    force: bool,
    ignore_not_found: bool,
) -> None:
    """Delete objects, and wait until they are gone.

    A service's containers stop first, each with its grace period.

    \b
    ctl delete service/web
    ctl delete services,configs -l app=shop
    ctl delete -f manifests/
    """
    doomed = _doomed(session, what, given, every=every or bool(selector or field_selector))
    how = _How(selector, field_selector, dry_run, force, ignore_not_found)

    async def work(client: Client) -> None:
        going, refused = await _delete(session, client, doomed, how)
        if wait and not dry_run:
            gone = parse("delete")
            for namespace in dict.fromkeys(each.namespace for each in going):
                mine = [each.target for each in going if each.namespace == namespace]
                await wait_until(session.output, client, mine, namespace, gone, timeout, say=False)
        if refused:
            for each in refused[:-1]:
                session.output.error(each.message, each.hint)
            raise refused[-1]

    session.run(work)


def _doomed(session: Session, what: tuple[str, ...], given: Given, *, every: bool) -> list[_Doomed]:
    """What is named. From manifests, in the order opposite to that of apply. Raises Usage."""
    if bool(what) == bool(given.names):
        raise Usage("name objects, or -f what declares them", "as in `ctl delete service/web`")
    namespace = session.namespace
    if what:
        found = targets(what)
        if any(not target.name for target in found) and not every:
            raise Usage("which ones?", "give names, -l LABELS or --all")
        return [_Doomed(target, namespace) for target in found]
    objects = load(given, namespace).objects
    objects.sort(key=lambda obj: -_ORDER[obj["kind"]])
    return [
        _Doomed(
            Target(BY_NAME[obj["kind"]], obj["metadata"]["name"]),
            obj["metadata"].get("namespace") or namespace,
        )
        for obj in objects
    ]


async def _delete(
    session: Session, client: Client, doomed: Sequence[_Doomed], how: _How
) -> tuple[list[_Doomed], list[CtlError]]:
    """Ask for each: those that are on their way, and why others are not, the gravest last."""
    from api.client import ApiError

    going: list[_Doomed] = []
    missing: list[CtlError] = []
    refused: list[CtlError] = []
    suffix = " (dry run)" if how.dry_run else ""
    for each in doomed:
        try:
            names = await _ask(session, client, each, how)
        except ApiError as error:
            if error.code == 404 and each.target.name:
                missing.append(NotFound(error.message))
            else:
                refused.append(refusal(error))
            continue
        for found in names:
            session.output.data(f"{each.target.kind.name.lower()}/{found} deleted{suffix}")
            going.append(_Doomed(Target(each.target.kind, found), each.namespace))
    return going, refused if how.ignore_not_found else [*missing, *refused]


async def _ask(session: Session, client: Client, doomed: _Doomed, how: _How) -> list[str]:
    """The names of what is on its way. Raises ApiError."""
    kind, name = doomed.target
    if name:
        if kind is SECRET and how.force:
            await _say_what_breaks(session, client, doomed.namespace, name)
        await client.delete(kind, doomed.namespace, name, dry_run=how.dry_run, force=how.force)
        return [name]
    listing = await client.delete_collection(
        kind,
        doomed.namespace,
        label_selector=how.labels,
        field_selector=how.fields,
        dry_run=how.dry_run,
    )
    return [obj["metadata"]["name"] for obj in listing.items]


async def _say_what_breaks(session: Session, client: Client, namespace: str, name: str) -> None:
    found = await client.secret_holders(namespace, name)
    services = found.get("services") or []
    if not services:
        return
    tasks = sum(len(each.get("tasks", ())) for each in found.get("versions", ()))
    session.output.warning(
        f"secret/{name} is used by services {', '.join(services)}: none of them can start a task"
        f" without it, after a crash neither; the {tasks} that there are keep their files until"
        " they end"
    )
