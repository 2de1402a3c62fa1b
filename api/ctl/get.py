"""`ctl get`: objects, once or as they change.

Several kinds make several tables, or one List. With --watch everything is printed once and then
each change as it comes: a row, a document, a name.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from api.ctl import formats, jsonpath
from api.ctl.errors import NotFound, Usage
from api.ctl.formats import Format
from api.ctl.generic import Held, held
from api.ctl.output import Output
from api.ctl.present import CustomTable, KindTable
from api.ctl.resources import Target, targets
from api.ctl.session import Session, verb
from api.ctl.suggestions import kinds_then_names
from api.ctl.table import Table
from api.types.columns import last_seen
from api.types.kinds import EVENT, NODE, Kind

if TYPE_CHECKING:
    from api.calls import Calls
    from api.client import Client

Document = dict[str, Any]

COMPONENTS = ("components", "component")
ALL = ("services,tasks,secrets,configs",)  # what `all` means: all that users work with


@dataclass(frozen=True)
class Request:
    """What to get, and how to show it."""

    targets: Sequence[Target]
    namespace: str  # "" for all
    format: Format
    labels: str = ""
    fields: str = ""
    sort_by: str = ""
    watch: bool = False
    watch_only: bool = False
    header: bool = True
    ignore_not_found: bool = False

    @property
    def single(self) -> bool:
        return len(self.targets) == 1 and bool(self.targets[0].name)


@verb("get")
@click.argument("what", nargs=-1, required=True, shell_complete=kinds_then_names)
@click.option(
    "-o",
    "--output",
    default="",
    metavar="FORMAT",
    help="wide, json, yaml, name, jsonpath=…, custom-columns=…",
)
@click.option("-w", "--watch", is_flag=True, help="Go on with each change, until Ctrl-C.")
@click.option("--watch-only", is_flag=True, help="Only changes, not what is there already.")
@click.option(
    "-l",
    "--selector",
    default="",
    metavar="LABELS",
    help="Only those with these labels, as in app=web,tier!=db.",
)
@click.option(
    "--field-selector",
    default="",
    metavar="FIELDS",
    help="Only those with these fields, as in status.state=Running.",
)
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option(
    "--sort-by",
    default="",
    metavar="PATH",
    help="Sort by a field, as in .metadata.creationTimestamp.",
)
@click.option("--no-headers", is_flag=True, help="Tables without their first line.")
@click.option(
    "--show-managed-fields", is_flag=True, help="In json and yaml: who manages which field, too."
)
@click.option(
    "--ignore-not-found", is_flag=True, help="Succeed where a named object does not exist."
)
def command(
    session: Session,
    what: tuple[str, ...],
    output: str,
    watch: bool,
    watch_only: bool,
    selector: str,
    field_selector: str,
    all_namespaces: bool,
    sort_by: str,
    no_headers: bool,
    show_managed_fields: bool,
    ignore_not_found: bool,
) -> None:
    """Show objects of one or several kinds.

    \b
    ctl get services
    ctl get services,tasks -o wide
    ctl get all
    ctl get service web -o yaml
    ctl get tasks -w --field-selector spec.service=web
    ctl get nodes -o jsonpath='{range .items[*]}{.metadata.name}{"\\n"}{end}'
    """
    format = replace(formats.parse(output), managed_fields=show_managed_fields)
    if what[0] in COMPONENTS:
        session.ask(lambda client: _components(session, client, format))
        return
    found = targets(ALL if what == ("all",) else what)
    named = any(target.name for target in found)
    if named and (selector or field_selector):
        raise Usage("give names or a selector, not both")
    if named and all_namespaces:
        raise Usage("names are of one namespace: give -n NAMESPACE, not -A")
    request = Request(
        targets=found,
        namespace="" if all_namespaces else session.namespace,
        format=format,
        labels=selector,
        fields=field_selector,
        sort_by=sort_by,
        watch=watch or watch_only,
        watch_only=watch_only,
        header=not no_headers,
        ignore_not_found=ignore_not_found,
    )
    get(session, request)


class Found:
    """Objects by kind, in the order the kinds were named."""

    def __init__(self) -> None:
        self.by_kind: dict[Kind, list[Document]] = {}
        self.revisions: dict[Kind, str] = {}
        self.missing: list[NotFound] = []
        self.held: Held | None = None  # of nodes' generic resources, where it is shown

    @property
    def objects(self) -> list[Document]:
        return [obj for objects in self.by_kind.values() for obj in objects]


def get(session: Session, request: Request) -> None:
    """Print what is there, and go on with changes where asked to. Raises CtlError."""
    if request.watch:
        session.run(lambda client: _show_and_follow(session, client, request))
    else:
        session.ask(lambda client: _show(session, client, request))


async def _show(session: Session, client: Calls, request: Request) -> tuple[Found, View]:
    """What is there, printed. Raises NotFound."""
    found = await fetch(client, request)
    if request.format.name == "wide" and not request.watch:
        found.held = await held(client, found.by_kind.get(NODE, []))
    view = View(session.output, request, list(found.by_kind), found.held)
    if not request.watch_only:
        view.show(found)
    for error in found.missing[:-1]:
        session.output.error(error.message)
    if found.missing and not request.ignore_not_found:
        raise found.missing[-1]
    return found, view


async def _show_and_follow(session: Session, client: Client, request: Request) -> None:
    found, view = await _show(session, client, request)
    await _follow(client, request, found, view)


async def fetch(client: Calls, request: Request) -> Found:
    """What is there now, sorted."""
    found = Found()
    kinds = dict.fromkeys(target.kind for target in request.targets)
    for kind in kinds:
        wanted = [target.name for target in request.targets if target.kind is kind]
        found.by_kind[kind] = []
        if wanted == [""]:
            listing = await client.list(
                kind,
                request.namespace,
                label_selector=request.labels,
                field_selector=request.fields,
            )
            found.by_kind[kind] = _sorted(kind, listing.items, request.sort_by)
            found.revisions[kind] = listing.resource_version
        else:
            await _fetch_named(client, request, kind, wanted, found)
    return found


async def _fetch_named(
    client: Calls, request: Request, kind: Kind, names: Sequence[str], found: Found
) -> None:
    from api.rest import ApiError

    for name in names:
        try:
            obj = await client.get(kind, request.namespace, name)
        except ApiError as error:
            if error.code != 404:
                raise
            found.missing.append(NotFound(error.message))
        else:
            found.by_kind[kind].append(obj)


def _sorted(kind: Kind, objects: Sequence[Document], sort_by: str) -> list[Document]:
    """By the path asked for, else by name; events by when they were last seen."""
    if sort_by:
        path = jsonpath.path(sort_by)
        return sorted(objects, key=lambda obj: _order(path.find(obj)))
    if kind is EVENT:
        return sorted(objects, key=last_seen)
    return sorted(
        objects,
        key=lambda obj: (
            obj["metadata"].get("namespace", ""),
            _natural(obj["metadata"].get("name", "")),
        ),
    )


def _order(values: Sequence[Any]) -> tuple[int, float, str]:
    """What is missing first, then numbers, then texts: any mixture can be sorted."""
    if not values:
        return (0, 0.0, "")
    if isinstance(values[0], int | float):
        return (1, float(values[0]), "")
    return (2, 0.0, jsonpath.shown(values[0]))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """web-2 before web-10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)
    ]


