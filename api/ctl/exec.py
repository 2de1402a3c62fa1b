"""`ctl exec`: a command in a task's container, with this terminal if it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import tty as terminal_modes
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from api.ctl import tasks
from api.ctl.errors import CtlError, Ended, Usage
from api.ctl.output import is_terminal
from api.ctl.session import Session, verb
from api.ctl.suggestions import names_of

if TYPE_CHECKING:
    from api.client import Client, Pipe

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3
_CHUNK = 32 * 1024


class _Exec(click.Command):
    """Options end where the command begins: after `--`, else after the task's name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_interspersed_args = "--" in args
        return super().parse_args(ctx, args)


@verb("exec", cls=_Exec)
@click.option("-i", "--stdin", "wants_input", is_flag=True, help="Pass stdin on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal; this must be one.")
@click.argument(
    "what", metavar="TASK|service/NAME", shell_complete=names_of("task", slashed="service")
)
@click.argument("words", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    session: Session, wants_input: bool, tty: bool, what: str, words: tuple[str, ...]
) -> None:
    """Run a command in a task's container; of a service, in its newest running task.

    Ends with the command's exit code.

    \b
    ctl exec web-1-x7k2p -- cat /etc/hosts
    ctl exec -it service/web -- sh
    """
    if tty and not is_terminal(sys.stdin):
        raise Usage("-t needs a terminal, and stdin is none", "leave -t away")
    namespace = session.namespace

    async def work(client: Client) -> int:
        task = await tasks.running(client, namespace, what)
        piped = client.exec(namespace, task, words, tty=tty, stdin=wants_input)
        async with piped as pipe:
            return await _talk(pipe, tty=tty, wants_input=wants_input)

    with _raw_terminal(on=tty and wants_input):
        code = session.run(work)
    raise Ended(code)


async def _talk(pipe: Pipe, *, tty: bool, wants_input: bool) -> int:
    """Pass bytes both ways until the command ends; its exit code. Raises CtlError."""
    loop = asyncio.get_running_loop()
    sizes = asyncio.Event()
    feeding: list[asyncio.Task[None]] = []
    if wants_input:
        feeding.append(asyncio.create_task(_feed(pipe)))
    if tty:
        sizes.set()
        loop.add_signal_handler(signal.SIGWINCH, sizes.set)
        feeding.append(asyncio.create_task(_resize(pipe, sizes)))
    try:
        async for channel, data in pipe.frames():
            if channel == _STATUS:
                return _exit_code(json.loads(data))
            stream = sys.stderr if channel == _STDERR else sys.stdout
            stream.buffer.write(data)
            stream.buffer.flush()
    finally:
        if tty:
            loop.remove_signal_handler(signal.SIGWINCH)
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)
    raise CtlError("the connection to the container broke off before the command ended")


async def _feed(pipe: Pipe) -> None:
    """Stdin, until it ends."""
    while data := await _input(sys.stdin.fileno()):
        await pipe.send(_STDIN, data)
    await pipe.end_input()


async def _input(handle: int) -> bytes:
    """The next bytes, none at the end. No thread waits for them: it would hold up our own end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        # At once, or it would be told again after the read below, and the next read would block.
        loop.remove_reader(handle)
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(handle, readable)
    except (PermissionError, ValueError):  # a plain file is always ready
        return await asyncio.to_thread(os.read, handle, _CHUNK)
    try:
        await ready
    finally:
        loop.remove_reader(handle)
    return os.read(handle, _CHUNK)


async def _resize(pipe: Pipe, changed: asyncio.Event) -> None:
    while True:
        await changed.wait()
        changed.clear()
        # Not shutil's: that takes COLUMNS and LINES, where a shell exports them, for the truth.
        size = os.get_terminal_size(sys.stdin.fileno())
        await pipe.resize(size.columns, size.lines)


def _exit_code(status: dict[str, Any]) -> int:
    """Of the Status that ends an exec. Raises CtlError where nothing could be run."""
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise CtlError(str(status.get("message") or "the command could not be run"))


@contextlib.contextmanager
def _raw_terminal(*, on: bool) -> Iterator[None]:
    """Each key goes to the container; afterwards the terminal is as it was."""
    if not on:
        yield
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        # Not TCSAFLUSH, the default, which throws away what was typed ahead.
        terminal_modes.setraw(handle, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
