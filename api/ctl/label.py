"""`ctl label` and `ctl annotate`: keys and values on objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from api.ctl.errors import CtlError, Usage
from api.ctl.resources import Target, pairs, targets
from api.ctl.session import Session, verb
from api.ctl.suggestions import kinds_then_names

if TYPE_CHECKING:
    from api.client import Client

_EXAMPLES = """

    \b
    ctl {verb} node worker-1 zone=a
    ctl {verb} service/web team=shop --overwrite
    ctl {verb} service/web team-          (removes it)
"""


def _options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "-l", "--selector", default="", metavar="LABELS", help="All objects with these labels."
        ),
        click.option("--all", "every", is_flag=True, help="All objects of the kind."),
        click.option("--overwrite", is_flag=True, help="Also where there is another value."),
        click.argument("words", nargs=-1, required=True, shell_complete=kinds_then_names),
    ):
        function = option(function)
    return function


@verb("label", help="Set or remove labels of objects." + _EXAMPLES.format(verb="label"))
@_options
def label(
    session: Session, words: tuple[str, ...], overwrite: bool, every: bool, selector: str
) -> None:
    _run(session, "labels", words, overwrite, every, selector)


@verb("annotate", help="Set or remove annotations of objects." + _EXAMPLES.format(verb="annotate"))
@_options
def annotate(
    session: Session, words: tuple[str, ...], overwrite: bool, every: bool, selector: str
) -> None:
    _run(session, "annotations", words, overwrite, every, selector)


def _run(
    session: Session,
    field: str,
    words: tuple[str, ...],
    overwrite: bool,
    every: bool,
    selector: str,
) -> None:
    found, changes = parse(words, field.removesuffix("s"))
    if any(not target.name for target in found) and not (every or selector):
        raise Usage("name the objects", "or give -l LABELS or --all")
    namespace = session.namespace

    async def work(client: Client) -> None:
        for target in found:
            for obj in await _objects(client, target, namespace, selector):
                await _change(session, client, target, obj, field, changes, overwrite)

    session.run(work)


def parse(words: tuple[str, ...], what: str) -> tuple[list[Target], dict[str, str | None]]:
    """Objects first, then `KEY=VALUE` and `KEY-`. Raises Usage."""
    first = next(
        (at for at, word in enumerate(words) if at and ("=" in word or word.endswith("-"))),
        len(words),
    )
    if first == len(words):
        raise Usage(f"no {what} is given", "write KEY=VALUE to set it, KEY- to remove it")
    return targets(words[:first]), pairs(words[first:], what=what)


async def _objects(
    client: Client, target: Target, namespace: str, selector: str
) -> list[dict[str, Any]]:
    if target.name:
        return [await client.get(target.kind, namespace, target.name)]
    listing = await client.list(target.kind, namespace, label_selector=selector)
    return list(listing.items)


async def _change(
    session: Session,
    client: Client,
    target: Target,
    obj: Mapping[str, Any],
    field: str,
    changes: Mapping[str, str | None],
    overwrite: bool,
) -> None:
    metadata = obj["metadata"]
    title = f"{target.kind.name.lower()}/{metadata['name']}"
    now = metadata.get(field) or {}
    different = {key: value for key, value in changes.items() if now.get(key) != value}
    for key, value in different.items():
        if value is not None and key in now and not overwrite:
            raise CtlError(f"{title} has {key}={now[key]} already", "give --overwrite to change it")
    if not different:
        session.output.data(f"{title} unchanged")
        return
    patch = {"metadata": {field: different, "resourceVersion": metadata["resourceVersion"]}}
    await client.patch(target.kind, metadata.get("namespace", ""), metadata["name"], patch)
    session.output.data(f"{title} {'labelled' if field == 'labels' else 'annotated'}")
