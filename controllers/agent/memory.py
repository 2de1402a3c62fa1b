"""The node's secrets are kept in memory: a tmpfs of the agent's own.

Mounted without swap where the kernel knows how (6.4 and later; where it doesn't and the machine
swaps, `mount` says so), never executable, readable by root alone. It outlives the agent, since the
containers that use it do, and is gone when the machine stops.
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


def mount(path: Path) -> str:
    """Make `path` a tmpfs, if it isn't one already. Raises NotInMemory.

    What it says is what an operator should know of it; mostly nothing.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_tmpfs(path):
            try:
                _mount(path, _OPTIONS + ",noswap")
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                _mount(path, _OPTIONS)
        return _warning(path)
    except OSError as error:
        raise NotInMemory(
            f"secrets are kept in memory only, and no tmpfs can be mounted at {path} "
            f"({error.strerror}); run the agent as root with CAP_SYS_ADMIN, "
            "or mount a tmpfs there yourself"
        ) from error


def _warning(path: Path) -> str:
    swaps = [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    if not swaps or b"noswap" in _options(path).split(b","):
        return ""
    return (
        f"secrets may be written to swap ({', '.join(swaps)}): the tmpfs at {path} is mounted"
        " without noswap, which needs Linux 6.4; encrypt the swap, or turn it off"
    )


def unmount(path: Path) -> None:
    """Undo `mount`; nothing where there is none. Raises OSError where it is in use."""
    if is_tmpfs(path):
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.umount2(os.fsencode(path), 0), path)


def is_tmpfs(path: Path) -> bool:
    """Whether what is mounted at exactly this path is a tmpfs."""
    return _mounted(path)[0] == b"tmpfs"


def _options(path: Path) -> bytes:
    """Of the file system itself that is mounted there."""
    return _mounted(path)[1]


def _mounted(path: Path) -> tuple[bytes, bytes]:
    """Type and options of the file system that is mounted at exactly this path."""
    wanted = os.fsencode(path.resolve())
    found = b"", b""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields, _, filesystem = line.partition(b" - ")
        if _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), fields.split()[4]) == wanted:
            kind, _, options = filesystem.split()  # the last one is on top
            found = kind, options
    return found


def _mount(path: Path, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.mount(b"skep", os.fsencode(path), b"tmpfs", _FLAGS, options.encode()), path)


def _check(result: int, path: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
