"""`ctl rollout status` while an update goes on: followed by watches, shown as it changes.

On a terminal one picture is drawn over and over; elsewhere each change is a line; `-o json` is one
document a line, each complete. It is over when what was applied is in effect, with an error when
an update has paused or gone back, and with TimedOut when time is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from api.ctl.errors import CtlError, NotFound, TimedOut
from api.ctl.newest import newest
from api.ctl.output import Output
from api.ctl.progress import HEADERS, View, fitting
from api.ctl.table import Table
from api.types.columns import is_job
from api.types.kinds import REVISION, SERVICE, TASK, Kind

if TYPE_CHECKING:
    from api.client import Client

Document = dict[str, Any]

_GATHER = 0.1  # seconds that changes collect before they are shown
_TICK = 1.0  # seconds: ages grow though nothing changes


class Display(Protocol):
    def show(self, views: Sequence[View]) -> None: ...


class Lines:
    """A line for each change."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: dict[tuple[str, str], str] = {}

    def show(self, views: Sequence[View]) -> None:
        for view in views:
            for row in view.rows():
                slot = f"slot {row.slot}, " if row.slot else ""
                where = f" on {row.node}" if row.node else ""
                words = f"{slot}revision {row.titled}{where}: {row.words}"
                self._say(view.name, row.task, f"task/{row.task} {words}")
            self._say(view.name, "", f"service/{view.name} {view.progress}")

    def _say(self, service: str, task: str, words: str) -> None:
        if self._said.get((service, task)) != words:
            self._said[service, task] = words
            self._output.data(words)


class Documents:
    """A document for each change, a line each."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: dict[str, str] = {}

    def show(self, views: Sequence[View]) -> None:
        for view in views:
            text = json.dumps(view.document(), separators=(",", ":"), ensure_ascii=False)
            if self._said.get(view.name) != text:
                self._said[view.name] = text
                self._output.data(text)


class Screen:
    """One picture, drawn over the last one. To be used within `opened`."""

    def __init__(self, output: Output) -> None:
        from rich.console import Console
        from rich.live import Live

        self._output = output
        # Colours are our own, in the lines.
        console = Console(file=sys.stdout, no_color=not output.colour, highlight=False)
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        with self._live:
            yield

    def show(self, views: Sequence[View]) -> None:
        from rich.text import Text

        size = os.get_terminal_size(sys.stdout.fileno())
        lines = picture(self._output, views, size.columns, size.lines)
        text = Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop")
        self._live.update(text, refresh=True)


def picture(output: Output, views: Sequence[View], width: int, height: int) -> list[str]:
    """All services, in so many lines; of their tasks those that fit."""
    now = datetime.now(UTC)
    heads = [list(view.head(now)) for view in views]
    room = height - 1 - sum(len(head) + 3 for head in heads)  # the header, a gap, "and more"
    lines: list[str] = []
    for view, head in zip(views, heads, strict=True):
        rows, left = fitting(view.rows(), max(3, room // len(views)))
        table = Table(HEADERS, frozenset({"MESSAGE", "REVISION"}), width, output.cell)
        lines += [*([""] if lines else []), *head]
        if rows:
            lines += table.lines([row.cells(now) for row in rows])
        if left:
            lines.append(f"and {left} more, most of them running")
    return lines


class Follower:
    """The services' views, kept up to date."""

    def __init__(self, client: Client, namespace: str, names: Sequence[str]) -> None:
        self._client = client
        self._namespace = namespace
        self._names = names
        self._changed = asyncio.Event()
        self.views: dict[str, View] = {}

    async def follow(self, display: Display, timeout: float, *, tick: bool) -> None:
        """Until all are as wanted. Raises NotFound, CtlError, TimedOut, ClientError."""
        versions = [await self._look(name) for name in self._names]
        display.show([*self.views.values()])
        if self._over():
            return
        if timeout <= 0:
            raise self._too_late(timeout)
        showing = self._show(display, tick=tick)
        async with asyncio.TaskGroup() as group:
            watches = [
                group.create_task(self._watch(name, kind, selector, version))
                for name, found in zip(self._names, versions, strict=True)
                for kind, selector, version in found
            ]
            try:
                async with asyncio.timeout(timeout):
                    await showing
            except TimeoutError:
                raise self._too_late(timeout) from None
            finally:
                for watch in watches:
                    watch.cancel()

    async def _look(self, name: str) -> list[tuple[Kind, str, str]]:
        """What is there, and what to watch from where."""
        fields = {SERVICE: f"metadata.name={name}", TASK: f"spec.service={name}"}
        services = await self._client.list(SERVICE, self._namespace, field_selector=fields[SERVICE])
        if not services.items:
            raise NotFound(f"service {self._namespace}/{name} does not exist")
        tasks = await self._client.list(TASK, self._namespace, field_selector=fields[TASK])
        view = self.views[name] = View(services.items[0])
        view.newest = await newest(self._client, self._namespace, services.items)
        view.tasks = {task["metadata"]["name"]: task for task in tasks.items}
        await self._number(view)
        return [
            (SERVICE, fields[SERVICE], services.resource_version),
            (TASK, fields[TASK], tasks.resource_version),
        ]

    async def _number(self, view: View) -> None:
        fields = f"spec.service={view.name}"
        kept = await self._client.list(REVISION, self._namespace, field_selector=fields)
        view.take_revisions(kept.items)

    async def _watch(self, name: str, kind: Kind, selector: str, version: str) -> None:
        view = self.views[name]
        changes = self._client.watch(
            kind, self._namespace, resource_version=version, field_selector=selector
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                gone = change.type == "DELETED"
                if kind is TASK and gone:
                    view.tasks.pop(change.object["metadata"]["name"], None)
                elif kind is TASK:
                    view.tasks[change.object["metadata"]["name"]] = change.object
                elif gone:
                    raise NotFound(f"service {self._namespace}/{name} was deleted")
                else:
                    view.service = change.object
                self._changed.set()

    async def _show(self, display: Display, *, tick: bool) -> None:
        while not self._over():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK if tick else None):
                    await self._changed.wait()
                    await asyncio.sleep(_GATHER)
                    self._changed.clear()
            for view in self.views.values():
                if view.unknown:
                    await self._number(view)
            display.show([*self.views.values()])

    def _over(self) -> bool:
        """Raises CtlError where one will not come to it by itself."""
        for view in self.views.values():
            if not view.met and (why := view.hopeless):
                name = view.name
                hint = f"ctl rollout resume {name} tries again, ctl rollout undo {name} goes back"
                if is_job(view.service):
                    hint = f"ctl describe service {name} shows its tasks, ctl logs what they said"
                raise CtlError(f"service/{name}: {why}", hint)
        return all(view.met for view in self.views.values())

    def _too_late(self, timeout: float) -> TimedOut:
        late = [view for view in self.views.values() if not view.met]
        words = "; ".join(f"service/{view.name}: {view.progress}" for view in late)
        return TimedOut(f"not in effect within {timeout:g} s: {words}")


async def follow(
    output: Output,
    client: Client,
    namespace: str,
    names: Sequence[str],
    timeout: float,
    *,
    documents: bool,
) -> None:
    """Show the services' updates until they are over. Raises as Follower."""
    follower = Follower(client, namespace, names)
    if documents or not output.terminal:
        display = Documents(output) if documents else Lines(output)
        await follower.follow(display, timeout, tick=False)
        return
    screen = Screen(output)
    with screen.opened():
        await follower.follow(screen, timeout, tick=True)
