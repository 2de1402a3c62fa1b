"""`ctl exec`: a command in a task's container, with this terminal if it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
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


@verb("exec", context_settings={"ignore_unknown_options": True})
@click.option("-i", "--stdin", "wants_input", is_flag=True, help="Pass stdin on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal; this must be one.")
@click.argument("what", shell_complete=names_of("task", slashed="service"))
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
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
    """Stdin, until it ends. Reading it must not hold up the process's end, so no thread does."""
    loop = asyncio.get_running_loop()
    handle = sys.stdin.fileno()
    ready = asyncio.Event()
    try:
        loop.add_reader(handle, ready.set)
    except (PermissionError, ValueError):  # a plain file is always ready
        while data := await asyncio.to_thread(os.read, handle, _CHUNK):
            await pipe.send(_STDIN, data)
        await pipe.end_input()
        return
    try:
        while True:
            await ready.wait()
            ready.clear()
            data = os.read(handle, _CHUNK)
            if not data:
                await pipe.end_input()
                return
            await pipe.send(_STDIN, data)
    finally:
        loop.remove_reader(handle)


async def _resize(pipe: Pipe, changed: asyncio.Event) -> None:
    while True:
        await changed.wait()
        changed.clear()
        size = shutil.get_terminal_size()
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
        terminal_modes.setraw(handle)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
