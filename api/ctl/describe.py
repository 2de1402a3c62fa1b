"""`ctl describe`: one object in full, for a person: what it is, what it does, what happened.

A service comes with its tasks, the failed ones' reasons included, and with the last that one
printed where they fail again and again; every object with its events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from api.ctl import lastwords
from api.ctl.formats import to_yaml
from api.ctl.generic import Held
from api.ctl.output import Output
from api.ctl.present import KindTable
from api.ctl.resources import Target, targets
from api.ctl.runs import run_lines
from api.ctl.session import Session, verb
from api.ctl.suggestions import kinds_then_names
from api.ctl.table import Table, clean
from api.types.columns import (
    age,
    deleting,
    desired_replicas,
    field,
    is_job,
    last_seen,
    newest_run,
    node_status,
    size,
    text,
)
from api.types.generic import shown
from api.types.kinds import EVENT, NODE, REVISION, SECRET, SERVICE, TASK, Kind

if TYPE_CHECKING:
    from api.calls import Calls
    from api.ctl.blocking import BlockingClient

Document = dict[str, Any]

_LABEL_WIDTH = 14
_EVENTS = 20  # the newest


@verb("describe")
@click.argument("what", nargs=-1, required=True, shell_complete=kinds_then_names)
@click.option("-l", "--selector", default="", metavar="LABELS", help="All with these labels.")
def command(session: Session, what: tuple[str, ...], selector: str) -> None:
    """Show everything about objects: fields, tasks, events.

    \b
    ctl describe service web
    ctl describe task/web-1-x7k2p
    ctl describe nodes
    """
    found = targets(what)
    namespace = session.namespace
    session.ask(lambda client: describe(session.output, client, found, namespace, selector))


async def describe(
    output: Output, client: BlockingClient, wanted: Sequence[Target], namespace: str, labels: str
) -> None:
    first = True
    for target in wanted:
        for obj in await _objects(client, target, namespace, labels):
            if not first:
                output.data("\n")
            first = False
            related = await _related(client, target.kind, obj)
            events = await _events(client, target.kind, obj)
            revision = await _revision(client, target.kind, obj)
            output.lines(_described(output, target.kind, obj, related, events, revision))
            task = lastwords.failed(target.kind, obj, related)
            if task is not None:
                output.data()
                output.lines(lastwords.told(client, task))
    if first:
        output.note(f"there are no {' or '.join(t.kind.plural for t in wanted)} to describe")


async def _objects(
    client: Calls, target: Target, namespace: str, labels: str
) -> Sequence[Document]:
    if target.name:
        return [await client.get(target.kind, namespace, target.name)]
    listing = await client.list(target.kind, namespace, label_selector=labels)
    return listing.items


async def _related(client: Calls, kind: Kind, obj: Document) -> Sequence[Document]:
    """The tasks of a service, or those on a node; who holds a secret."""
    name = obj["metadata"]["name"]
    if kind is SECRET:
        return [await client.secret_holders(obj["metadata"]["namespace"], name)]
    if kind is SERVICE:
        fields, namespace = f"spec.service={name}", obj["metadata"]["namespace"]
    elif kind is NODE:
        fields, namespace = f"spec.node={name}", ""
    else:
        return []
    listing = await client.list(TASK, namespace, field_selector=fields)
    return listing.items


async def _revision(client: Calls, kind: Kind, obj: Document) -> Document:
    """A service's, empty where there is none yet."""
    name = text(obj, "status", "revision", default="")
    if kind is not SERVICE or not name:
        return {}
    fields, namespace = f"metadata.name={name}", obj["metadata"]["namespace"]
    found = (await client.list(REVISION, namespace, field_selector=fields)).items
    return found[0] if found else {}


async def _events(client: Calls, kind: Kind, obj: Document) -> Sequence[Document]:
    """Of this object, the newest last."""
    if kind is EVENT:
        return []
    namespace = obj["metadata"].get("namespace", "")
    fields = f"involvedObject.uid={obj['metadata'].get('uid', '')}"
    listing = await client.list(EVENT, namespace, field_selector=fields)
    return sorted(listing.items, key=last_seen)[-_EVENTS:]


