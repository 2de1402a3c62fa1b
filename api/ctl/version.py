"""`ctl version`: of this program, and of the manager it talks to."""

from __future__ import annotations

from typing import Any

import click

from api.ctl.errors import CtlError
from api.ctl.formats import to_json
from api.ctl.session import Session, verb


@verb("version")
@click.option("--client", "client_only", is_flag=True, help="Only this program's; asks no manager.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="For scripts.")
def command(session: Session, client_only: bool, output: str | None) -> None:
    """Show the versions of ctl and of the manager."""
    versions: dict[str, Any] = {"client": _own()}
    failure: CtlError | None = None
    if not client_only:
        try:
            versions["server"] = _server(session)
        except CtlError as error:
            failure = error
    if output:
        session.output.data(to_json(versions))
    else:
        session.output.lines(f"{side}: {_words(value)}" for side, value in versions.items())
    if failure is not None:
        raise failure


def _own() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("skep")
    except PackageNotFoundError:  # run from a checkout
        return "unknown (skep is not installed here)"


def _server(session: Session) -> Any:
    return session.ask(lambda client: client.version(), patience=0)


def _words(value: Any) -> str:
    """The server may say more than its version."""
    if not isinstance(value, dict):
        return str(value)
    return str(value.get("version") or value.get("gitVersion") or to_json(value))
