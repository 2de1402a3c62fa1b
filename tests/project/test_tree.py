"""The tree as anyone clones it: nothing of the machine it was made on, scripts that explain."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE = {"__pycache__", "build", "dist"}  # and hidden directories, of git's and of tools
COMMON = {"/", "/usr", "/usr/local", "/root", "/home", "/tmp", "/var", "/opt"}


def files() -> Iterator[Path]:
    for directory, below, names in os.walk(ROOT):
        below[:] = [
            name for name in below if name not in MADE and (name[0] != "." or name == ".ci")
        ]
        yield from (Path(directory) / name for name in names)


def here() -> set[str]:
    """What names this machine: where the tree and Python are, and where packages come from."""
    found = {str(ROOT), sys.base_prefix, f"{Path.home()}/"}
    found |= {value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_"))}
    return {
        text
        for text in found
        if text.rstrip("/") not in COMMON and len(text) > 4 and not text.isalnum()
    }


def test_no_file_names_the_machine_it_was_made_on() -> None:
    told = here()
    for path in files():
        content = path.read_bytes().decode(errors="replace")
        named = [text for text in told if text in content]
        assert not named, f"{path.relative_to(ROOT)} names {named}"


SCRIPTS = [
    path for path in files() if path.is_relative_to(ROOT / "hack") and os.access(path, os.X_OK)
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_parses_and_says_what_it_is_for(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("#!")
    assert second.startswith(("# ", '"""')), "say what it is for in the second line"
    if "bash" in first:
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_directory_of_tests_is_a_package() -> None:
    for path in files():
        if path.is_relative_to(ROOT / "tests") and path.suffix == ".py":
            assert (path.parent / "__init__.py").exists(), path.parent


def test_no_work_is_left_for_later() -> None:
    """A note to oneself is work that is not done."""
    marks = ["# TO" + "DO", "# FIX" + "ME"]
    for path in files():
        if path.suffix == ".py":
            found = [mark for mark in marks if mark in path.read_text()]
            assert not found, f"{path.relative_to(ROOT)}: {found}"
