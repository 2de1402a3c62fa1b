"""How `ctl` ends: one exit code an outcome, drawn once.

    CtlError            1  refused, or went wrong
    ├── Usage           2  the command line makes no sense
    ├── NotFound        3  an object that was named does not exist
    ├── Invalid         4  a manifest is invalid; nothing was written
    ├── Conflict        5  it exists already, or changed meanwhile
    ├── Unreachable     6  no manager answered
    └── TimedOut      124  `wait`, `--wait`: not within the time given

A message says what happened, to which object, and why; `hint` says what to do. `Ended` is no
error: it ends the program with a code, for `exec` (the command's own) and `diff` (1: different).
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    INVALID = 4
    CONFLICT = 5
    UNREACHABLE = 6
    TIMEOUT = 124
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.ERROR: "refused, or went wrong (diff: the cluster differs from the manifests)",
    ExitCode.USAGE: "the command line makes no sense",
    ExitCode.NOT_FOUND: "an object that was named does not exist",
    ExitCode.INVALID: "a manifest is invalid; nothing was written",
    ExitCode.CONFLICT: "it exists already, or changed meanwhile",
    ExitCode.UNREACHABLE: "no manager answered",
    ExitCode.TIMEOUT: "what was waited for did not come in time",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


class CtlError(Exception):
    """Base of what ends a verb with a message on stderr."""

    code: ClassVar[ExitCode] = ExitCode.ERROR

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Usage(CtlError):
    code = ExitCode.USAGE


class NotFound(CtlError):
    code = ExitCode.NOT_FOUND


class Invalid(CtlError):
    """`message` is the last line; the problems themselves are printed before, as `lines`."""

    code = ExitCode.INVALID

    def __init__(self, message: str, hint: str = "", lines: list[str] | None = None) -> None:
        super().__init__(message, hint)
        self.lines = lines or []


class Conflict(CtlError):
    code = ExitCode.CONFLICT


class Unreachable(CtlError):
    code = ExitCode.UNREACHABLE


class TimedOut(CtlError):
    code = ExitCode.TIMEOUT


class Ended(Exception):
    """The program is done, with this exit code and nothing to say."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.exit_code = code
