"""`ctl rollout`: how a service's update goes, which revisions there were, and back to one of them.

Undoing is a change like any other: the template of a kept revision is copied into the service's
spec, with an annotation that says from where, so that the rollback's policy holds for it. What was
applied last is amended with it, so that the next `ctl apply` takes away what came with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from api.ctl import patches
from api.ctl.errors import Conflict, CtlError, Usage
from api.ctl.follow import wait_until
from api.ctl.formats import to_yaml
from api.ctl.newest import newest
from api.ctl.progress import WORDS, View, summary
from api.ctl.resources import Target
from api.ctl.restart import parse
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of
from api.ctl.table import Table
from api.ctl.waiting import DEFAULT_TIMEOUT, Duration, WaitOptions, wait_options
from api.ctl.wanted import IN_EFFECT, observed
from api.types.columns import (
    age,
    field,
    revision_digest,
    text,
)
from api.types.kinds import REVISION, SECRET, SERVICE, TASK
from api.types.service import RESUME, UNDONE_SECRETS, UNDONE_TO

if TYPE_CHECKING:
    from api.calls import Calls
    from api.client import Client

Document = dict[str, Any]

_what = click.argument("what", nargs=-1, required=True, shell_complete=names_of("service"))


@click.group("rollout")
def command() -> None:
    """See, hold and undo updates of services."""


@verb("status")
@_what
@click.option(
    "--watch",
    type=bool,
    default=True,
    show_default=True,
    help="Follow it until it is over; false: show it as it is now.",
)
@click.option("-w", "--wait", is_flag=True, hidden=True, help="The default; see --watch.")
@click.option(
    "--timeout",
    type=Duration(),
    default=DEFAULT_TIMEOUT,
    show_default=True,
    help="How long to follow it.",
)
@click.option(
    "-o", "--output", "format", type=click.Choice(["json"]),
    help="json: a document for each change, a line each.",
)  # fmt: skip
def status(
    session: Session,
    what: tuple[str, ...],
    watch: bool,
    wait: bool,
    timeout: float,
    format: str | None,
) -> None:
    """Show how the newest update of services goes, task by task, until it is over.

    The exit code is 0 when it is in effect, 1 when it has paused or was rolled back, 124 when that
    was not within the timeout.

    \b
    ctl rollout status web
    ctl rollout status web --timeout 10m
    ctl rollout status web --watch=false -o json
    """
    names = [target.name for target in parse(what)]
    namespace, output = session.namespace, session.output
    if watch or wait:
        from api.ctl.live import follow

        documents = format is not None
        session.run(
            lambda client: follow(output, client, namespace, names, timeout, documents=documents)
        )
        if format is not None or output.terminal:
            return

    async def show(client: Calls) -> None:
        for number, name in enumerate(names):
            view = View(await client.get(SERVICE, namespace, name))
            view.newest = await newest(client, namespace, [view.service])
            view.take_revisions(await _revisions(client, namespace, name))
            if format is None:
                now = datetime.now(UTC)
                output.lines(summary(view.service, view.revisions, now, first=number == 0))
                continue
            tasks = await client.list(TASK, namespace, field_selector=f"spec.service={name}")
            view.tasks = {task["metadata"]["name"]: task for task in tasks.items}
            output.data(json.dumps(view.document(), separators=(",", ":"), ensure_ascii=False))

    session.ask(show)


@verb("history")
@_what
@click.option("--revision", type=click.IntRange(min=1), help="The template of this one, in full.")
def history(session: Session, what: tuple[str, ...], revision: int | None) -> None:
    """List the revisions that are kept of a service, the newest last.

    \b
    ctl rollout history web
    ctl rollout history web --revision 3
    """
    target = _one(what)
    namespace = session.namespace

    async def work(client: Calls) -> None:
        service = await client.get(SERVICE, namespace, target.name)
        kept = await _revisions(client, namespace, target.name)
        if revision is not None:
            chosen = _numbered(kept, revision, target.name)
            session.output.data(to_yaml(chosen["spec"]["template"]), end="")
            return
        headers = ["REVISION", "NAME", "IMAGE", "DIGEST", "AGE", "NOW"]
        rows = [_row(each, service) for each in kept]
        if any(each["spec"].get("secrets") for each in kept):  # else there is nothing to tell
            headers.append("SECRETS")
            rows = [[*row, _secrets(each)] for row, each in zip(rows, kept, strict=True)]
        shrinks = frozenset({"IMAGE", "SECRETS"})
        table = Table(headers, shrinks, session.output.width, session.output.cell)
        session.output.lines(table.lines(rows))

    session.ask(work)


@verb("pause")
@_what
def pause(session: Session, what: tuple[str, ...]) -> None:
    """Hold updates of services: nothing more is replaced until they are resumed."""
    wanted = parse(what)
    namespace = session.namespace

    async def work(client: Client) -> None:
        for target in wanted:
            service = await client.get(SERVICE, namespace, target.name)
            if field(service, "spec", "paused"):
                session.output.data(f"service/{target.name} unchanged (it is paused)")
                continue
            await client.patch(SERVICE, namespace, target.name, {"spec": {"paused": True}})
            session.output.data(f"service/{target.name} paused")

    session.run(work)


@verb("resume")
@_what
def resume(session: Session, what: tuple[str, ...]) -> None:
    """Go on with updates that were paused, by hand or because they failed.

    Of one that was rolled back by itself: try it once more.
    """
    wanted = parse(what)
    namespace = session.namespace

    async def work(client: Client) -> None:
        for target in wanted:
            service = await client.get(SERVICE, namespace, target.name)
            patch = _resumption(service)
            if not patch:
                session.output.data(f"service/{target.name} unchanged (nothing is paused)")
                continue
            await client.patch(SERVICE, namespace, target.name, patch)
            session.output.data(f"service/{target.name} resumed")

    session.run(work)


@verb("undo")
@_what
@click.option(
    "--to-revision", type=click.IntRange(min=1), metavar="NUMBER",
    help="This one, of those that `ctl rollout history` lists; else the one before.",
)  # fmt: skip
@wait_options
def undo(
    session: Session, what: tuple[str, ...], to_revision: int | None, wait: WaitOptions
) -> None:
    """Go back to an earlier revision of a service.

    \b
    ctl rollout undo web
    ctl rollout undo web --to-revision 3 --wait
    """
    target = _one(what)
    namespace = session.namespace

    async def work(client: Client) -> None:
        service = await client.get(SERVICE, namespace, target.name)
        kept = await _revisions(client, namespace, target.name)
        chosen = _chosen(service, kept, to_revision)
        number, name = chosen["spec"]["number"], chosen["metadata"]["name"]
        if observed(service) and _wanted_now(service) == name:
            session.output.data(f"service/{target.name} unchanged (it is at revision {number})")
        else:
            newest = await _newest(client, namespace, chosen)
            await client.patch(SERVICE, namespace, target.name, undoing(service, chosen, newest))
            session.output.data(f"service/{target.name} goes back to revision {number} ({name})")
            session.output.note(
                "the manifest that it was applied from still says otherwise: change it too, or the"
                " next `ctl apply` brings that back"
            )
        if wait.wait:
            await wait_until(session.output, client, [target], namespace, IN_EFFECT, wait.timeout)

    session.run(work)


for _command in (status, history, pause, resume, undo):
    command.add_command(_command)


def _one(what: tuple[str, ...]) -> Target:
    found = parse(what)
    if len(found) != 1:
        raise Usage("one service at a time", "revisions are each service's own")
    return found[0]


async def _revisions(client: Calls, namespace: str, service: str) -> list[Document]:
    """Of a service, the oldest first."""
    listing = await client.list(REVISION, namespace, field_selector=f"spec.service={service}")
    return sorted(listing.items, key=_number)


def _number(revision: Document) -> int:
    return int(revision["spec"]["number"])


def _numbers(kept: Sequence[Document]) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in kept}


def _numbered(kept: Sequence[Document], number: int, service: str) -> Document:
    for each in kept:
        if _number(each) == number:
            return each
    there = ", ".join(str(_number(each)) for each in kept) or "none"
    raise CtlError(
        f"revision {number} of service {service} is not kept (there are: {there})",
        f"ctl rollout history {service}",
    )


def _wanted_now(service: Document) -> str:
    """The name of the revision that the spec has, as far as its controller has said."""
    return text(service, "status", "update", "revision", default="") or text(
        service, "status", "revision", default=""
    )


def _chosen(service: Document, kept: Sequence[Document], number: int | None) -> Document:
    """The revision to go back to: the one that all tasks ran before, else the one before."""
    name = service["metadata"]["name"]
    if number is not None:
        return _numbered(kept, number, name)
    if not observed(service):
        raise Conflict(
            f"the controller has not seen the newest change of service {name} yet",
            "try again, or say --to-revision NUMBER",
        )
    now, by_name = _wanted_now(service), _numbers(kept)
    before = text(service, "status", "update", "previous", default="")
    if before != now and before in by_name:
        return by_name[before]
    limit = _number(by_name[now]) if now in by_name else 0
    earlier = [each for each in kept if _number(each) < limit] or [
        each for each in kept if each["metadata"]["name"] != now
    ]
    if not earlier:
        raise CtlError(f"service {name} has no revision but the one that it is at")
    return earlier[-1]


async def _newest(client: Client, namespace: str, revision: Document) -> dict[str, int]:
    """The newest versions of the revision's secrets. Raises CtlError where one that it names is
    not kept."""
    import msgspec

    from api.client import ApiError
    from api.ctl.secret import versions
    from api.rendering import secret_names
    from api.types.template import TaskTemplate

    template = msgspec.convert(revision["spec"]["template"], TaskTemplate)
    named = revision["spec"].get("secrets") or {}
    found: dict[str, int] = {}
    for name in sorted(secret_names(template)):
        try:
            secret = await client.get(SECRET, namespace, name)
        except ApiError as error:
            if error.code != 404:
                raise
            continue
        found[name] = int(field(secret, "status", "version") or 0)
        kept = [each["version"] for each in versions(secret) if not each.get("destroyed")]
        if name in named and named[name] not in kept:
            there = ", ".join(map(str, kept))
            raise CtlError(
                f"version {named[name]} of secret {name}, which revision"
                f" {_number(revision)} needs, is not kept (there are: {there})",
                "undo to another revision, or deploy that template again with the newest version",
            )
    return found


def undoing(
    service: Document, revision: Document, newest: Mapping[str, int] | None = None
) -> Document:
    """The patch that copies the revision's template into the service, if it is still as seen.

    `newest` are its secrets' versions by now, in whose place come those of the revision.
    """
    metadata, template = service["metadata"], _given(revision["spec"]["template"])
    annotations: dict[str, str | None] = {UNDONE_TO: revision["metadata"]["name"]}
    annotations[UNDONE_SECRETS] = json.dumps(newest, separators=(",", ":")) if newest else None
    said = (metadata.get("annotations") or {}).get(patches.LAST_APPLIED, "")
    if said:
        applied = json.loads(said)
        applied.setdefault("spec", {})["template"] = template
        annotations[patches.LAST_APPLIED] = json.dumps(applied, separators=(",", ":"))
    change = patches.merge_patch(service["spec"]["template"], template)
    return {
        "metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": annotations},
        "spec": {"template": change},
    }


def _given(template: Document) -> Document:
    """Without empty blocks, which a manifest that has none doesn't say: given, they would be filled
    with defaults, and make another revision."""
    short = {key: _given(value) if isinstance(value, dict) else value
             for key, value in template.items()}  # fmt: skip
    return {key: value for key, value in short.items() if value != {}}


def _resumption(service: Document) -> Document:
    """The patch that ends a halt; {} where there is none."""
    patch: Document = {}
    if field(service, "spec", "paused"):
        patch["spec"] = {"paused": False}
    update = field(service, "status", "update") or {}
    state = update.get("state")
    failed = state in ("paused", "rollback_paused") and not update.get("held")
    again = state == "rollback_completed" and update.get("previous") != update.get("revision")
    if failed or again:
        patch["metadata"] = {"annotations": {RESUME: update["since"]}}
    return patch


def _secrets(revision: Document) -> str:
    """The versions of secrets that it names: those that are not the first."""
    versions = revision["spec"].get("secrets") or {}
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _row(revision: Document, service: Document) -> list[str]:
    name = revision["metadata"]["name"]
    update = field(service, "status", "update") or {}
    now = []
    if name == field(service, "status", "revision"):
        now.append("wanted")
    elif name == update.get("revision"):
        now.append(WORDS.get(str(update.get("state")), ""))
    if name == update.get("previous") != update.get("revision"):
        now.append("before")
    return [
        str(_number(revision)),
        name,
        str(revision["spec"]["template"].get("image", "")),
        revision_digest(revision),
        age(revision["metadata"].get("creationTimestamp"), datetime.now(UTC)),
        ", ".join(now),
    ]