def _described(
    output: Output,
    kind: Kind,
    obj: Document,
    tasks: Sequence[Document],
    events: Sequence[Document],
    revision: Document,
) -> Iterator[str]:
    now = datetime.now(UTC)
    yield from _head(kind, obj, now)
    yield from _particulars(output, kind, obj, now, revision, tasks)
    yield from _conditions(output, obj, now)
    if kind is SERVICE and is_job(obj):
        yield ""
        yield from run_lines(output, obj, now)
    if kind in (SERVICE, NODE):
        yield ""
        yield from _tasks(output, kind, tasks)
    if kind is not EVENT:
        yield ""
        yield from _event_table(output, events)


def _line(label: str, value: object) -> str:
    label = f"{label}:" if label else ""
    return f"{label:<{_LABEL_WIDTH}} {clean(str(value))}".rstrip()


def _pairs(label: str, pairs: Mapping[str, Any]) -> Iterator[str]:
    for number, (key, value) in enumerate(sorted(pairs.items())):
        shown = f"{key}={value}"
        yield _line(label, shown) if number == 0 else " " * (_LABEL_WIDTH + 1) + clean(shown)


def _head(kind: Kind, obj: Document, now: datetime) -> Iterator[str]:
    metadata = obj["metadata"]
    yield _line("Name", metadata.get("name"))
    if kind.namespaced:
        yield _line("Namespace", metadata.get("namespace"))
    yield from _pairs("Labels", metadata.get("labels") or {})
    shown = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key != "skep.dev/last-applied"
    }
    yield from _pairs("Annotations", shown)
    created = metadata.get("creationTimestamp")
    if created:
        yield _line("Created", f"{created} ({age(created, now)} ago)")
    if deleting(obj):
        finalizers = ", ".join(metadata.get("finalizers") or []) or "nothing"
        since = age(metadata["deletionTimestamp"], now)
        yield _line("Deleting", f"since {since}, waits for {finalizers}")


def _particulars(
    output: Output,
    kind: Kind,
    obj: Document,
    now: datetime,
    revision: Document,
    tasks: Sequence[Document],
) -> Iterator[str]:
    """What each kind has of its own."""
    if kind is SERVICE:
        yield from _service(obj, revision)
    elif kind is TASK:
        yield from _task(output, obj, now)
    elif kind is NODE:
        yield from _node(output, obj, tasks)
    elif kind.name == "Secret":
        yield from _secret(obj, tasks)
    else:
        yield from _everything_else(obj)


def _service(obj: Document, revision: Document) -> Iterator[str]:
    status = obj.get("status") or {}
    wanted = desired_replicas(obj)
    running, updated = status.get("running") or 0, status.get("updated") or 0
    yield _line("Mode", text(obj, "spec", "mode", default="replicated"))
    if is_job(obj):
        yield from _job(obj)
    else:
        yield _line("Replicas", f"{running} running, {updated} up to date, {wanted} wanted")
    yield _line("Revision", text(obj, "status", "revision"))
    if digest := field(revision, "status", "digest"):
        node = text(revision, "status", "node")
        yield _line("Digest", f"{digest} (what its image's name was first, on node {node})")
    yield from _update(obj)
    spec = {key: value for key, value in obj["spec"].items() if key not in ("mode", "replicas")}
    yield from _block(spec)


def _update(obj: Document) -> Iterator[str]:
    update = field(obj, "status", "update") or {}
    if not update:
        return
    failed = f", {update['failed']} failed" if update.get("failed") else ""
    since = f" since {update['since']}" if update.get("since") else ""
    yield _line("Update", f"{update.get('state')}{since}{failed}")
    yield _line("", update.get("message", ""))


def _job(obj: Document) -> Iterator[str]:
    run = newest_run(obj)
    counts = [f"{run.get(key, 0)} {key}" for key in ("succeeded", "active", "failed")]
    if run:
        yield _line("Run", f"{run['number']}: {', '.join(counts)}, {run.get('wanted', 0)} wanted")
    for label, key in (("Last time", "lastScheduleTime"), ("Next time", "nextScheduleTime")):
        if time := field(obj, "status", "job", key):
            yield _line(label, time)


