"""From paths to texts: which files are read, in which order, and what is refused unread.

A file that can't be read becomes a source without text and with its problem, so that one bad
file does not hide the problems of the others.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from api.manifest.problem import Fault, Located
from api.schema import Code

MAX_BYTES = 10_000_000  # of one file; a manifest of 10,000 services is some 5 MB
SUFFIXES = (".yaml", ".yml", ".json")

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"


class Source(msgspec.Struct, frozen=True):
    """A text and its name, or the problems that kept it from being read."""

    name: str
    text: str = ""
    problems: tuple[Located, ...] = ()


def read_paths(
    paths: Iterable[str | os.PathLike[str]],
    recursive: bool = False,
    *,
    stdin: BinaryIO | None = None,
    max_bytes: int = MAX_BYTES,
) -> list[Source]:
    """The files named, and of each directory its manifests, sorted by name.

    Of directories: .yaml, .yml and .json; no hidden files, no editors' backups; directories in
    them only if `recursive`. A file that is reached twice is read once. `-` is `stdin`.
    """
    sources: list[Source] = []
    seen: set[tuple[int, int]] = set()
    for given in paths:
        if os.fspath(given) == "-" and stdin is not None:
            sources.append(read_stream(stdin, "stdin", max_bytes=max_bytes))
            continue
        sources += _read_path(Path(given), recursive, seen, max_bytes)
    return sources


def read_stream(stream: BinaryIO, name: str, *, max_bytes: int = MAX_BYTES) -> Source:
    """What a stream gives until its end, or the problem that it is too much."""
    # A raw stream may give less than asked for; go on until it gives nothing.
    parts: list[bytes] = []
    room = max_bytes + 1
    while room > 0 and (part := stream.read(room)):
        parts.append(part)
        room -= len(part)
    return source(name, b"".join(parts), max_bytes=max_bytes)


def source(name: str, data: bytes, *, max_bytes: int = MAX_BYTES) -> Source:
    """A source from bytes: from a file, a URL, a pipe."""
    if len(data) > max_bytes:
        return _too_large(name, max_bytes)
    if data.startswith(_UTF16):
        return _refused(name, "is UTF-16", "save it as UTF-8", line=1)
    if data.startswith(_UTF8_MARK):
        data = data[len(_UTF8_MARK) :]
    if (at := data.find(b"\0")) >= 0:
        message = "holds a NUL byte, which no manifest has"
        return _refused(name, message, "is it a binary file?", line=data.count(b"\n", 0, at) + 1)
    try:
        return Source(name, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = data[: error.start]
        message = f"is not UTF-8: byte 0x{data[error.start]:02x} can't stand here"
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        return _refused(name, message, "save it as UTF-8", line=line, column=column)


def _read_path(
    path: Path, recursive: bool, seen: set[tuple[int, int]], max_bytes: int
) -> Iterator[Source]:
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            yield from _read_file(path, found, seen, max_bytes)
            return
        files = list(_manifests(path, recursive))
    except OSError as error:
        yield _unreadable(str(path), error)
        return
    if not files:
        more = "" if recursive else "; -R looks into the directories in it too"
        message = f"has no manifests ({', '.join(SUFFIXES)}){more}"
        yield _refused(str(path), message, code=Code.REQUIRED)
    for file in files:
        try:
            yield from _read_file(file, file.stat(), seen, max_bytes)
        except OSError as error:
            yield _unreadable(str(file), error)


def _read_file(
    path: Path, found: os.stat_result, seen: set[tuple[int, int]], max_bytes: int
) -> Iterator[Source]:
    if (found.st_dev, found.st_ino) in seen:
        return
    if stat.S_ISREG(found.st_mode):
        seen.add((found.st_dev, found.st_ino))
        if found.st_size > max_bytes:
            yield _too_large(str(path), max_bytes, found.st_size)
            return
    with path.open("rb", buffering=0) as file:
        yield read_stream(file, str(path), max_bytes=max_bytes)


def _manifests(directory: Path, recursive: bool) -> Iterator[Path]:
    """Files in the order of their names, a directory's own before those below it.

    Links to directories are followed; a directory that was seen already (a loop) is not entered
    again.
    """
    entered: set[tuple[int, int]] = set()
    todo = [directory]
    while todo:
        here = todo.pop()
        status = here.stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        entries = sorted(entry for entry in here.iterdir() if not entry.name.startswith("."))
        yield from (
            entry for entry in entries if entry.suffix in SUFFIXES and not entry.is_dir()
            and (entry.is_file() or entry.is_symlink())
        )  # fmt: skip
        if recursive:
            todo.extend(entry for entry in reversed(entries) if entry.is_dir())


def _unreadable(name: str, error: OSError) -> Source:
    reasons = {
        FileNotFoundError: "there is no such file or directory",
        PermissionError: "may not be read: permission denied",
    }
    reason = reasons.get(type(error), f"can't be read: {error.strerror or error}")
    return _refused(name, reason)


def _too_large(name: str, limit: int, size: int | None = None) -> Source:
    how_much = f"is {_megabytes(size)}, and" if size is not None else "is larger than"
    message = f"{how_much} {_megabytes(limit)}"
    if size is not None:
        message += " is the limit for one file"
    else:
        message += ", the limit for one file"
    return _refused(name, message, "split it into several files", code=Code.TOO_LONG)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"


def _refused(
    name: str,
    message: str,
    hint: str = "",
    *,
    line: int = 0,
    column: int = 1,
    code: Code = Code.INVALID,
) -> Source:
    fault = Fault(line, column if line else 0, message, hint, code)
    return Source(name, problems=(fault.located(name),))
