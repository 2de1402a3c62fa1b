"""The operator's file of providers: read, checked, and said wherever it is wrong.

It belongs to the machine, not to the cluster: whoever may write secrets can name a provider, and
can neither define one nor give it another credential. The file may be changed while the manager
runs; one that is wrong then is said, and the last good one stays.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import structlog
import yaml

from api.schema.files import DIRECTORY
from api.schema.problem import Problem
from api.types.meta import Struct
from api.types.quantity import parse_duration

SCHEMA = DIRECTORY.parent / "manager" / "providers.json"
PLACE = "{namespace}"  # in a prefix or directory: of the secret that asks
_MOST_TIMEOUT = 60.0  # seconds
_MOST_BYTES = 1024 * 1024

_log = structlog.get_logger("skep.providers")


class SecretKey(Struct, kw_only=True):
    namespace: str
    name: str
    key: str


class Credential(Struct, kw_only=True):
    """Where a token or secret id is: one of the two."""

    file: str = ""
    secret: SecretKey | None = None


class AppRole(Struct, kw_only=True):
    role_id: str
    secret_id: Credential
    mount: str = "approle"


class VaultServer(Struct, kw_only=True):
    address: str
    mount: str = "secret"
    kv: int = 2
    namespace: str = ""
    prefix: str = ""
    ca: str = ""
    token: Credential | None = None
    app_role: AppRole | None = None


class FileRoot(Struct, kw_only=True):
    directory: str


class Program(Struct, kw_only=True):
    argv: list[str]
    timeout: str = "10s"
    format: str = "json"  # json | text | raw
    key: str = "value"


class Definition(Struct, kw_only=True):
    name: str
    namespaces: list[str]
    shared: bool = False
    vault: VaultServer | None = None
    files: FileRoot | None = None
    command: Program | None = None

    def is_for(self, namespace: str) -> bool:
        return namespace in self.namespaces or "*" in self.namespaces

    @property
    def for_many(self) -> bool:
        return len(set(self.namespaces)) > 1 or "*" in self.namespaces


class ProvidersError(Exception):
    """The file can't be used; everything that is wrong with it is in the text."""


class Definitions:
    """What the file at `path` defines; without one, nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._known: dict[str, Definition] = {}

    def load(self) -> None:
        """Raises ProvidersError."""
        if self._path is not None:
            self._state = _state(self._path)
            self._known = {each.name: each for each in read(self._path)}

    def get(self, name: str, namespace: str) -> Definition | None:
        """The provider of that name, where that namespace may use it. As the file is now."""
        self._look()
        found = self._known.get(name)
        return found if found is not None and found.is_for(namespace) else None

    def _look(self) -> None:
        if self._path is None:
            return
        state = _state(self._path)
        if state == self._state:
            return
        try:
            self.load()
            _log.info("read the providers anew", path=str(self._path), providers=len(self._known))
        except ProvidersError as error:
            _log.error("the providers stay as they were", error=str(error))
            self._state = state


def read(path: Path) -> list[Definition]:
    """Raises ProvidersError, with all that is wrong."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ProvidersError(f"{path} can't be read: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ProvidersError(f"{path} is not a file")
        if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
            raise ProvidersError(
                f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}, owner"
                f" {found.st_uid}): who can change it can run programs as this manager. Look at"
                f" what is in it, then: chown root {path}; chmod 600 {path}"
            )
        text = file.read(_MOST_BYTES)
    return parse(text, str(path))


def parse(text: bytes, name: str) -> list[Definition]:
    """Raises ProvidersError, with all that is wrong."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise ProvidersError(f"{name}{place}: this is no YAML") from None
    from api.schema.words import Wording  # what checks with it takes a tenth of a second to import

    problems = Wording(json.loads(SCHEMA.read_text(encoding="utf-8"))).problems(given)
    found: list[Definition] = []
    if not problems:
        found = msgspec.convert(given["providers"], list[Definition])
        problems = _rules(given["providers"], found)
    if problems:
        lines = [f"{name}: {problem}" for problem in problems]
        raise ProvidersError("\n".join(lines))
    return found


def _rules(given: list[dict[str, Any]], found: list[Definition]) -> list[Problem]:
    """What the schema can't say."""
    problems: list[Problem] = []
    taken: set[str] = set()
    for index, one in enumerate(found):
        path = ("providers", index)
        sorts = [sort for sort in ("vault", "files", "command") if sort in given[index]]
        if len(sorts) != 1:
            message = (
                f"expected one of vault, files and command, got {' and '.join(sorts) or 'none'}"
            )
            problems.append(Problem(path, message))
        if one.name in taken:
            problems.append(Problem((*path, "name"), f"there are two called {one.name}"))
        taken.add(one.name)
        problems += _confined(one, path)
        if one.vault is not None:
            problems += _vault(one.vault, (*path, "vault"))
        if one.command is not None:
            problems += _program(one.command, (*path, "command"))
    return problems


def _confined(one: Definition, path: tuple[str | int, ...]) -> list[Problem]:
    """That one namespace can't read what is another's."""
    if one.shared or not one.for_many:
        return []
    place, where = "", "shared"
    if one.vault is not None:
        place, where = one.vault.prefix, "vault.prefix"
    elif one.files is not None:
        place, where = one.files.directory, "files.directory"
    if PLACE in place.split("/"):
        return []
    message = "is for several namespaces, and nothing keeps what is one's from the others"
    hint = f"put {PLACE} into {where} as a part of its own, or write shared: true"
    if one.command is not None:
        hint = "write shared: true if the program looks at SKEP_NAMESPACE, or all may see all"
    return [Problem((*path, "namespaces"), message, hint)]


def _vault(server: VaultServer, path: tuple[str | int, ...]) -> list[Problem]:
    problems: list[Problem] = []
    if (server.token is None) == (server.app_role is None):
        problems.append(Problem(path, "expected one of token and appRole"))
    credentials = {"token": server.token}
    if server.app_role is not None:
        credentials = {"appRole": server.app_role.secret_id}
    for field, credential in credentials.items():
        if credential is not None and bool(credential.file) == (credential.secret is not None):
            problems.append(Problem((*path, field), "expected one of file and secret"))
    if server.ca and not Path(server.ca).is_file():
        problems.append(Problem((*path, "ca"), f"there is no file {server.ca}"))
    return problems


def _program(program: Program, path: tuple[str | int, ...]) -> list[Problem]:
    problems: list[Problem] = []
    if parse_duration(program.timeout) > _MOST_TIMEOUT:
        problems.append(Problem((*path, "timeout"), f"is over 1m, got {program.timeout}"))
    file = Path(program.argv[0])
    try:
        found = file.stat()
    except OSError as error:
        message = f"{file} can't be run: {error.strerror}"
        return [*problems, Problem((*path, "argv", 0), message, "write its absolute path")]
    if not file.is_absolute():
        problems.append(Problem((*path, "argv", 0), "expected an absolute path"))
    elif not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111:
        problems.append(Problem((*path, "argv", 0), f"{file} is no program"))
    elif found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
        message = f"{file} can be changed by other users, who could run anything as this manager"
        problems.append(Problem((*path, "argv", 0), message, "chown root it, and chmod go-w"))
    return problems


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
