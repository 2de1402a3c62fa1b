"""What `-f` names, read and checked: files, directories, `-` and https URLs.

All problems of all documents come at once, each with its place; a single one ends the verb before
anything is sent.
"""

from __future__ import annotations

import functools
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from api.ctl.errors import CtlError, Invalid, Usage
from api.ctl.session import refusal

if TYPE_CHECKING:
    from api.client import ApiError
    from api.manifest import Document, Loaded
    from api.manifest.sources import Source

_URL_SECONDS = 30.0
_STEP = re.compile(r'\[(\d+)\]|\[("(?:\\.|[^"\\])*")\]|([^.\[\]]+)')


class Given(NamedTuple):
    names: tuple[str, ...]
    recursive: bool


def file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """-f and -R, handed on as `given: Given`."""

    @functools.wraps(function)
    def joined(*args: Any, filename: tuple[str, ...], recursive: bool, **kwargs: Any) -> Any:
        return function(*args, given=Given(filename, recursive), **kwargs)

    for option in (
        click.option("-R", "--recursive", is_flag=True, help="Directories with all below them."),
        click.option(
            "-f",
            "--filename",
            multiple=True,
            metavar="PATH",
            help="A file, a directory, an https URL, or - for stdin; may be repeated.",
        ),
    ):
        joined = option(joined)
    return joined


def load(given: Given, namespace: str) -> Loaded:
    """The documents, all of them valid. Raises Invalid, CtlError, Usage."""
    from api import manifest

    if not given.names:
        raise Usage("name what to read", "-f FILE, -f DIRECTORY, -f - for stdin")
    paths = [name for name in given.names if not _is_url(name)]
    sources: list[Source] = []
    if paths:
        sources += manifest.read_paths(paths, given.recursive, stdin=sys.stdin.buffer)
    sources += [_fetched(name) for name in given.names if _is_url(name)]
    loaded = manifest.load(sources, namespace=namespace, decrypt=_in_the_clear)
    if loaded.problems:
        raise Invalid(_counted(len(loaded.problems)), lines=[str(each) for each in loaded.problems])
    return loaded


def _in_the_clear(text: str, values: list[Any]) -> list[Any] | None:
    """What SOPS encrypted, decrypted with the user's age identities. Raises Undecryptable."""
    if "sops" not in text or not any(isinstance(v, dict) and "sops" in v for v in values):
        return None
    from api.manifest import Undecryptable
    from api.sops import file, identities
    from api.sops.errors import SopsError

    try:
        return file.decrypt(text, values, identities.find)
    except SopsError as error:
        raise Undecryptable(error.message, error.hint, error.document, error.path) from None


def refused(error: ApiError, documents: Sequence[Document]) -> CtlError:
    """The server's refusal of a set, each cause at its place in the manifests."""
    if error.code != 422 or not error.causes:
        return refusal(error)
    lines = []
    for cause in error.causes:
        index = cause.get("index")
        field = str(cause.get("field", ""))
        where = ""
        if isinstance(index, int) and 0 <= index < len(documents):
            document = documents[index]
            field = field.removeprefix(f"items[{index}]").removeprefix(".")
            line, column = document.position(_path(field))
            where = f"{document.source}:{line}:{column}: {document.label}: "
        lines.append(f"{where}{field + ': ' if field else ''}{cause.get('message', '')}")
    return Invalid(_counted(len(lines)), lines=lines)


def _path(field: str) -> tuple[str | int, ...]:
    """`spec.ports[0]` as ("spec", "ports", 0)."""
    return tuple(
        int(index) if index else json.loads(quoted) if quoted else name
        for index, quoted, name in _STEP.findall(field)
    )


def _counted(problems: int) -> str:
    return f"{problems} problem{'s' if problems != 1 else ''}; nothing was written"


def _is_url(name: str) -> bool:
    return "://" in name


def _fetched(url: str) -> Source:
    import http.client
    import urllib.error
    import urllib.request

    from api import manifest

    if not url.startswith("https://"):
        raise Usage(f"{url} is not read: only https URLs are", "save it to a file first")
    try:
        with urllib.request.urlopen(url, timeout=_URL_SECONDS) as answer:  # noqa: S310 — https
            body = io.BytesIO(answer.read(manifest.sources.MAX_BYTES + 1))
    except urllib.error.HTTPError as error:
        error.close()
        raise CtlError(
            f"{url} can't be read: its server answered {error.code} {error.reason}"
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise CtlError(f"{url} can't be read: {getattr(error, 'reason', error)}") from None
    return manifest.read_stream(body, url)
