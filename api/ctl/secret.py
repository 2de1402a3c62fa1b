"""`ctl secret`: a secret's versions. Set a value, go back, see who holds what, end old bytes.

No value is ever printed, nor taken from the command line, which the shell's history and the
process list would keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.ctl.create import ask, read_stdin, warn_of_newlines
from api.ctl.errors import NotFound, Usage
from api.ctl.payload import encoded, read, require_key
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of
from api.ctl.table import Table
from api.ctl.waiting import WaitOptions, wait_options
from api.types.columns import age, field, size
from api.types.kinds import SECRET
from api.types.secret import ROTATE

if TYPE_CHECKING:
    from api.client import Client
    from api.ctl.blocking import BlockingClient

Document = dict[str, Any]

_name = click.argument("name", shell_complete=names_of("secret"))
_NAMED = 3  # tasks in a row of the history


@click.group("secret")
def command() -> None:
    """Set, roll back and clean up the versions of secrets."""


@verb("set")
@_name
@click.argument("keys", nargs=-1, required=True, metavar="KEY[=SOURCE]...")
@click.option("--create", is_flag=True, help="Make the secret where it does not exist.")
@wait_options
def set_(
    session: Session, name: str, keys: tuple[str, ...], create: bool, wait: WaitOptions
) -> None:
    """Give keys of a secret new values: one new version. Its other keys stay.

    A value comes from the terminal, which asks for it twice, or from its SOURCE: @FILE, or - for
    stdin, byte for byte. With --wait it is over when all services that use the secret have that
    version.

    \b
    ctl secret set db password
    openssl rand -hex 32 | tr -d '\\n' | ctl secret set db password=-
    ctl secret set web tls.crt=@web.crt tls.key=@web.key --wait
    """
    data = _values(session, keys)
    namespace = session.namespace

    async def work(client: Client) -> None:
        before = await _found(client, namespace, name, create=create)
        if before is None:
            metadata = {"name": name, "namespace": namespace}
            document = {"apiVersion": "skep.dev/v1", "kind": "Secret", "metadata": metadata}
            after = await client.create({**document, "data": encoded(data)})
            version = field(after, "status", "version")
            session.output.data(f"secret/{name} created, at version {version}")
        else:
            after = await client.patch(SECRET, namespace, name, {"data": encoded(data)})
            _say(session, before, after)
        await _wait(session, client, after, wait)

    session.run(work)


@verb("history")
@_name
def history(session: Session, name: str) -> None:
    """List the versions that are kept of a secret, and who holds them, the newest last."""
    namespace = session.namespace

    async def work(client: BlockingClient) -> None:
        secret = await client.get(SECRET, namespace, name)
        found = await client.secret_holders(namespace, name)
        tasks = {each["version"]: each["tasks"] for each in found.get("versions", ())}
        header = ["VERSION", "AGE", "SIZE", "STATE", "FROM", "HELD BY"]
        output = session.output
        table = Table(header, frozenset({"HELD BY"}), output.width, output.cell)
        known = versions(secret)
        rows = [_row(each, secret, tasks.get(each["version"], [])) for each in known]
        there = {each["version"] for each in known}
        rows += [
            [str(version), "", "", "gone", "", _holders(held)]
            for version, held in sorted(tasks.items())
            if version not in there
        ]
        session.output.lines(table.lines(rows))
        if users := found.get("services"):
            session.output.note(f"used by services: {', '.join(users)}")
        else:
            session.output.note("no service uses it")

    session.ask(work)


@verb("rollback")
@_name
@click.option(
    "--to-version", type=click.IntRange(min=1), metavar="NUMBER",
    help="This one, of those that `ctl secret history` lists; else the one before.",
)  # fmt: skip
@wait_options
def rollback(session: Session, name: str, to_version: int | None, wait: WaitOptions) -> None:
    """Give a secret the values that it had before: a new version with the bytes of an old one.

    It reaches tasks as any new version does: as the services' onChange says.

    \b
    ctl secret rollback db
    ctl secret rollback db --to-version 3 --wait
    """
    namespace = session.namespace

    async def work(client: Client) -> None:
        before = await client.get(SECRET, namespace, name)
        after = await client.roll_back_secret(namespace, name, to_version or 0)
        _say(session, before, after)
        session.output.note(
            "a manifest that it was applied from may still say otherwise: change it too, or the"
            " next `ctl apply` brings that back"
        )
        await _wait(session, client, after, wait)

    session.run(work)


@verb("rotate")
@_name
@click.argument("keys", nargs=-1, metavar="[KEY[=SOURCE]]...")
@wait_options
def rotate(session: Session, name: str, keys: tuple[str, ...], wait: WaitOptions) -> None:
    """Replace a secret's values: generated ones by new ones, given ones by what you give.

    For a secret that the cluster generates or fetches, no key is named. For others it asks for each
    key that is named (of a secret with one key: for that), as `ctl secret set` does.

    \b
    ctl secret rotate session-key --wait
    ctl secret rotate db password
    """
    namespace = session.namespace
    live = session.ask(lambda client: client.get(SECRET, namespace, name))
    if live.get("generate") or live.get("source"):
        if keys:
            way = "generates" if live.get("generate") else "fetches"
            raise Usage(f"the cluster {way} secret {name}", "leave out its keys")
        if wait.wait and live.get("source"):
            raise Usage(
                f"whether secret {name} changes is for its provider to say: --wait might never end",
                f"leave it out; `ctl get secret {name} -w` shows a new version when there is one",
            )
        session.run(lambda client: _ask_to_rotate(session, client, live, wait))
        return
    kept = sorted(field(live, "status", "sizes") or {})
    wanted = keys or (kept if len(kept) == 1 else ())
    if not wanted:
        raise Usage("which of its keys?", f"name some of: {', '.join(kept)}")
    data = _values(session, tuple(wanted))
    if unknown := sorted(data.keys() - set(kept)):
        raise Usage(f"secret {name} has no key {', '.join(unknown)}", "`ctl secret set` adds keys")

    async def work(client: Client) -> None:
        after = await client.patch(SECRET, namespace, name, {"data": encoded(data)})
        _say(session, live, after)
        await _wait(session, client, after, wait)

    session.run(work)


@verb("destroy")
@_name
@click.option(
    "--version", "number", type=click.IntRange(min=1), required=True, metavar="NUMBER",
    help="One that no task holds, and that is not the newest.",
)  # fmt: skip
def destroy(session: Session, name: str, number: int) -> None:
    """End the bytes of an old version, before its time.

    \b
    ctl secret destroy db --version 6
    """
    namespace = session.namespace
    session.ask(lambda client: client.destroy_secret_version(namespace, name, number))
    session.output.data(f"secret/{name} version {number} destroyed")


@verb("prune")
@click.option("--yes", is_flag=True, help="Delete them; else they are only listed.")
def prune(session: Session, yes: bool) -> None:
    """Find the secrets of a namespace that no service uses, and with --yes delete them.

    An authority whose certificates other secrets hold is used by these.

    \b
    ctl secret prune
    ctl secret prune --yes
    """
    namespace = session.namespace

    async def work(client: BlockingClient) -> None:
        secrets = await client.list(SECRET, namespace)
        unused = []
        for secret in secrets.items:
            name = secret["metadata"]["name"]
            found = await client.secret_holders(namespace, name)
            if not any(found.get(by) for by in ("services", "versions", "secrets")):
                unused.append(secret)
        for secret in unused:
            name, created = secret["metadata"]["name"], secret["metadata"]["creationTimestamp"]
            if yes:
                await client.delete(SECRET, namespace, name, uid=secret["metadata"]["uid"])
            did = "deleted" if yes else f"unused, {age(created, datetime.now(UTC))} old"
            session.output.data(f"secret/{name} {did}")
        if not unused:
            session.output.note(f"every secret of namespace {namespace} is used")
        elif not yes:
            session.output.note("nothing was deleted; --yes deletes these")

    session.ask(work)


for _command in (set_, history, rollback, rotate, destroy, prune):
    command.add_command(_command)


def versions(secret: Document) -> list[Document]:
    """As its status lists them; of a secret of an earlier skep, the one that it has."""
    status = secret.get("status") or {}
    listed: list[Document] = status.get("versions") or []
    if listed or not status.get("version"):
        return listed
    sizes = status.get("sizes") or {}
    return [{"version": status["version"], "size": sum(sizes.values())}]


def _row(version: Document, secret: Document, tasks: Sequence[str]) -> list[str]:
    newest = field(secret, "status", "version")
    state = "current" if version["version"] == newest else "kept"
    created = version.get("created")
    return [
        str(version["version"]),
        age(created, datetime.now(UTC)) if created else "<unknown>",
        size(version.get("size", 0)),
        "destroyed" if version.get("destroyed") else state,
        str(version.get("origin", "")),
        _holders(tasks),
    ]


def _holders(tasks: Sequence[str]) -> str:
    if not tasks:
        return "nobody"
    more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
    return ", ".join(tasks[:_NAMED]) + more


def _say(session: Session, before: Document, after: Document) -> None:
    name, version = after["metadata"]["name"], field(after, "status", "version")
    if version == field(before, "status", "version"):
        session.output.data(f"secret/{name} unchanged (version {version} has these values)")
    else:
        session.output.data(f"secret/{name} is at version {version}")


async def _found(client: Client, namespace: str, name: str, *, create: bool) -> Document | None:
    from api.client import ApiError

    try:
        return await client.get(SECRET, namespace, name)
    except ApiError as error:
        if error.code != 404:
            raise
        if not create:
            raise NotFound(error.message, "--create makes it, if the name is right") from None
        return None


async def _ask_to_rotate(
    session: Session, client: Client, secret: Document, wait: WaitOptions
) -> None:
    namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
    version = int(field(secret, "status", "version") or 0)
    change = {"metadata": {"annotations": {ROTATE: str(version)}}}
    await client.patch(SECRET, namespace, name, change)
    done = "is to get new values," if secret.get("generate") else "is to be fetched again,"
    session.output.data(f"secret/{name} {done} after version {version}")
    if wait.wait:
        from api.ctl.delivery import wait_renewed

        await wait_renewed(session.output, client, namespace, name, version, wait.timeout)


async def _wait(session: Session, client: Client, secret: Document, wait: WaitOptions) -> None:
    """Where it was asked for: until all that use the secret have it as it is."""
    if wait.wait:
        from api.ctl.delivery import wait_delivered

        metadata, version = secret["metadata"], int(field(secret, "status", "version") or 0)
        await wait_delivered(
            session.output, client, metadata["namespace"], metadata["name"], version, wait.timeout
        )


def _values(session: Session, words: Sequence[str]) -> dict[str, bytes]:
    """Raises Usage, CtlError."""
    found: dict[str, bytes] = {}
    stdin = ""
    for word in words:
        key, equals, source = word.partition("=")
        require_key(key)
        if key in found:
            raise Usage(f"the key {key!r} is given twice")
        if not equals:
            found[key] = ask(key).encode()
        elif source == "-":
            if stdin:
                raise Usage("stdin can be read once", f"it is for {stdin} already")
            stdin = key
            found[key] = read_stdin()
        elif source.startswith("@") and len(source) > 1:
            found[key] = read(Path(source[1:]))
        else:
            # The word itself may be the secret: it is not repeated.
            raise Usage(
                f"what follows {key}= is neither @FILE nor -",
                "values are not taken from the command line, where the shell's history keeps them",
            )
    warn_of_newlines(session.output, found, [stdin] if stdin else [])
    return found
