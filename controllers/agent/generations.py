"""Files that change while their readers run: all of them at once, or none.

    tree/db            → ..data/0        what a container sees at /run/secrets/db
    tree/app/tls       → ../..data/1
    tree/..data        → ..4             replaced by one rename, which is the change
    tree/..4/0, tree/..4/1/tls.key, …    the files, with owner and mode

A file or directory of a generation never changes. Who opened one before the change reads it to its
end, so an old generation isn't overwritten while somebody has it open. It is left where it was for
a moment, for readers who are just on their way to it, and then moved out of the containers' sight.
Whatever else is found beside the current generation is of an agent that was killed in a swap.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from controllers.agent.shred import shred, unread

CURRENT = "..data"
_NEXT = "..next"  # becomes CURRENT
_ASIDE = "aside"  # beside the tree, which alone is bound into the container


class Content(Protocol):
    """A file, or a directory of files."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """By name in the directory; "" for one that is a file."""

    def put(self, at: Path) -> None:
        """Write it. Raises OSError."""


def reserved(name: str) -> bool:
    """Whether the first part of a path in a tree is ours."""
    return name.startswith("..")


def link(tree: Path, at: Path, name: str) -> None:
    """Let `at`, in the tree, lead to that content of the current generation."""
    depth = len(at.relative_to(tree).parts) - 1
    at.symlink_to("/".join([*[".."] * depth, CURRENT, name]))


def swap(tree: Path, contents: Mapping[str, Content]) -> bool:
    """Make these the current generation; False: they are it already. Raises OSError."""
    before = _current(tree)
    if before is not None and all(_is(before / name, contents[name]) for name in contents):
        return False
    numbers = [int(each.name[2:]) for each in _generations(tree)]
    new = tree / f"..{max(numbers, default=0) + 1}"
    new.mkdir()
    new.chmod(0o755)
    for name, content in contents.items():
        content.put(new / name)
    following = tree / _NEXT
    following.unlink(missing_ok=True)
    following.symlink_to(new.name)
    following.replace(tree / CURRENT)
    return True


def tidy(tree: Path) -> bool:
    """Remove what is not of the current generation; False: somebody still reads of it.

    Raises OSError.
    """
    aside = tree.parent / _ASIDE
    current = _current(tree)
    for old in _generations(tree):
        if old != current:
            aside.mkdir(mode=0o700, exist_ok=True)
            old.rename(aside / old.name[2:])
    if not aside.is_dir():
        return True
    for folder, _, names in os.walk(aside):
        for name in names:
            if unread(Path(folder) / name):
                shred(Path(folder) / name)
    if any(names for _, _, names in os.walk(aside)):
        return False
    shutil.rmtree(aside)
    return True


def _current(tree: Path) -> Path | None:
    try:
        return tree / (tree / CURRENT).readlink()
    except FileNotFoundError:
        return None


def _generations(tree: Path) -> list[Path]:
    if not tree.is_dir():
        return []
    return [each for each in tree.iterdir() if reserved(each.name) and each.name[2:].isdecimal()]


def _is(at: Path, content: Content) -> bool:
    """Whether that is what is there."""
    files = content.files
    if set(files) == {""}:
        return at.is_file() and at.read_bytes() == files[""]
    if not at.is_dir() or {each.name for each in at.iterdir()} != set(files):
        return False
    return all((at / name).read_bytes() == data for name, data in files.items())
