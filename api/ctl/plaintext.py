"""A warning where secrets in the clear lie in a git repository: what is committed stays in it.

Never an error, and bounded: it looks upwards for `.git`, and asks git once a repository which files
are ignored. Where git doesn't answer, what it would have ignored is warned of, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.ctl.output import Output
    from api.manifest import Document

_DEEPEST = 64  # directories
_SECONDS = 2.0  # for git, which answers in milliseconds


def warn(output: Output, documents: Iterable[Document]) -> None:
    """Say of each file what is in the clear in it, and what to do."""
    names: dict[Path, list[str]] = {}
    for document in documents:
        if _in_the_clear(document) and (path := Path(document.source)).is_file():
            names.setdefault(path, []).append(document.label)
    for path in _in_git(list(names)):
        labels = ", ".join(names[path])
        are = "is" if len(names[path]) == 1 else "are"
        output.warning(
            f"{path}: {labels} {are} in the clear in a git repository, which keeps what is"
            f" committed; seal it: ctl seal -f {path} --in-place (--allow-plaintext: no such"
            " warning)"
        )


def _in_the_clear(document: Document) -> bool:
    """What was decrypted on its way here is not."""
    obj = document.object
    given = obj.get("data") or obj.get("stringData")
    return obj.get("kind") == "Secret" and bool(given) and not document.encrypted


def _in_git(paths: Sequence[Path]) -> list[Path]:
    """Those below a repository that it does not ignore."""
    found: dict[Path, list[Path]] = {}
    for path in paths:
        if (root := _repository(path)) is not None:
            found.setdefault(root, []).append(path)
    warned = set()
    for root, inside in found.items():
        ignored = _ignored(root, inside)
        warned |= {path for path in inside if os.fspath(path.absolute()) not in ignored}
    return [path for path in paths if path in warned]


def _repository(path: Path) -> Path | None:
    for directory in [*path.absolute().parents][:_DEEPEST]:
        try:
            if (directory / ".git").exists():
                return directory
        except OSError:
            return None
    return None


def committed(path: Path) -> str:
    """A file as the last commit has it; empty where there is none."""
    path = path.absolute()
    return _git(path.parent, "cat-file", "blob", f"HEAD:./{path.name}")


def _ignored(root: Path, paths: Sequence[Path]) -> set[str]:
    given = [os.fspath(path.absolute()) for path in paths]
    said = _git(root, "check-ignore", "-z", "--stdin", input="\0".join(given) + "\0")
    return {name for name in said.split("\0") if name}


def _git(directory: Path, *words: str, input: str = "") -> str:
    """What git says; nothing where it is not there, or fails, or hangs."""
    git = shutil.which("git")
    if git is None:
        return ""
    # A repository may come from anybody: it must not name a program for git to run.
    command = [git, "-C", os.fspath(directory), "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(  # noqa: S603 — fixed commands, and no shell
            command, input=input, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return ""
    return done.stdout
