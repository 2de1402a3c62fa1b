"""`ctl wait`: until objects are as wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from api.ctl import wanted
from api.ctl.errors import NotFound, Usage
from api.ctl.follow import wait_until
from api.ctl.resources import Target, targets
from api.ctl.session import Session, verb
from api.ctl.suggestions import kinds_then_names
from api.ctl.waiting import DEFAULT_TIMEOUT, Duration

if TYPE_CHECKING:
    from api.client import Client


@verb("wait")
@click.argument("what", nargs=-1, required=True, shell_complete=kinds_then_names)
@click.option(
    "--for",
    "condition",
    required=True,
    metavar="WHAT",
    help="delete, create, condition=NAME[=STATUS] or jsonpath='{.path}'=VALUE.",
)
@click.option(
    "--timeout",
    type=Duration(),
    default=DEFAULT_TIMEOUT,
    show_default=True,
    help="How long to wait; 0s looks once.",
)
@click.option(
    "-l", "--selector", default="", metavar="LABELS", help="All objects with these labels."
)
@click.option("--all", "every", is_flag=True, help="All objects of the kind.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing while waiting.")
def command(
    session: Session,
    what: tuple[str, ...],
    condition: str,
    timeout: float,
    selector: str,
    every: bool,
    quiet: bool,
) -> None:
    """Wait until objects are as wanted. Exit code 124: not in time.

    \b
    ctl wait service/web --for=condition=Available --timeout 2m
    ctl wait task/web-1-x7k2p --for=delete
    ctl wait service web --for=jsonpath='{.status.running}'=3
    """
    goal = wanted.parse(condition)
    found = targets(what)
    if any(not target.name for target in found) and not selector and not every:
        raise Usage("wait for what?", "give names, -l LABELS or --all")
    namespace = session.namespace

    async def work(client: Client) -> None:
        chosen = await _chosen(client, found, namespace, selector)
        if not chosen:
            if goal.absence:
                return
            raise NotFound(f"there are no {found[0].kind.plural} to wait for")
        await wait_until(session.output, client, chosen, namespace, goal, timeout, say=not quiet)
        for target in chosen:
            session.output.data(f"{target} {goal.words}")

    session.run(work)


async def _chosen(
    client: Client, found: list[Target], namespace: str, selector: str
) -> list[Target]:
    chosen: list[Target] = []
    for target in found:
        if target.name:
            chosen.append(target)
            continue
        listing = await client.list(target.kind, namespace, label_selector=selector)
        chosen += [Target(target.kind, obj["metadata"]["name"]) for obj in listing.items]
    return chosen
