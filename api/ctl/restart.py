"""`ctl restart`: new tasks for the same service, replaced as its update policy says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from api.ctl.errors import Usage
from api.ctl.resources import Target, targets
from api.ctl.scale import kind_is_service
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of
from api.ctl.waiting import WaitOptions, wait_options, wait_until_done
from api.types.columns import field
from api.types.kinds import REVISION, SERVICE

if TYPE_CHECKING:
    from api.calls import Calls

_TRIES = 10


@verb("restart")
@click.argument("what", nargs=-1, required=True, shell_complete=names_of("service"))
@wait_options
def command(session: Session, what: tuple[str, ...], wait: WaitOptions) -> None:
    """Replace all tasks of services, as an update of the same content; run jobs again.

    \b
    ctl restart web worker
    ctl restart service/web --wait
    """
    wanted = parse(what)
    namespace = session.namespace

    async def work(client: Calls) -> None:
        for target in wanted:
            await force(client, await client.get(SERVICE, namespace, target.name))
            session.output.data(f"service/{target.name} restarted")

    session.ask(work)
    wait_until_done(session, wanted, wait)


async def force(client: Calls, service: dict[str, Any]) -> None:
    """New tasks for the same template.

    The version makes two restarts at once two restarts, never one. But the status of a service
    that starts or updates is written all the time, so what was read is read again. Raises ApiError.
    """
    from api.rest import ApiError

    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    kept = (await client.list(REVISION, namespace, field_selector=f"spec.service={name}")).items
    for left in reversed(range(_TRIES)):
        # A number that a kept revision has could lead back to that one, and to its image's bits.
        count = 1 + max(_forced(each) for each in (service, *kept))
        patch = {
            "metadata": {"resourceVersion": service["metadata"]["resourceVersion"]},
            "spec": {"template": {"forceUpdate": count}},
        }
        try:
            await client.patch(SERVICE, namespace, name, patch)
            return
        except ApiError as error:
            if error.reason != "Conflict" or not left:
                raise
        service = await client.get(SERVICE, namespace, name)


def _forced(obj: dict[str, Any]) -> int:
    """Of a service or revision: how often it was restarted."""
    return int(field(obj, "spec", "template", "forceUpdate") or 0)


def parse(words: tuple[str, ...]) -> list[Target]:
    """`web db`, `service web db` or `service/web`. Raises Usage."""
    names = words[1:] if len(words) > 1 and kind_is_service(words[0]) else words
    if any("/" in name for name in names):
        found = [target for name in names for target in targets([name])]
        other = next((target for target in found if target.kind is not SERVICE), None)
        if other is not None:
            raise Usage(f"{other} can't be restarted: only services can")
        return found
    return [Target(SERVICE, name) for name in names]
