"""What a simulated container's command does, as far as it is understood.

    sleep N   echo WORDS   true   false   exit N   cat   read   stty size   wait
    tail /dev/zero         takes memory without end
    trap '' TERM           doesn't end when told to
    trap 'exit N' TERM     ends with this code when told to

alone or in `sh -c "…; …"`, where `&` is a `;` and `echo … >&2` goes to stderr. Anything else runs
until it is stopped.
"""

from __future__ import annotations

import functools
import shlex

import msgspec

KILLED, TERMINATED = 137, 143


class Print(msgspec.Struct, frozen=True):
    stream: int
    data: bytes


class Sleep(msgspec.Struct, frozen=True):
    seconds: float


class Exit(msgspec.Struct, frozen=True):
    code: int


class Forever(msgspec.Struct, frozen=True):
    """Runs until it is stopped."""


class Copy(msgspec.Struct, frozen=True):
    """Prints its input, and ends with it."""


class Read(msgspec.Struct, frozen=True):
    """Waits for a line of input."""


class Size(msgspec.Struct, frozen=True):
    """Prints the terminal's rows and columns."""


class Devour(msgspec.Struct, frozen=True):
    """Takes memory without end."""


Step = Print | Sleep | Exit | Forever | Copy | Read | Size | Devour


class Program(msgspec.Struct, frozen=True):
    steps: tuple[Step, ...]
    exit_code: int = 0  # where no `exit` says another
    stop_code: int | None = TERMINATED  # when told to stop; None: it does not listen


class Course(msgspec.Struct, frozen=True):
    """How a program goes that nobody talks to."""

    prints: tuple[tuple[float, Print], ...]  # seconds from its start
    seconds: float | None  # None: for ever
    exit_code: int
    stop_code: int | None
    oom: bool = False


def course(command: list[str], *, limited: bool = False) -> Course:
    """`limited`: its memory has a limit."""
    return _course(tuple(command), limited)


@functools.lru_cache(maxsize=4096)
def _course(command: tuple[str, ...], limited: bool) -> Course:
    program = parse(command)
    prints: list[tuple[float, Print]] = []
    seconds = 0.0
    for step in program.steps:
        match step:
            case Print():
                prints.append((seconds, step))
            case Sleep():
                seconds += step.seconds
            case Exit():
                return Course(tuple(prints), seconds, step.code, program.stop_code)
            case Devour() if limited:
                return Course(tuple(prints), seconds, KILLED, program.stop_code, oom=True)
            case Forever() | Devour():
                return Course(tuple(prints), None, 0, program.stop_code)
            case Copy() | Read() | Size():
                pass  # nothing to read, no terminal
    return Course(tuple(prints), seconds, program.exit_code, program.stop_code)


def parse(command: tuple[str, ...]) -> Program:
    if len(command) == 3 and command[0] in ("sh", "/bin/sh") and command[1] == "-c":
        try:
            return _program(_commands(command[2]))
        except ValueError:
            return Program((Print(2, b"sh: syntax error\n"), Exit(2)))
    return _program([list(command)] if command else [["forever"]])


def _commands(text: str) -> list[list[str]]:
    """A script's commands, in words. Raises ValueError."""
    lexer = shlex.shlex(text.replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in (";", "&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def _program(commands: list[list[str]]) -> Program:
    steps: list[Step] = []
    exit_code, stop_code = 0, TERMINATED
    listens = True
    for command in commands:
        exit_code = 0
        match command:
            case ["echo", *words, ">&", "2"]:
                steps.append(Print(2, " ".join(words).encode() + b"\n"))
            case ["echo", *words]:
                steps.append(Print(1, " ".join(words).encode() + b"\n"))
            case ["sleep", number] if number.replace(".", "", 1).isdigit():
                steps.append(Sleep(float(number)))
            case ["false"]:
                exit_code = 1
            case ["true" | "wait"]:
                pass
            case ["exit", number] if number.isdigit():
                steps.append(Exit(int(number)))
            case ["cat"]:
                steps.append(Copy())
            case ["read", *_]:
                steps.append(Read())
            case ["stty", "size"]:
                steps.append(Size())
            case ["tail", "/dev/zero"]:
                steps.append(Devour())
            case ["trap", "", "TERM"]:
                listens = False
            case ["trap", action, "TERM"] if action.removeprefix("exit ").isdigit():
                listens, stop_code = True, int(action.removeprefix("exit "))
            case _:
                steps.append(Forever())
    return Program(tuple(steps), exit_code, stop_code if listens else None)
