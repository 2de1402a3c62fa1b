"""Where words go: data on stdout, messages on stderr; colour only where a person looks.

A stream is coloured when it is a terminal and NO_COLOR is not set (https://no-color.org).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import IO, Any

import click

from api.ctl.table import clean

# What a state, status, condition or event type is painted, wherever it stands.
_COLOURS: dict[str, str] = {
    "Running": "green",
    "Ready": "green",
    "Available": "green",
    "Active": "green",
    "True": "green",
    "healthy": "green",
    "Complete": "cyan",
    "New": "yellow",
    "Pending": "yellow",
    "Assigned": "yellow",
    "Accepted": "yellow",
    "Preparing": "yellow",
    "Starting": "yellow",
    "Terminating": "yellow",
    "drain": "yellow",
    "pause": "yellow",
    "Unknown": "yellow",
    "Warning": "yellow",
    "Failed": "red",
    "Rejected": "red",
    "Orphaned": "red",
    "NotReady": "red",
    "unhealthy": "red",
    "Shutdown": "bright_black",
}
_PAINTED = frozenset({"STATUS", "STATE", "TYPE", "AVAILABILITY", "CONDITION", "HEALTH", "DESIRED"})


def colours(stream: IO[Any]) -> bool:
    return not os.environ.get("NO_COLOR") and is_terminal(stream)


def is_terminal(stream: IO[Any]) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def paint(text: str, colour: str, *, on: bool) -> str:
    return click.style(text, fg=colour) if on and colour else text


class Output:
    """The two streams of this run."""

    def __init__(self) -> None:
        self.terminal = is_terminal(sys.stdout)
        self.colour = colours(sys.stdout)
        self.message_colour = colours(sys.stderr)

    @property
    def width(self) -> int | None:
        """Of the terminal that data goes to, None where it is none."""
        return shutil.get_terminal_size().columns if self.terminal else None

    def data(self, text: str = "", *, end: str = "\n") -> None:
        """One piece of data, written at once so that a pipe sees it when it happens."""
        sys.stdout.write(text + end)
        sys.stdout.flush()

    def lines(self, lines: Iterable[str]) -> None:
        joined = "".join(f"{line}\n" for line in lines)
        if joined:
            self.data(joined, end="")

    def note(self, text: str) -> None:
        """A message for a person."""
        sys.stdout.flush()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def warning(self, text: str) -> None:
        self.note(f"{paint('warning:', 'yellow', on=self.message_colour)} {clean(text)}")

    def error(self, text: str, hint: str = "") -> None:
        self.note(f"{paint('error:', 'red', on=self.message_colour)} {clean(text)}")
        if hint:
            self.note(f"  {hint}")

    def cell(self, header: str, cell: str) -> str:
        """A table's cell in its colour."""
        if not self.colour or header not in _PAINTED:
            return cell
        return paint(cell, _COLOURS.get(cell.split(" ", 1)[0], ""), on=True)

    def bold(self, text: str) -> str:
        return click.style(text, bold=True) if self.colour else text

    def state(self, word: str) -> str:
        """A state's word in its colour."""
        return paint(word, _COLOURS.get(word, ""), on=self.colour)
