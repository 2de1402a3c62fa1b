"""`ctl user`: people and programs with certificates of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.ctl.errors import CtlError
from api.ctl.session import Session, verb
from api.types.kinds import USER
from api.types.meta import API_VERSION

if TYPE_CHECKING:
    from api.client import Client

_out = click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The context file to write; NAME.yaml by default.",
)
_days = click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True, max=3650),
    default=365.0,
    show_default=True,
    help="How long the certificate is good. Its user renews it with `ctl context renew`.",
)


@click.group("user")
def command() -> None:
    """Let others use the cluster, each with a certificate and rights of their own.

    Rights are in the User object: `ctl edit user NAME` changes them from the next request on, and
    `ctl delete user NAME` ends them with all the user's certificates.
    """


@verb("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "operator", "viewer"]),
    required=True,
    help="See `ctl explain user.spec.grants`.",
)
@click.option(
    "-N",
    "--in",
    "namespaces",
    multiple=True,
    metavar="NAMESPACE",
    help="Only in this namespace; may be repeated. Not given: the whole cluster.",
)
@_days
@_out
def create(
    session: Session,
    name: str,
    role: str,
    namespaces: tuple[str, ...],
    days: float,
    out: Path | None,
) -> None:
    """Make a user, and write a context file for them.

    With -n NAMESPACE the role is good in that namespace alone.

    \b
    ctl user create robin --role viewer
    ctl user create deployer --role operator -n shop
    """
    path = _free(out or Path(f"{name}.yaml"))
    where = [*namespaces] or ([session.given_namespace] if session.given_namespace else [])
    grant: dict[str, Any] = {"role": role, **({"namespaces": where} if where else {})}
    document = {
        "apiVersion": API_VERSION,
        "kind": USER.name,
        "metadata": {"name": name},
        "spec": {"grants": [grant]},
    }

    async def work(client: Client) -> None:
        from api.client import ApiError

        try:
            await client.create(document)
        except ApiError as error:
            if error.code != 409:
                raise
            raise CtlError(
                f"user {name} exists already",
                f"`ctl user certificate {name}` writes another context file for them,"
                f" `ctl edit user {name}` changes their rights",
            ) from None
        session.output.data(f"user/{name} created")
        await _write(session, client, name, path, days, namespace=where[0] if where else "")

    session.run(work)


@verb("certificate")
@click.argument("name")
@_days
@_out
@click.option(
    "--withdraw", is_flag=True, help="Refuse the user's earlier certificates from now on."
)
def certificate(session: Session, name: str, days: float, out: Path | None, withdraw: bool) -> None:
    """Write another context file for a user, with a key and a certificate of its own."""
    path = _free(out or Path(f"{name}.yaml"))

    async def work(client: Client) -> None:
        user = await client.get(USER, "", name)
        grants = user.get("spec", {}).get("grants", [])
        named = [grant["namespaces"][0] for grant in grants if grant.get("namespaces")]
        await _write(
            session, client, name, path, days, withdraw=withdraw, namespace=next(iter(named), "")
        )

    session.run(work)


for _command in (create, certificate):
    command.add_command(_command)


def _free(path: Path) -> Path:
    if path.exists():
        raise CtlError(f"{path} is there already", "name another file with --out")
    return path


async def _write(
    session: Session,
    client: Client,
    name: str,
    path: Path,
    days: float,
    *,
    withdraw: bool = False,
    namespace: str = "",
) -> None:
    """The key is made here, and only its public half goes to the manager."""
    from api import context as contexts
    from api.pki.requests import new_request

    key, request = new_request()
    reply = await client.user_certificate(name, request, days=days, withdraw=withdraw)
    made = contexts.Context(
        server=session.context.server,
        ca=reply.trust,
        cert=reply.certificate,
        key=key,
        namespace=namespace or "default",
    )
    contexts.save(contexts.ContextFile(current=name, contexts={name: made}), path)
    session.output.data(f"wrote {path}: who has it is {name}")
    session.output.note(f"there: ctl context import {path}")
