"""Removing files so that nothing of them is left in freed pages."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def shred(path: Path) -> None:
    """Overwrite in place and remove; gone already: nothing. Raises OSError."""
    try:
        size = path.lstat().st_size
        if not path.is_symlink():
            with path.open("r+b") as file:
                file.write(bytes(size))
        path.unlink()
    except FileNotFoundError:
        return


def unread(path: Path) -> bool:
    """Whether nobody has the file open or mapped: the kernel grants a write lease to nobody but
    the only one who has. Raises OSError."""
    if path.is_symlink():
        return True
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
