"""The files that are changed: the engine's configuration, and the program of the runtime."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from api.pki.files import write_whole
from controllers.agent.drivers.registration.errors import Malformed, RegistrationError

HOME = Path("/usr/local/libexec/skep")  # stays when skep is updated, or its environment removed
RUNTIME = Path(__file__).parents[2] / "network" / "runtime"


@contextlib.contextmanager
def words_of(path: Path) -> Iterator[None]:
    """Raises RegistrationError for an OSError."""
    try:
        yield
    except OSError as error:
        raise RegistrationError(
            f"{error.filename or path} can't be written: {error.strerror}"
        ) from error


class Configuration:
    """The engine's file. A link to it stays a link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = path.resolve()

    def read(self) -> str | None:
        """None: there is none. Raises RegistrationError."""
        try:
            return self._real.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise RegistrationError(
                f"{self.path} is not text in UTF-8; nothing was changed"
            ) from None
        except OSError as error:
            raise RegistrationError(f"{self.path} can't be read: {error.strerror}") from None

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Raises RegistrationError for Malformed, with the place."""
        try:
            yield
        except Malformed as error:
            place = f"{self.path}:{error.line}:{error.column}" if error.line else str(self.path)
            raise RegistrationError(
                f"{place}: {error}; nothing was changed. Mend it (the engine would not start with"
                " it either), and run this again"
            ) from None

    def write(self, text: str) -> None:
        """With the mode and the owner that it has. Raises OSError."""
        try:
            found = self._real.stat()
        except FileNotFoundError:
            self._real.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._real, text, 0o644)
        else:
            owner = (found.st_uid, found.st_gid)
            write_whole(self._real, text, found.st_mode & 0o7777, owner)

    def put_back(self, text: str | None) -> None:
        if text is None:
            self._real.unlink(missing_ok=True)
        else:
            self.write(text)


class Program:
    """The runtime's, in a directory where only root can change it. Raises OSError."""

    def __init__(self, home: Path) -> None:
        self.path = home / "runtime"
        self._made = home / "made"  # which configuration there was none of, so that we made it

    @property
    def there(self) -> bool:
        return self.path.exists()

    def put(self) -> bool:
        """Have it there as it is in this skep; whether it was not. Raises RegistrationError too."""
        home = self.path.parent
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        for directory in (home, *home.absolute().parents):
            _for_root_only(directory)
        text = RUNTIME.read_text()
        if self.there and self.path.read_text() == text:
            os.chown(self.path, 0, 0)
            self.path.chmod(0o755)
            return False
        had = self.there
        write_whole(self.path, text, 0o755, owner=(0, 0))
        if not os.access(self.path, os.X_OK):
            if not had:
                self.discard()
            raise RegistrationError(
                f"programs can't be run in {home} (it is mounted noexec); give another directory"
                " with --runtime-dir"
            )
        return True

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.forget()
        with contextlib.suppress(OSError):  # it holds something else, or is not there
            self.path.parent.rmdir()

    def remember(self, configuration: Path) -> None:
        """That there was no such file."""
        write_whole(self._made, f"{configuration}\n", 0o644)

    def remembers(self, configuration: Path) -> bool:
        return self._made.exists() and self._made.read_text().strip() == str(configuration)

    def forget(self) -> None:
        self._made.unlink(missing_ok=True)


def _for_root_only(directory: Path) -> None:
    """Raises RegistrationError where others could put something else in its place."""
    found = directory.stat()
    writable = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    if found.st_uid != 0 or writable:
        raise RegistrationError(
            f"others than root can write to {directory}, and so run as root what they like:"
            f" chown root {directory} && chmod go-w {directory}, or another --runtime-dir"
        )
