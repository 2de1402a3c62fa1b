"""Manifests with secrets in them: read, changed in place, and what is sealed in them looked at."""

from __future__ import annotations

import os
import secrets as tokens
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from api.ctl.errors import CtlError, Invalid, Usage

if TYPE_CHECKING:
    from api.ctl.session import Session
    from api.seal.manifests import Secret, Splice
    from api.seal.place import Place

_BOM = "\ufeff"


class File(NamedTuple):
    """A manifest's text and the secrets in it. `mark`: it begins with a byte order mark."""

    name: str
    text: str
    mark: bool
    secrets: list[Secret]

    @property
    def path(self) -> Path:
        return Path(self.name)

    def edited(self, splices: list[Splice], meant: Callable[[Any], Any]) -> str:
        """Raises CtlError where anything else would change."""
        from api.seal.errors import SealError
        from api.seal.manifests import edited

        try:
            return edited(self.name, self.text, splices, meant)
        except SealError as error:
            raise CtlError(str(error)) from None

    def write(self, text: str) -> None:
        write(self.path, (_BOM if self.mark else "") + text)


class SealedValue(NamedTuple):
    """A sealed value, where it stands and where it is to open."""

    file: File
    secret: Secret
    place: Place
    text: str

    @property
    def where(self) -> str:
        return f"{self.secret.place(self.place.key)}: secrets/{self.place.name}"


def read(name: str, text: str) -> File:
    """Raises Invalid with every fault of the text."""
    from api.seal.errors import SealError
    from api.seal.manifests import secrets

    mark = text.startswith(_BOM)
    text = text.removeprefix(_BOM)
    try:
        return File(name, text, mark, secrets(name, text))
    except SealError as error:
        raise Invalid(f"{name} was left as it is", lines=str(error).splitlines()) from None


def read_file(path: Path) -> File:
    """Raises CtlError."""
    try:
        return read(str(path), path.read_bytes().decode())
    except OSError as error:
        raise CtlError(f"{path} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CtlError(f"{path} is not UTF-8", "save it as UTF-8") from None


def read_all(paths: Sequence[str], *, recursive: bool) -> list[File]:
    """All manifests of files and directories; those of another format (SOPS') have none of ours.

    Raises Invalid with all that can't be read.
    """
    from api import manifest

    if not paths:
        raise Usage("name what to read", "a FILE, or a DIRECTORY")
    sources = manifest.read_paths(paths, recursive)
    lines = [str(problem) for source in sources for problem in source.problems]
    files = []
    for source in sources:
        if source.problems:
            continue
        try:
            files.append(read_file(Path(source.name)))
        except Invalid as error:
            lines += error.lines
    if lines:
        raise Invalid("nothing was done", lines=lines)
    return files


def sealed_values(session: Session, files: Sequence[File]) -> Iterator[SealedValue]:
    from api.seal.place import Place

    for file in files:
        for secret in file.secrets:
            for key, text in secret.texts("sealed").items():
                place = Place(namespace_of(session, secret), secret.name, key)
                yield SealedValue(file, secret, place, text)


def namespace_of(session: Session, secret: Secret) -> str:
    """Where the secret goes: as it says, else as -n or the context does. Raises Usage."""
    if secret.namespace or session.given_namespace:
        return secret.namespace or session.given_namespace
    try:
        return session.namespace
    except CtlError:
        raise Usage(
            f"{secret.source}:{secret.line}: secrets/{secret.name} names no namespace, and there is"
            " no context to say one",
            "write metadata.namespace, or give -n",
        ) from None


def write(path: Path, text: str) -> None:
    """Whole or not at all, with the mode it had. Raises CtlError."""
    path = path.resolve()
    scratch = path.with_name(f".{path.name}.{tokens.token_hex(4)}")
    try:
        mode = path.stat().st_mode & 0o7777 if path.exists() else None
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CtlError(f"{path} can't be written: {error.strerror or error}") from None
