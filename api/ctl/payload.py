"""The bytes of a secret or a config, gathered from a command line.

--from-file [KEY=]PATH      a file's content; a directory gives a key a file
--from-literal KEY=VALUE    the value itself, which the shell's history then keeps
--from-env-file PATH        KEY=VALUE lines
--from-stdin KEY            all of stdin, byte for byte
--prompt KEY                typed twice at the terminal, without showing it
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from api.ctl.errors import CtlError, Usage

_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")


@dataclass(frozen=True)
class Sources:
    """What the options say, in the order of the options above."""

    files: Sequence[str] = ()
    literals: Sequence[str] = ()
    env_files: Sequence[str] = ()
    stdin: str = ""
    prompts: Sequence[str] = ()


def gather(
    sources: Sources,
    *,
    read_stdin: Callable[[], bytes],
    ask: Callable[[str], str],
) -> dict[str, bytes]:
    """All keys and their bytes. Raises Usage, CtlError where a file can't be read."""
    found: dict[str, bytes] = {}

    def add(key: str, value: bytes) -> None:
        require_key(key)
        if key in found:
            raise Usage(f"the key {key!r} is given twice")
        found[key] = value

    for word in sources.files:
        for key, value in _files(word):
            add(key, value)
    for word in sources.literals:
        key, equals, text = word.partition("=")
        if not equals:
            # The word itself may be the secret: it is not repeated.
            raise Usage("--from-literal is not of the form KEY=VALUE")
        add(key, text.encode())
    for word in sources.env_files:
        for key, value in _env_file(Path(word)):
            add(key, value)
    if sources.stdin:
        add(sources.stdin, read_stdin())
    for key in sources.prompts:
        add(key, ask(key).encode())
    if not found:
        raise Usage("there is nothing in it", "give --from-file, --from-stdin, --prompt or another")
    return found


def require_key(key: str) -> None:
    """Raises Usage."""
    if not _KEY.match(key) or key in (".", ".."):
        raise Usage(f"{key!r} is not a key", "write letters, digits, - _ and . only")


def _files(word: str) -> list[tuple[str, bytes]]:
    key, equals, rest = word.partition("=")
    if equals and not rest:
        raise Usage(f"--from-file {word} names no file", "write KEY=PATH or PATH")
    path = Path(rest if equals else word)
    if path.is_dir():
        if equals:
            raise Usage(f"{path} is a directory, so its files give the keys", f"leave out {key}=")
        return [(each.name, read(each)) for each in sorted(path.iterdir()) if each.is_file()]
    return [(key if equals else path.name, read(path))]


def _env_file(path: Path) -> list[tuple[str, bytes]]:
    found = []
    try:
        lines = read(path).decode().splitlines()
    except UnicodeDecodeError:
        raise CtlError(f"{path} is not a text file") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise CtlError(f"{path}:{number}: not of the form KEY=VALUE")
        found.append((key.strip(), value.encode()))
    return found


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CtlError(f"{path} can't be read: {error.strerror or error}") from None


def encoded(data: dict[str, bytes]) -> dict[str, str]:
    """As a secret's `data` and a config's `binaryData` hold it."""
    return {key: base64.b64encode(value).decode("ascii") for key, value in data.items()}


def texts(data: dict[str, bytes]) -> tuple[dict[str, str], dict[str, bytes]]:
    """A config's keys that are text, and those that are not."""
    plain: dict[str, str] = {}
    binary: dict[str, bytes] = {}
    for key, value in data.items():
        try:
            plain[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = value
    return plain, binary
