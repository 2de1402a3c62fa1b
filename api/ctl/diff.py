"""`ctl diff`: what `ctl apply` would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from api.ctl.errors import Ended
from api.ctl.manifests import Given, file_options, load, refused
from api.ctl.output import paint
from api.ctl.patches import declared, unified
from api.ctl.session import Session, verb
from api.types.kinds import BY_NAME

if TYPE_CHECKING:
    from api.client import Client

Document = dict[str, Any]

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@verb("diff")
@file_options
def command(session: Session, given: Given) -> None:
    """Show what `ctl apply` would change. Exit code 1: something.

    A secret's values are not shown, only their sizes.

    \b
    ctl diff -f web.yaml
    """
    namespace = session.namespace
    loaded = load(given, namespace)

    async def work(client: Client) -> bool:
        from api.client import ApiError

        try:
            result = await client.apply(
                loaded.objects, namespace=namespace, dry_run=True, full=True
            )
        except ApiError as error:
            raise refused(error, loaded.documents) from error
        different = False
        for item in result.items:
            if item.result == "unchanged":
                continue
            different = True
            live = await _live(client, item.kind, item.namespace, item.name)
            _print(session, f"{item.kind.lower()}/{item.name}", live, item.object)
        return different

    different = session.run(work) if loaded.documents else False
    if different:
        raise Ended(1)


async def _live(client: Client, kind: str, namespace: str, name: str) -> Document | None:
    from api.client import ApiError

    try:
        return await client.get(BY_NAME[kind], namespace, name)
    except ApiError as error:
        if error.code != 404:
            raise
        return None


def _print(session: Session, name: str, live: Document | None, applied: Document | None) -> None:
    output = session.output
    lines = list(unified(_text(live), _text(applied), name))
    if not lines:
        lines = [f"live/{name} and applied/{name} differ in values that are not shown"]
    for line in lines:
        output.data(paint(line, _COLOURS.get(line[:1], ""), on=output.colour))


def _text(obj: Document | None) -> str:
    if obj is None:
        return ""
    return str(yaml.safe_dump(declared(obj), sort_keys=False, allow_unicode=True))