class View:
    """Prints what was found, then each change, in the format asked for."""

    def __init__(
        self, output: Output, request: Request, kinds: Sequence[Kind], held: Held | None = None
    ) -> None:
        self._output = output
        self._held = held
        self._request = request
        self._several = len(kinds) > 1
        self._tables = {kind: self._table(kind) for kind in kinds}
        self._last: Kind | None = None  # whose row was printed last

    def _table(self, kind: Kind) -> KindTable | CustomTable:
        if self._request.format.columns:
            return CustomTable(self._output, self._request.format)
        return KindTable(
            self._output,
            kind,
            wide=self._request.format.name == "wide",
            namespaces=not self._request.namespace,
            prefix=self._several,
            instead={"RESOURCES": self._held.cell} if self._held is not None else None,
        )

    def show(self, found: Found) -> None:
        format = self._request.format
        if not format.table and not format.columns:
            if found.objects or not self._request.single:
                # A watch's documents each stand alone, from the first on.
                self._documents(found.objects, each=self._request.watch)
            return
        shown = [kind for kind, objects in found.by_kind.items() if objects]
        for kind in shown:
            if kind is not shown[0] and not self._request.format.columns:
                self._output.data()
            lines = self._tables[kind].lines(found.by_kind[kind], header=self._request.header)
            self._output.lines(lines)
            self._last = kind
        if not shown and not found.missing:
            self._nothing()

    def changed(self, kind: Kind, obj: Document, *, deleted: bool) -> None:
        """One change of a watch."""
        format = self._request.format
        if not format.table and not format.columns:
            self._documents([obj], each=True)
            return
        header = self._request.header and self._last is not kind
        lines = self._tables[kind].lines([obj], header=header)
        if deleted:
            lines[-1] += "   (deleted)"
        self._output.lines(lines)
        self._last = kind

    def _documents(self, objects: Sequence[Document], *, each: bool) -> None:
        format = self._request.format
        if each:
            for obj in objects:
                start = "---\n" if format.name == "yaml" else ""
                self._write(start + formats.render(format, [obj], single=True))
        else:
            self._write(formats.render(format, objects, single=self._request.single))

    def _write(self, text: str) -> None:
        # A jsonpath prints exactly its template; a person's prompt still gets a line of its own.
        tidy = self._output.terminal and not text.endswith("\n")
        self._output.data(text, end="\n" if tidy else "")

    def _nothing(self) -> None:
        kinds = " or ".join(dict.fromkeys(target.kind.plural for target in self._request.targets))
        where = f" in namespace {self._request.namespace}" if self._request.namespace else ""
        if not any(target.kind.namespaced for target in self._request.targets):
            where = ""
        which = " that match" if self._request.labels or self._request.fields else ""
        self._output.note(f"there are no {kinds}{which}{where}")


