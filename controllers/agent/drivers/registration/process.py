"""Which process is the engine behind a socket.

The kernel says who listens. Where that is systemd, which opens sockets for others, the engine's pid
file says it; both only if the process is dockerd, and sees the files that we see.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from controllers.agent.drivers.registration.errors import RegistrationError

CONFIGURATION = Path("/etc/docker/daemon.json")
PIDFILE = Path("/var/run/docker.pid")

_PROGRAM = "dockerd"
_RESOLVERS = ("--dns", "--dns-search", "--dns-opt", "--dns-option")
_FOR_OTHERS = 1  # the process that opens sockets for others


class Flags(msgspec.Struct, frozen=True):
    """Of an engine's command line, what matters here."""

    configuration: Path
    configured: bool = False  # the path is on the command line, so the file has to be there
    runtimes: bool = False  # some are on the command line: --add-runtime
    resolvers: bool = False  # they are on the command line: --dns and the like

    @classmethod
    def of(cls, words: Sequence[str], configuration: Path = CONFIGURATION) -> Flags:
        """`configuration` is where it is if the command line doesn't say it."""
        configured, runtimes, resolvers = False, False, False
        for word, following in pairwise([*words, ""]):
            flag, _, value = word.partition("=")
            if flag == "--config-file":
                configuration, configured = Path(value or following), True
            runtimes = runtimes or flag == "--add-runtime"
            resolvers = resolvers or flag in _RESOLVERS
        return cls(configuration, configured, runtimes, resolvers)


class EngineProcess(msgspec.Struct, frozen=True):
    pid: int
    flags: Flags


def find(
    path: Path,
    pidfile: Path = PIDFILE,
    configuration: Path = CONFIGURATION,
    opener: int = _FOR_OTHERS,
) -> EngineProcess:
    """The engine that listens there. Raises RegistrationError."""
    pid = _listener(path)
    if pid == opener:
        pid = _written(pidfile, path)
    program = _program(pid)
    if program != _PROGRAM:
        who = f"{program} (process {pid})" if program else "a process that can't be seen from here"
        raise RegistrationError(
            f"what listens at {path} is {who}, not {_PROGRAM}; this is for a Docker Engine that"
            " runs on this machine"
        )
    if not _same_files(pid):
        raise RegistrationError(
            f"the engine at {path} (process {pid}) sees other files than this command does; run it"
            " where the engine runs, and not in a container"
        )
    return EngineProcess(pid, _flags(pid, configuration))


def _listener(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(path))
        except OSError as error:
            raise RegistrationError(
                f"no engine answers at {path}: {error.strerror}; start it (systemctl start docker)"
            ) from None
        told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _, _ = struct.unpack("3i", told)
    return int(pid)


def _written(pidfile: Path, path: Path) -> int:
    try:
        return int(pidfile.read_text())
    except (OSError, ValueError):
        raise RegistrationError(
            f"which process is the engine behind {path} is not known: systemd listens for it, and"
            f" {pidfile} names no process; start the engine (systemctl start docker)"
        ) from None


def _program(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _same_files(pid: int) -> bool:
    theirs, ours = (Path(f"/proc/{who}/ns/mnt").stat() for who in (pid, "self"))
    return theirs.st_ino == ours.st_ino


def _flags(pid: int, configuration: Path) -> Flags:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    flags = Flags.of(words, configuration)
    path = Path(f"/proc/{pid}/cwd").readlink() / flags.configuration
    return msgspec.structs.replace(flags, configuration=path)
