"""`ctl context`: which cluster, as whom, in which namespace. Keys are never shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from api.ctl.errors import CtlError, NotFound, Usage
from api.ctl.session import Session, verb
from api.ctl.suggestions import contexts
from api.ctl.table import Table

if TYPE_CHECKING:
    from api.client import Client
    from api.context import Context, ContextFile


_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


@click.group("context")
def command() -> None:
    """Choose the cluster and namespace to work in."""


@contextmanager
def _file(*, write: bool = False) -> Iterator[ContextFile]:
    """The context file, written back at the end where asked to. Raises CtlError."""
    from api.context import ContextError, load, save

    try:
        file = load()
        yield file
        if write:
            save(file)
    except ContextError as error:
        raise CtlError(str(error)) from None


def _known(file: ContextFile, name: str) -> str:
    """Raises NotFound."""
    from api.context import ContextError

    try:
        file.select(name)
    except ContextError as error:
        raise NotFound(str(error)) from None
    return name or file.current


@verb("list")
@click.option("-o", "--output", type=click.Choice(["name"]), help="name: names only.")
def list_(session: Session, output: str | None) -> None:
    """List the contexts; * marks the current one."""
    with _file() as file:
        names = sorted(file.contexts)
        if output:
            session.output.lines(names)
            return
        if not names:
            session.output.note("there is no context yet; `ctl context import FILE` takes one in")
            return
        table = Table(["CURRENT", "NAME", "SERVER", "NAMESPACE"])
        rows = [
            [
                "*" if name == file.current else "",
                name,
                file.contexts[name].server,
                file.contexts[name].namespace,
            ]
            for name in names
        ]
        session.output.lines(table.lines(rows))


@verb("use")
@click.argument("name", shell_complete=contexts)
def use(session: Session, name: str) -> None:
    """Make another context the current one."""
    with _file(write=True) as file:
        file.use(_known(file, name))
    session.output.data(f"context/{name} in use")


@verb("import")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", default="", help="What to call it here; default: as it is called there.")
def import_(session: Session, path: Path, name: str) -> None:
    """Take in a context from a file, such as a manager's admin.yaml, and use it.

    The file's own current context is taken. One of the same name is replaced.
    """
    from api.context import load

    with _file(write=True) as file:
        if not path.exists():
            raise CtlError(f"{path} does not exist")
        taken = file.import_from(load(path), name)
    session.output.data(f"context/{taken} imported and in use")


@verb("show")
@click.argument("name", required=False, default="", shell_complete=contexts)
def show(session: Session, name: str) -> None:
    """Show a context: server, namespace, and whom its certificate names."""
    with _file() as file:
        name = _known(file, name or session.context_name)
        context = file.contexts[name]
    lines = {
        "name": name,
        "server": context.server,
        "namespace": session.given_namespace or context.namespace,
        **_certificate(context),
    }
    session.output.lines(f"{key}: {value}" for key, value in lines.items())


def _certificate(context: Context) -> dict[str, str]:
    """Whom it names and until when, as far as it can be read."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(context.cert.encode())
    except ValueError:
        return {"identity": "the certificate can't be read"}
    return {
        "identity": certificate.subject.rfc4514_string(),
        "expires": certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
    }


@verb("delete")
@click.argument("name", shell_complete=contexts)
def delete(session: Session, name: str) -> None:
    """Forget a context. The cluster goes on."""
    with _file(write=True) as file:
        file.remove(_known(file, name))
        current = file.current
    session.output.data(f"context/{name} deleted")
    if current:
        session.output.note(f"the current context is now {current}")


@verb("set")
@click.argument("what", type=click.Choice(["namespace", "server"]))
@click.argument("value")
def set_(session: Session, what: str, value: str) -> None:
    """Change the namespace or the server of the current context (or that of --context).

    \b
    ctl context set namespace shop
    ctl context set server https://10.0.0.1:7443,https://10.0.0.2:7443
    """
    _check(what, value)
    with _file(write=True) as file:
        name = _known(file, session.context_name)
        setattr(file.contexts[name], what, value)
    session.output.data(f"context/{name} {what} set to {value}")


@verb("export")
@click.argument("name", required=False, default="", shell_complete=contexts)
@click.option(
    "--kubeconfig",
    "path",
    is_flag=False,
    flag_value="",
    required=True,
    metavar="[FILE]",
    help="Where to write it; default: NAME.kubeconfig beside the context file.",
)
def export(session: Session, name: str, path: str) -> None:
    """Write a context as a kubeconfig, for kubectl and other programs that read one.

    It holds the context's key: the file is readable by you alone.
    """
    from api.context import default_path
    from api.ctl.kubeconfig import write

    with _file() as file:
        name = _known(file, name or session.context_name)
        context = file.contexts[name]
    target = Path(path) if path else default_path().parent / f"{name}.kubeconfig"
    write(target, name, context)
    session.output.data(f"context/{name} written to {target}")
    session.output.note(f"use it with: export KUBECONFIG={shlex.quote(str(target.absolute()))}")


@verb("renew")
def renew(session: Session) -> None:
    """Get a new certificate for the current context, while the present one is still good.

    To be done before it expires, and when the cluster's root is replaced.
    """

    async def work(client: Client) -> None:
        await renewed(session, client)

    session.run(work)


async def renewed(session: Session, client: Client) -> None:
    """Give the context in use a new certificate, kept in its file, and the client too."""
    from api.pki.requests import new_request
    from api.pki.tls import client_context

    key, request = new_request()
    reply = await client.renew(request)
    with _file(write=True) as file:
        name = _known(file, session.context_name)
        context = file.contexts[name]
        context.ca, context.cert, context.key = reply.trust, reply.certificate, key
    client.use(client_context(context.credentials()))
    client.told_to_renew = False
    session.output.note(f"context/{name} has a new certificate")


def _check(what: str, value: str) -> None:
    """Raises Usage, before a context is kept that no verb can use."""
    if what == "namespace" and not _NAMESPACE.match(value):
        raise Usage(f"{value!r} can't name a namespace", "write a-z, 0-9 and -, at most 63")
    for url in value.split(",") if what == "server" else ():
        parts = urlsplit(url.strip())
        if parts.scheme != "https" or not parts.hostname:
            raise Usage(f"{url!r} is not a manager's address", "write https://HOST:7443")


for _command in (list_, use, import_, show, set_, delete, export, renew):
    command.add_command(_command)
