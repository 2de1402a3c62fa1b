"""`ctl apply`: make the cluster as manifests say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from api.ctl.errors import Usage
from api.ctl.manifests import Given, file_options, load, refused
from api.ctl.resources import Target
from api.ctl.session import Session, verb
from api.ctl.waiting import WaitOptions, wait_options
from api.types.kinds import BY_NAME, SECRET

if TYPE_CHECKING:
    from api.calls import ApplyResult, Calls
    from api.client import Client

_GONE = "pruned"


@verb("apply")
@file_options
@click.option("--dry-run", is_flag=True, help="Let the server check it all, and write nothing.")
@click.option(
    "--prune", is_flag=True, help="Delete what an earlier apply of --applyset made and is gone."
)
@click.option("--applyset", default="", metavar="NAME", help="The set that --prune keeps.")
@click.option(
    "--allow-plaintext",
    is_flag=True,
    envvar="SKEP_ALLOW_PLAINTEXT",
    help="Don't warn of secrets in the clear in a git repository.",
)
@wait_options
def command(
    session: Session,
    given: Given,
    dry_run: bool,
    prune: bool,
    applyset: str,
    allow_plaintext: bool,
    wait: WaitOptions,
) -> None:
    """Make the cluster as manifests say: all of it or, where anything is invalid, nothing.

    \b
    ctl apply -f web.yaml
    ctl apply -f manifests/ -R --prune --applyset shop
    generate | ctl apply -f - --wait
    """
    if prune != bool(applyset):
        raise Usage("--prune and --applyset NAME go together")
    namespace = session.namespace
    loaded = load(given, namespace)
    if not loaded.documents:
        if prune:
            raise Usage(
                "an empty set would delete everything that was applied before",
                "delete it by name with `ctl delete` if that is meant",
            )
        session.output.note("there are no documents; nothing was written")
        return

    if not allow_plaintext and any(obj.get("kind") == SECRET.name for obj in loaded.objects):
        from api.ctl.plaintext import warn

        warn(session.output, loaded.documents)

    async def work(client: Calls) -> ApplyResult:
        from api.rest import ApiError

        try:
            return await client.apply(
                loaded.objects, namespace=namespace, dry_run=dry_run, prune=applyset
            )
        except ApiError as error:
            raise refused(error, loaded.documents) from error

    result = session.ask(work)
    show(session, result, dry_run=dry_run)
    if wait.wait and not dry_run:
        session.run(lambda client: _wait(session, client, result, wait.timeout))


def show(session: Session, result: ApplyResult, *, dry_run: bool) -> None:
    for item in result.items:
        suffix = " (dry run)" if dry_run else ""
        session.output.data(f"{item.kind.lower()}/{item.name} {item.result}{suffix}")
        for warning in item.warnings:
            session.output.warning(f"{item.kind.lower()}/{item.name}: {warning}")


async def _wait(session: Session, client: Client, result: ApplyResult, timeout: float) -> None:
    from api.ctl.follow import wait_until
    from api.ctl.wanted import IN_EFFECT

    by_namespace: dict[str, list[Target]] = {}
    for item in result.items:
        if item.result != _GONE:
            target = Target(BY_NAME[item.kind], item.name)
            by_namespace.setdefault(item.namespace, []).append(target)
    for namespace, targets in by_namespace.items():
        await wait_until(session.output, client, targets, namespace, IN_EFFECT, timeout)