def _task(output: Output, obj: Document, now: datetime) -> Iterator[str]:
    status = obj.get("status") or {}
    state = status.get("state", "New")
    since = f" (since {age(status['since'], now)})" if status.get("since") else ""
    yield _line("Service", text(obj, "spec", "service"))
    yield _line("Revision", text(obj, "spec", "revision"))
    if slot := field(obj, "spec", "slot"):
        yield _line("Slot", slot)
    yield _line("Node", text(obj, "spec", "node"))
    for number, (name, amount) in enumerate(sorted((obj["spec"].get("generic") or {}).items())):
        yield _line("" if number else "Resources", shown(name, amount))
    yield _line("Desired", text(obj, "spec", "desiredState", default="Running"))
    yield f"{'State:':<{_LABEL_WIDTH}} {output.state(state)}{since}"
    for label, key in (("Message", "message"), ("Error", "error")):
        if status.get(key):
            yield _line(label, status[key])
    for label, key in (("Started", "startedAt"), ("Finished", "finishedAt")):
        if status.get(key):
            yield _line(label, f"{status[key]} ({age(status[key], now)} ago)")
    yield from _container(status.get("container") or {})
    for port in status.get("ports") or []:
        yield _line(
            "Port", f"{port.get('published')} → {port.get('target')}/{port.get('protocol', 'tcp')}"
        )


def _container(container: Mapping[str, Any]) -> Iterator[str]:
    if container.get("id"):
        yield _line("Container", container["id"])
    if container.get("digest"):
        yield _line("Digest", container["digest"])
    if container.get("exitCode") is not None:
        oom = ", out of memory" if container.get("oomKilled") else ""
        yield _line("Exit code", f"{container['exitCode']}{oom}")
    if container.get("health"):
        yield _line("Health", container["health"])
    for number, failure in enumerate(container.get("checkFailures") or ()):
        words = f"{failure['at']} {failure['check']}: {failure.get('output', '')}"
        yield _line("" if number else "Failed checks", " ".join(words.split()))


def _node(output: Output, obj: Document, tasks: Sequence[Document]) -> Iterator[str]:
    status = obj.get("status") or {}
    yield f"{'Status:':<{_LABEL_WIDTH}} {output.state(node_status(obj))}"
    yield _line("Availability", text(obj, "spec", "availability", default="active"))
    yield _line("Role", text(obj, "spec", "role", default="worker"))
    yield _line("Address", text(obj, "status", "address"))
    yield _line("Hostname", text(obj, "status", "hostname"))
    yield _line("Platform", f"{status.get('os', '?')}/{status.get('architecture', '?')}")
    yield _line("Kernel", text(obj, "status", "kernel"))
    yield _line("Agent", text(obj, "status", "agentVersion"))
    resources = status.get("resources") or {}
    yield _line("CPUs", f"{resources.get('cpus') or 0:g}")
    yield _line("Memory", size(resources.get("memory") or 0))
    for number, words in enumerate(Held(tasks).lines(obj)):
        yield _line("" if number else "Resources", words)
    engine = status.get("engine") or {}
    state = "ready" if engine.get("ready") else f"not ready: {engine.get('message') or 'unknown'}"
    yield _line("Engine", f"{engine.get('driver', '?')} {engine.get('version', '')}, {state}")
    if network := engine.get("network"):
        yield _line("Networks", network)
    yield from _pairs("Engine labels", engine.get("labels") or {})


