"""Values from files on the manager, below the one directory that its operator has named.

A path names a file, which is one value under the file's name, or a directory, whose files are. Each
step of the way is opened from the one before and without following symbolic links, so that nobody
who can write a path, or put a link into the directory, gets out of it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from controllers.fetcher.contract import MOST_BYTES, FetchError, Wanted
from controllers.fetcher.definitions import PLACE, FileRoot

_STEP = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Files:
    trouble = ""

    def __init__(self, root: FileRoot) -> None:
        self._root = root

    async def fetch(self, wanted: Wanted) -> dict[str, bytes]:
        if wanted.version:
            raise FetchError("files have no versions: remove source.version")
        root = Path(self._root.directory.replace(PLACE, wanted.namespace))
        return await asyncio.to_thread(read_below, root, wanted.path)

    async def close(self) -> None:
        return None


def read_below(root: Path, path: str) -> dict[str, bytes]:
    """Raises FetchError."""
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FetchError(f"its directory can't be opened: {error.strerror}") from None
    name = ""
    try:
        for name in path.split("/") if path else ():
            if name in ("", ".", ".."):
                raise FetchError(f"{path} is no path below its directory")
            below = os.open(name, _STEP, dir_fd=handle)
            os.close(handle)
            handle = below
        return _content(handle, name)
    except OSError as error:
        why = error.strerror
        if error.errno in (40, 20):  # ELOOP; ENOTDIR, which O_NOFOLLOW gives on the way
            why = (
                "not a plain file or directory, or below one that is none (links are not followed)"
            )
        raise FetchError(f"{path} can't be read: {why}") from None
    finally:
        os.close(handle)


def _content(handle: int, name: str) -> dict[str, bytes]:
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return {name: _read(handle, name)}
    if not stat.S_ISDIR(mode):
        raise FetchError(f"{name} is neither a file nor a directory")
    found: dict[str, bytes] = {}
    for each in sorted(os.listdir(handle)):
        if each.startswith("."):
            continue
        try:
            inner = os.open(each, _STEP, dir_fd=handle)
        except OSError:
            continue  # a link, which is nobody's value
        try:
            if stat.S_ISREG(os.fstat(inner).st_mode):
                found[each] = _read(inner, each)
        finally:
            os.close(inner)
        if sum(map(len, found.values())) > MOST_BYTES:
            raise FetchError("its files are too large for a secret")
    return found


def _read(handle: int, name: str) -> bytes:
    parts: list[bytes] = []
    left = MOST_BYTES + 1
    while left > 0 and (part := os.read(handle, min(left, 1 << 16))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise FetchError(f"{name} is too large for a secret")
    return b"".join(parts)
