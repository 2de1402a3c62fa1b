"""The node's secrets are kept in memory: a tmpfs of the agent's own.

Mounted without swap where the kernel knows how (6.4 and later), never executable, readable by
root alone. It outlives the agent, since the containers that use it do, and is gone when the
machine stops.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path

_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_FLAGS = _NOSUID | _NODEV | _NOEXEC
# An upper bound, not taken until used: 2,000 secrets of the greatest size.
_OPTIONS = "size=1g,mode=0700"


_OCTAL = re.compile(rb"\\([0-7]{3})")  # how the kernel writes spaces and such in paths


class NotInMemory(Exception):
    """There is no place in memory for secrets; the text says why and what to do."""


def mount(path: Path) -> None:
    """Make `path` a tmpfs, if it isn't one already. Raises NotInMemory."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_tmpfs(path):
            return
        try:
            _mount(path, _OPTIONS + ",noswap")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _mount(path, _OPTIONS)
    except OSError as error:
        raise NotInMemory(
            f"secrets are kept in memory only, and no tmpfs can be mounted at {path} "
            f"({error.strerror}); run the agent as root with CAP_SYS_ADMIN, "
            "or mount a tmpfs there yourself"
        ) from error


def unmount(path: Path) -> None:
    """Undo `mount`; nothing where there is none. Raises OSError where it is in use."""
    if is_tmpfs(path):
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.umount2(os.fsencode(path), 0), path)


def is_tmpfs(path: Path) -> bool:
    """Whether what is mounted at exactly this path is a tmpfs."""
    wanted = os.fsencode(path.resolve())
    found = False
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, filesystem = line.partition(b" - ")
        if _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields.split()[4]) == wanted:
            found = filesystem.split()[0] == b"tmpfs"  # the last one is on top
    return found


def _mount(path: Path, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.mount(b"skep", os.fsencode(path), b"tmpfs", _FLAGS, options.encode()), path)


def _check(result: int, path: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
