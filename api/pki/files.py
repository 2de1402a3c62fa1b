"""Files that hold keys: whole or not there, and never readable by others, not for a moment.

A file is made under another name with its final mode, filled, synced and renamed into place. So
a crash leaves the old file or the new one, and a reader never sees half a key.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from api.pki.errors import PkiError


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read (0600), atomically. Raises OSError."""
    write_whole(path, text, 0o600)


def write_public(path: Path, text: str) -> None:
    """Write a file that all can read (0644), atomically. Raises OSError."""
    write_whole(path, text, 0o644)


def write_whole(path: Path, text: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a file with that mode, of that user and group or ours, atomically. Raises OSError."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)  # whatever the umask made of it
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def make_private_directory(path: Path) -> None:
    """Make the directory, 0700, where there is none. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def read_private(path: Path) -> str:
    """The text of a key file. Raises PkiError where others could have read or changed it."""
    try:
        with path.open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise PkiError(
                    f"{path} is open to other users (mode {mode:04o}), so its key can't be"
                    f" trusted any more; if nobody read it, run: chmod 600 {path}"
                )
            return file.read()
    except FileNotFoundError:
        raise PkiError(f"{path} does not exist") from None
    except OSError as error:
        raise PkiError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise PkiError(f"{path} is not a PEM file") from None


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
