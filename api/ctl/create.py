"""`ctl create`: namespaces, secrets, configs and jobs from a command line.

A secret's value is never printed, neither here nor by any other verb.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from api.ctl.errors import Conflict, CtlError, Usage
from api.ctl.output import Output
from api.ctl.payload import Sources, encoded, gather, texts
from api.ctl.resources import pairs
from api.ctl.session import Session, verb
from api.types.kinds import CONFIG, NAMESPACE, SECRET, SERVICE, Kind
from api.types.meta import API_VERSION

if TYPE_CHECKING:
    from api.client import Client

Document = dict[str, Any]


@click.group("create")
def command() -> None:
    """Make a namespace, a secret, a config or a job.

    Everything else is made with `ctl apply -f FILE`.
    """


def _shared(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--dry-run", is_flag=True, help="Let the server check it, and write nothing."),
        click.option(
            "-l",
            "--label",
            "labels",
            multiple=True,
            metavar="KEY=VALUE",
            help="A label; may be repeated.",
        ),
    ):
        function = option(function)
    return function


def _payload(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--replace", is_flag=True, help="Also where it exists: its keys are then these."
        ),
        click.option(
            "--from-stdin", "stdin", default="", metavar="KEY", help="All of stdin, byte for byte."
        ),
        click.option(
            "--from-env-file", "env_files", multiple=True, metavar="PATH", help="KEY=VALUE lines."
        ),
        click.option(
            "--from-literal",
            "literals",
            multiple=True,
            metavar="KEY=VALUE",
            help="The value itself.",
        ),
        click.option(
            "--from-file",
            "files",
            multiple=True,
            metavar="[KEY=]PATH",
            help="A file's content, or each file of a directory.",
        ),
    ):
        function = option(function)
    return function


@verb("namespace")
@click.argument("name")
@_shared
def namespace(session: Session, name: str, labels: tuple[str, ...], dry_run: bool) -> None:
    """Make a namespace."""
    _create(session, NAMESPACE, _document(NAMESPACE, name, "", labels), dry_run, replace=False)


@verb("secret")
@click.argument("name")
@_payload
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="KEY",
    help="Ask for the value at the terminal, twice.",
)
@click.option("--type", "kind", default="", help="A word of your own for what it is.")
@_shared
def secret(
    session: Session,
    name: str,
    files: tuple[str, ...],
    literals: tuple[str, ...],
    env_files: tuple[str, ...],
    stdin: str,
    replace: bool,
    prompts: tuple[str, ...],
    kind: str,
    labels: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Make a secret.

    \b
    ctl create secret db --prompt password
    ctl create secret tls --from-file tls.crt --from-file tls.key=/etc/ssl/private/web.key
    openssl rand -hex 32 | tr -d '\\n' | ctl create secret session --from-stdin key
    """
    sources = Sources(files, literals, env_files, stdin, prompts)
    data = gather(sources, read_stdin=read_stdin, ask=ask)
    if literals:
        session.output.warning(
            "a value given with --from-literal is in the shell's history and was in the process"
            " list; --prompt, --from-stdin and --from-file keep it out of both"
        )
    warn_of_newlines(session.output, data, [stdin] if stdin else [])
    document = _document(SECRET, name, session.namespace, labels)
    if kind:
        document["type"] = kind
    document["data"] = encoded(data)
    _create(session, SECRET, document, dry_run, replace)


