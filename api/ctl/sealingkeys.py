"""Which key `ctl seal` seals to: a file's, else the newest that the cluster said, lately or now.

What a manager said is kept per context, so that sealing goes on without one. It is asked again
after a day: a key that was replaced early should not be sealed to for a month.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from api.ctl.errors import CtlError, Unreachable, Usage

if TYPE_CHECKING:
    from api.ctl.session import Session
    from api.seal.keyfile import KeyFile

_FRESH = 86_400.0  # seconds
_PATIENCE = 1.0  # seconds for a manager, where what it said before would do


def key_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--key, as `key_file`."""
    option = click.option(
        "--key",
        "key_file",
        default="",
        metavar="FILE",
        help="Seal to the key in a file that `ctl seal key --fetch FILE` wrote; asks no manager.",
    )
    return option(function)


def sealing_keys(session: Session, key_file: str = "") -> KeyFile:
    """The cluster's public keys; warns where the newest has expired. Raises CtlError."""
    found = _from_file(Path(key_file)) if key_file else _known(session)
    from api.seal.errors import SealError

    try:
        newest = found.newest
    except SealError as error:
        raise CtlError(str(error), "repeat it in a moment") from None
    if newest.expired(datetime.now(UTC)):
        session.output.warning(
            f"sealing key {newest.id} expired on {newest.expires:%Y-%m-%d}: what is sealed to it"
            " opens, but a newer one is due; fetch it with `ctl seal key"
            + (f" --fetch {key_file}`" if key_file else "`")
        )
    return found


def known_keys(session: Session, key_file: str = "") -> KeyFile | None:
    """As `sealing_keys` without asking a manager; None where there are none."""
    if key_file:
        return _from_file(Path(key_file))
    return _cached(_cache(session))


def fetch(session: Session) -> KeyFile:
    """From a manager, kept for later. Raises CtlError."""
    return keep(session, session.ask(lambda client: client.sealing_keys()))


def keep(session: Session, keys: KeyFile) -> KeyFile:
    from api.pki.files import make_private_directory, write_private

    path = _cache(session)
    try:
        make_private_directory(path.parent)
        write_private(path, keys.text())
    except OSError as error:
        session.output.note(f"the sealing keys are not kept in {path}: {error.strerror or error}")
    return keys


def _known(session: Session) -> KeyFile:
    path = _cache(session)
    before = _cached(path)
    if before is not None and before.keys and _age(path) < _FRESH:
        return before
    try:
        if before is None:
            return fetch(session)
        return keep(session, session.ask(lambda client: client.sealing_keys(), patience=_PATIENCE))
    except Unreachable as error:
        if before is not None:
            session.output.note(f"no manager answers; using the sealing key of {_day(path)}")
            return before
        hint = "fetch it where one does (ctl seal key --fetch FILE), and use --key FILE here"
        raise Unreachable(f"{error.message}; and no sealing key was fetched before", hint) from None


def _from_file(path: Path) -> KeyFile:
    from api.seal.errors import SealError
    from api.seal.keyfile import parse

    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise CtlError(f"{path} can't be read: {error.strerror or error}") from None
    except SealError as error:
        raise Usage(f"{path}: {error}", "one is written by `ctl seal key --fetch FILE`") from None


def _cached(path: Path) -> KeyFile | None:
    """A file that is damaged is as good as none: it is fetched again."""
    from api.seal.errors import SealError
    from api.seal.keyfile import parse

    try:
        return parse(path.read_bytes())
    except (OSError, SealError):
        return None


def _cache(session: Session) -> Path:
    """By the cluster's authority, not by the context's name: names are used again."""
    base = os.environ.get("XDG_CACHE_HOME")
    directory = Path(base) if base else Path.home() / ".cache"
    digest = hashlib.sha256(session.context.ca.encode()).hexdigest()[:16]
    return directory / "skep" / "sealing" / f"{digest}.json"


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _day(path: Path) -> str:
    return f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}"
