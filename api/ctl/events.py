"""`ctl events`: what happened, the newest last."""

from __future__ import annotations

import click

from api.ctl import formats
from api.ctl.get import Request, get
from api.ctl.resources import Target, named
from api.ctl.session import Session, verb
from api.types.kinds import EVENT


@verb("events")
@click.option("-w", "--watch", is_flag=True, help="Go on with each new one, until Ctrl-C.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option("--for", "about", default="", metavar="KIND/NAME", help="About this object only.")
@click.option("--warnings", is_flag=True, help="Only those that say something is wrong.")
@click.option(
    "-o", "--output", default="", metavar="FORMAT", help="wide, json, yaml, name, jsonpath=…"
)
def command(
    session: Session, watch: bool, all_namespaces: bool, about: str, warnings: bool, output: str
) -> None:
    """Show what happened, the newest last.

    \b
    ctl events
    ctl events --for service/web -w
    ctl events -A --warnings
    """
    fields = []
    if about:
        target = named([about])[0]
        fields += [
            f"involvedObject.kind={target.kind.name}",
            f"involvedObject.name={target.name}",
        ]
    if warnings:
        fields.append("type=Warning")
    request = Request(
        targets=[Target(EVENT)],
        namespace="" if all_namespaces else session.namespace,
        format=formats.parse(output),
        fields=",".join(fields),
        watch=watch,
    )
    get(session, request)
