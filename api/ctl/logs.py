"""`ctl logs`: what tasks print."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from api.ctl import tasks
from api.ctl.errors import CtlError
from api.ctl.output import paint
from api.ctl.session import Session, refusal, verb
from api.ctl.suggestions import names_of
from api.ctl.waiting import Duration
from api.types.kinds import SERVICE, TASK

if TYPE_CHECKING:
    from api.client import Client

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
_MOST = 3  # tasks whose reasons are told
_NOT_YET = frozenset({"New", "Pending", "Assigned", "Accepted", "Preparing", "Ready"})


class _What(NamedTuple):
    follow: bool
    tail: int
    since: str
    timestamps: bool


class _Since(click.ParamType[str]):
    """A duration before now, or an RFC 3339 time, as that time."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            return ""
        with contextlib.suppress(ValueError):
            time = datetime.fromisoformat(value)
            if time.tzinfo is not None:
                return time.isoformat()
        try:
            seconds = Duration().convert(value, param, ctx)
        except click.UsageError as error:
            self.fail(
                f"{error.message}, nor a time with its zone such as 2026-01-31T09:30:00Z",
                param,
                ctx,
            )
        return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


@verb("logs")
@click.argument("what", shell_complete=names_of("task", slashed="service"))
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--tail",
    type=click.IntRange(min=-1),
    default=-1,
    help="Only the last lines, of each task; -1, the default, is all.",
)
@click.option(
    "--since",
    type=_Since(),
    default="",
    help="Only what is younger, as in 10m, or than a time, as in 2026-01-31T09:30:00Z.",
)
@click.option("--timestamps", is_flag=True, help="When each line was printed.")
@click.option("--prefix/--no-prefix", default=None, help="Name the task before each line.")
def command(
    session: Session,
    what: str,
    follow: bool,
    tail: int,
    since: str,
    timestamps: bool,
    prefix: bool | None,
) -> None:
    """Show the output of a task, or of all tasks of a service.

    \b
    ctl logs web-1-x7k2p --tail 20
    ctl logs service/web -f
    """
    kind, name = tasks.parse(what)
    wanted = _What(follow, tail, since, timestamps)
    namespace = session.namespace

    async def work(client: Client) -> None:
        from api.client import ApiError

        if kind is TASK:
            printer = _Printer(session, name if prefix else "", 0)
            try:
                await _copy(client, namespace, name, wanted, printer)
            except ApiError as error:
                raise await tasks.missing(client, namespace, name, error) from None
        else:
            service = _Service(session, client, namespace, name, wanted, prefix is not False)
            await service.run()

    session.run(work)


async def _copy(
    client: Client, namespace: str, task: str, wanted: _What, printer: _Printer
) -> None:
    output = client.logs(
        namespace,
        task,
        follow=wanted.follow,
        tail=wanted.tail,
        since=wanted.since,
        timestamps=wanted.timestamps,
    )
    async with contextlib.aclosing(output):
        async for part in output:
            printer.write(part)
    printer.end()


class _Service:
    """All tasks of a service: those there are and, when following, those that come."""

    def __init__(
        self,
        session: Session,
        client: Client,
        namespace: str,
        name: str,
        wanted: _What,
        prefix: bool,
    ) -> None:
        self._session = session
        self._client = client
        self._namespace = namespace
        self._name = name
        self._wanted = wanted
        self._prefix = prefix
        self._seen: set[str] = set()

    async def run(self) -> None:
        """Raises ApiError for no such service."""
        await self._client.get(SERVICE, self._namespace, self._name)
        selector = f"spec.service={self._name}"
        listing = await self._client.list(TASK, self._namespace, field_selector=selector)
        there = sorted(
            listing.items, key=lambda task: str(task["metadata"].get("creationTimestamp"))
        )
        if not self._wanted.follow:
            for task in there:
                await self._one(task)
            if not self._seen:
                self._nothing_yet(there)
            return
        if not any(_has_begun(task) for task in there):
            self._nothing_yet(there)
        async with asyncio.TaskGroup() as group:
            for task in there:
                group.create_task(self._one(task))
            changes = self._client.watch(
                TASK,
                self._namespace,
                resource_version=listing.resource_version,
                field_selector=selector,
            )
            async with contextlib.aclosing(changes):
                async for change in changes:
                    if change.type != "DELETED":
                        group.create_task(self._one(change.object))

    def _nothing_yet(self, there: Sequence[dict[str, object]]) -> None:
        """Silence would be read as an output that is empty."""
        reasons = dict.fromkeys(
            f"{_at(task, 'metadata', 'name')} is {_at(task, 'status', 'state') or 'New'}"
            + (f": {said}" if (said := _at(task, "status", "message")) else "")
            for task in there
        )
        why = "; ".join([*reasons][:_MOST]) or "it has no tasks"
        self._session.output.note(
            f"no task of service {self._namespace}/{self._name} has begun yet: {why}"
        )

    async def _one(self, task: dict[str, object]) -> None:
        """One task's output, once it has any; a task that can't be read is said, not fatal."""
        from api.client import ApiError, ClientError

        name = str(_at(task, "metadata", "name"))
        if name in self._seen or not _has_begun(task):
            return
        self._seen.add(name)
        printer = _Printer(self._session, name if self._prefix else "", len(self._seen))
        try:
            await _copy(self._client, self._namespace, name, self._wanted, printer)
        except ApiError as error:
            self._session.output.warning(f"{name}: {refusal(error).message}")
        except ClientError as error:
            raise CtlError(str(error)) from error


def _has_begun(task: dict[str, object]) -> bool:
    return str(_at(task, "status", "state") or "New") not in _NOT_YET


def _at(obj: dict[str, object], *path: str) -> object:
    value: object = obj
    for name in path:
        value = value.get(name, "") if isinstance(value, dict) else ""
    return value


class _Printer:
    """Bytes as they come, or whole lines behind the task's name."""

    def __init__(self, session: Session, name: str, number: int) -> None:
        colour = _COLOURS[number % len(_COLOURS)]
        shown = paint(name, colour, on=session.output.colour)
        self._prefix = f"{shown} | ".encode() if name else b""
        self._rest = b""

    def write(self, data: bytes) -> None:
        if not self._prefix:
            self._out(data)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._out(b"".join(self._prefix + line + b"\n" for line in lines))

    def end(self) -> None:
        if self._rest:
            self._out(self._prefix + self._rest + b"\n")
            self._rest = b""

    def _out(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