async def _follow(client: Client, request: Request, found: Found, view: View) -> None:
    """Changes of all kinds, until interrupted."""
    import asyncio

    async with asyncio.TaskGroup() as group:
        for target in request.targets:
            group.create_task(_follow_one(client, request, target, found, view))


async def _follow_one(
    client: Client, request: Request, target: Target, found: Found, view: View
) -> None:
    fields = f"metadata.name={target.name}" if target.name else request.fields
    changes = client.watch(
        target.kind,
        request.namespace,
        resource_version=found.revisions.get(target.kind, ""),
        label_selector=request.labels,
        field_selector=fields,
    )
    async with contextlib.aclosing(changes):
        async for change in changes:
            view.changed(target.kind, change.object, deleted=change.type == "DELETED")


async def _components(session: Session, client: Calls, format: Format) -> None:
    """The manager's parts: not objects, so only a table, yaml and json."""
    components = [dict(each) for each in await client.components()]
    if format.name == "json":
        session.output.data(json.dumps(components, indent=2))
        return
    if not format.table:
        raise Usage("components are shown as a table or with -o json")
    rows = [
        [
            each["name"],
            each["state"],
            str(each["restarts"]),
            each.get("lastError") or each.get("message", ""),
        ]
        for each in components
    ]
    table = Table(["NAME", "STATE", "RESTARTS", "MESSAGE"], paint=session.output.cell)
    session.output.lines(table.lines(rows))
