"""`ctl` as its users run it: in this process where that is enough, as a program, at a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pexpect

from api.ctl.main import main
from tests.cluster.harness import BIN

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


@dataclass(frozen=True)
class Done:
    """What a run of `ctl` ended with."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def rows(self) -> list[list[str]]:
        """The lines of a table, taken apart."""
        return [re.split(r" {3,}", line) for line in self.lines if line]


@dataclass(frozen=True)
class Ctl:
    """Runs of `ctl` with one context file, in one namespace."""

    environment: Mapping[str, str]
    namespace: str = "default"
    bin: Path = BIN / "ctl"
    directory: Path = field(default_factory=Path.cwd)

    def __call__(self, *words: str, stdin: str | bytes = b"", code: int | None = 0) -> Done:
        """Run it in this process; it must end with `code`, unless that is None."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        with _environment(self.environment), _streams(given) as (out, err):
            ended = main(list(words))
        return self._checked(Done(ended, _text(out), _text(err)), words, code)

    def program(
        self,
        *words: str,
        stdin: str = "",
        code: int | None = 0,
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """Run the program, with more environment where some is given."""
        run = subprocess.run(
            [str(self.bin), *words],
            env={**self.environment, **(environment or {})},
            cwd=self.directory,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return self._checked(Done(run.returncode, run.stdout, run.stderr), words, code)

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """The program while it runs, with its stdout to read; killed at the end."""
        with subprocess.Popen(
            [str(self.bin), *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def terminal(
        self, *words: str, size: tuple[int, int] = (40, 120), **more: str
    ) -> Iterator[pexpect.spawn[str]]:
        """The program at a terminal of `size` (lines, columns); killed at the end."""
        environment = {"TERM": "xterm", **self.environment, **more}
        child: pexpect.spawn[str] = pexpect.spawn(
            str(self.bin),
            list(words),
            env=environment,
            dimensions=size,
            timeout=20,
            encoding="utf-8",
        )
        try:
            yield child
        finally:
            child.close(force=True)

    def within(self, namespace: str) -> Ctl:
        return replace(self, namespace=namespace)

    def _checked(self, done: Done, words: tuple[str, ...], code: int | None) -> Done:
        said = f"ctl {' '.join(words)}: {done.code}\n{done.out}\n{done.err}"
        assert code is None or done.code == code, said
        assert "Traceback" not in done.err, said
        assert "in a way it should not" not in done.err, said
        return done


def at_end(child: pexpect.spawn[str]) -> tuple[int | None, str]:
    """Read to the end: the exit code, and all that was shown, without escapes."""
    child.expect(pexpect.EOF)
    shown = ESCAPES.sub("", child.before or "")
    child.close()
    return child.exitstatus, shown


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@contextlib.contextmanager
def _streams(given: bytes) -> Iterator[tuple[Any, Any]]:
    """This process's three streams, exchanged."""
    kept = sys.stdin, sys.stdout, sys.stderr
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    sys.stdin = io.TextIOWrapper(io.BytesIO(given), encoding="utf-8")
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