def _secret(obj: Document, holders: Sequence[Document]) -> Iterator[str]:
    found = holders[0] if holders else {}
    held = {each["version"]: each.get("tasks", ()) for each in found.get("versions", ())}
    yield _line("Version", text(obj, "status", "version", default="0"))
    yield _line("Keep", f"{obj.get('keep', 5)} versions")
    yield _line("Used by", ", ".join(found.get("services", ())) or "no service")
    sizes = field(obj, "status", "sizes") or {}
    yield _line("Keys", len(sizes))
    for key, count in sorted(sizes.items()):
        yield f"  {clean(key)}: {count} bytes"
    yield from _made(obj)
    kept = field(obj, "status", "versions") or []
    yield _line("Versions", len(kept))
    for each in kept:
        size = "destroyed" if each.get("destroyed") else f"{each.get('size', 0)} bytes"
        origin = f", from {clean(each['origin'])}" if each.get("origin") else ""
        tasks = held.get(each["version"], ())
        who = f", held by {len(tasks)} task{'s' if len(tasks) != 1 else ''}" if tasks else ""
        yield f"  {each['version']}: {each.get('created', '<unknown>')}, {size}{origin}{who}"


def _made(obj: Document) -> Iterator[str]:
    """What the system makes and fetches of a secret, without what is secret of it."""
    status = obj.get("status") or {}
    generated = status.get("generated") or {}
    if generated:
        yield _line("Generated", len(generated))
    for name, each in sorted(generated.items()):
        ends = f", good until {each['notAfter']}" if each.get("notAfter") else ""
        yield f"  {clean(name)}: made {each.get('made')}{ends}"
        for field_ in ("fingerprint", "publicKey"):
            if each.get(field_):
                yield f"    {clean(each[field_])}"
    if source := obj.get("source"):
        place = f" {clean(source['path'])}" if source.get("path") else ""
        yield _line("Source", f"{clean(source.get('provider', '?'))}{place}")
        yield _line("Fetched", field(obj, "status", "source", "fetched") or "never")
    for label, key in (("Last rotation", "lastRotation"), ("Next rotation", "nextRotation")):
        if time := status.get(key):
            yield _line(label, time)


def _everything_else(obj: Document) -> Iterator[str]:
    rest = {
        key: value
        for key, value in obj.items()
        if key not in ("apiVersion", "kind", "metadata") and value
    }
    yield from _block(rest)


def _block(content: Mapping[str, Any]) -> Iterator[str]:
    """Nested fields as YAML, under capitalised names."""
    for key, value in content.items():
        title = key[:1].upper() + key[1:]
        if isinstance(value, dict | list) and value:
            yield f"{title}:"
            for line in to_yaml(value).splitlines():
                yield f"  {clean(line)}"
        elif value not in ({}, [], None, ""):
            yield _line(title, value)


def _conditions(output: Output, obj: Document, now: datetime) -> Iterator[str]:
    conditions = field(obj, "status", "conditions") or []
    if not conditions:
        return
    yield "Conditions:"
    table = Table(
        ["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"],
        frozenset({"MESSAGE"}),
        output.width and output.width - 2,
        lambda header, cell: output.cell(header, cell) if header == "STATUS" else cell,
    )
    rows = [
        [
            str(item.get("type", "")),
            str(item.get("status", "")),
            age(item.get("lastTransitionTime"), now),
            str(item.get("reason", "")),
            str(item.get("message", "")),
        ]
        for item in conditions
    ]
    yield from (f"  {line}" for line in table.lines(rows))


def _tasks(output: Output, kind: Kind, tasks: Sequence[Document]) -> Iterator[str]:
    if not tasks:
        yield "Tasks:         none"
        return
    yield "Tasks:"
    without = {"SERVICE"} if kind is SERVICE else {"NODE"}
    table = KindTable(output, TASK, without=frozenset(without), namespaces=kind is NODE)
    ordered = sorted(
        tasks,
        key=lambda task: (
            task["metadata"].get("namespace", ""),
            field(task, "spec", "service"),
            field(task, "spec", "slot") or 0,
            field(task, "spec", "node") or "",
            str(task["metadata"].get("creationTimestamp")),
        ),
    )
    yield from (f"  {line}" for line in table.lines(ordered))


def _event_table(output: Output, events: Sequence[Document]) -> Iterator[str]:
    if not events:
        yield "Events:        none"
        return
    yield "Events:"
    table = KindTable(output, EVENT, without=frozenset({"OBJECT"}))
    yield from (f"  {line}" for line in table.lines(events))
