"""Starting `skepd` on this machine, in the background, for `ctl init` and `ctl join`."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from api.ctl.errors import CtlError, TimedOut

HOME = "/var/lib/skep"
_POLL = 0.1  # seconds
_LAST_LINES = 12


class Daemon:
    """`name` is manager or agent; its data is in `home`/name, its log in `home`/log."""

    def __init__(self, name: str, home: Path, arguments: Sequence[str] = ()) -> None:
        self.name = name
        self.data_dir = home / name
        self.log = home / "log" / f"{name}.log"
        self._arguments = [name, "--data-dir", str(self.data_dir), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> str:
        """What a person would type."""
        return shlex.join(["skepd", *self._arguments])

    def owner(self) -> str:
        """The pid of the daemon that runs on the data directory; empty where none does."""
        try:
            handle = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(handle, 20, 0).decode().strip() or "unknown"
        finally:
            os.close(handle)
        return ""

    def start(self) -> int:
        """Start it, apart from this program's terminal; its pid. Raises CtlError."""
        try:
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                    [sys.executable, "-m", "controllers", *self._arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd="/",
                )
        except OSError as error:
            raise CtlError(f"skepd {self.name} can't be started: {error}") from error
        return self._process.pid

    def until(self, reached: Callable[[], bool], what: str, limit: float) -> None:
        """Raises CtlError with its last words where it ends, TimedOut where it takes too long."""
        end = time.monotonic() + limit
        while not reached():
            if self._process is not None and self._process.poll() is not None:
                raise CtlError(
                    f"skepd {self.name} has ended:\n{self.last_words()}", f"its log is {self.log}"
                )
            if time.monotonic() > end:
                raise TimedOut(f"{what}: not within {limit:g} s", f"its log is {self.log}")
            time.sleep(_POLL)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return "\n".join(f"  {line}" for line in lines)