@verb("config")
@click.argument("name")
@_payload
@_shared
def config(
    session: Session,
    name: str,
    files: tuple[str, ...],
    literals: tuple[str, ...],
    env_files: tuple[str, ...],
    stdin: str,
    replace: bool,
    labels: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Make a config: like a secret, but readable.

    \b
    ctl create config nginx --from-file nginx.conf
    """
    data = gather(Sources(files, literals, env_files, stdin), read_stdin=read_stdin, ask=ask)
    plain, binary = texts(data)
    document = _document(CONFIG, name, session.namespace, labels)
    if plain:
        document["data"] = plain
    if binary:
        document["binaryData"] = encoded(binary)
    _create(session, CONFIG, document, dry_run, replace)


@verb("job")
@click.argument("name")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--image", required=True, help="What its containers are made of.")
@click.option("--completions", type=int, default=1, show_default=True, help="Tasks to succeed.")
@click.option("--parallelism", type=int, default=0, help="Tasks at a time; 0: all.")
@click.option("--global", "everywhere", is_flag=True, help="Instead: once on every node.")
@click.option("--schedule", default="", metavar="CRON", help="When to run it, again and again.")
@click.option("--time-zone", default="UTC", show_default=True, help="Of the schedule.")
@_shared
def job(
    session: Session,
    name: str,
    words: tuple[str, ...],
    image: str,
    completions: int,
    parallelism: int,
    everywhere: bool,
    schedule: str,
    time_zone: str,
    labels: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Make a job: a service that runs to its end.

    \b
    ctl create job migrate --image shop:2 -- /app/migrate --all
    ctl create job backup --image backup:1 --schedule "30 2 * * *" --time-zone Europe/Berlin
    """
    document = _document(SERVICE, name, session.namespace, labels)
    document["spec"] = {
        "mode": "global-job" if everywhere else "replicated-job",
        "template": {"image": image} | ({"command": list(words)} if words else {}),
        "job": {"completions": completions, "parallelism": parallelism},
    }
    if schedule:
        document["spec"]["schedule"] = {"cron": schedule, "timeZone": time_zone}
    _create(session, SERVICE, document, dry_run, replace=False)


for _command in (namespace, secret, config, job):
    command.add_command(_command)


def _document(kind: Kind, name: str, space: str, labels: tuple[str, ...]) -> Document:
    metadata: Document = {"name": name}
    if space:
        metadata["namespace"] = space
    if labels:
        given = pairs(labels, what="label")
        if None in given.values():
            raise Usage("a new object has no labels to remove", "write KEY=VALUE")
        metadata["labels"] = given
    return {"apiVersion": API_VERSION, "kind": kind.name, "metadata": metadata}


def _create(session: Session, kind: Kind, document: Document, dry_run: bool, replace: bool) -> None:
    name = document["metadata"]["name"]
    title = f"{kind.name.lower()}/{name}"
    trial = " (dry run)" if dry_run else ""

    async def work(client: Client) -> None:
        from api.client import ApiError

        try:
            await client.create(document, dry_run=dry_run)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            if replace:
                changed = await _replace(client, kind, document, dry_run)
                result = "configured" if changed else "unchanged"
                session.output.data(f"{title} {result}{trial}")
                return
            hint = "--replace makes these its keys" if kind in (SECRET, CONFIG) else ""
            raise Conflict(f"{title} exists already", hint) from None
        session.output.data(f"{title} created{trial}")

    session.run(work)


async def _replace(client: Client, kind: Kind, document: Document, dry_run: bool) -> bool:
    """Its keys become these; what else it has stays. Whether that changed anything."""
    metadata = document["metadata"]
    live = await client.get(kind, metadata.get("namespace", ""), metadata["name"])
    labels = {**live["metadata"].get("labels", {}), **metadata.get("labels", {})}
    wanted = {**document, "metadata": {**live["metadata"], "labels": labels}}
    if "type" in live:
        wanted.setdefault("type", live["type"])
    written = await client.replace(wanted, dry_run=dry_run)
    fields = ("data", "binaryData", "type", "status")
    before, after = ([obj.get(field) for field in fields] for obj in (live, written))
    return before != after or labels != live["metadata"].get("labels", {})


def read_stdin() -> bytes:
    """A value, byte for byte."""
    if sys.stdin.isatty():
        sys.stderr.write("reading the value from the terminal; end it with Ctrl-D\n")
    return sys.stdin.buffer.read()


def ask(key: str) -> str:
    """A value, typed twice at the terminal. Raises CtlError where there is none."""
    if not sys.stdin.isatty():
        raise CtlError(
            f"there is no terminal to ask for {key} at", "pipe the value in with --from-stdin"
        )
    value: str = click.prompt(key, hide_input=True, confirmation_prompt=True, err=True)
    return value


def warn_of_newlines(output: Output, data: dict[str, bytes], keys: list[str]) -> None:
    """`echo secret | …` adds a newline that nobody sees and that makes passwords wrong."""
    for key in keys:
        value = data[key]
        if value.endswith(b"\n") and value.count(b"\n") == 1:
            output.warning(
                f"the value of {key} ends with a newline, which is kept; `printf %s` instead of"
                " `echo` makes none"
            )
