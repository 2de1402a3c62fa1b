"""The reader's age identities, from where SOPS takes them.

SOPS_AGE_KEY (their text), SOPS_AGE_KEY_FILE, and sops/age/keys.txt in the user's configuration; all
of those that are there. They stay in memory, and in no message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pyrage

from api.sops.errors import SopsError

_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 — how one begins
_MOST_BYTES = 1_000_000


class Identities(NamedTuple):
    """`sources` says where they came from, for messages."""

    keys: list[pyrage.x25519.Identity]
    sources: list[str]

    @property
    def recipients(self) -> list[str]:
        """What they open: public."""
        return [str(key.to_public()) for key in self.keys]


def find(environment: Mapping[str, str] = os.environ) -> Identities:
    """Raises SopsError where one that was named can't be read."""
    keys: list[pyrage.x25519.Identity] = []
    sources: list[str] = []
    if text := environment.get("SOPS_AGE_KEY"):
        keys += _parsed(text, "SOPS_AGE_KEY")
        sources.append("SOPS_AGE_KEY")
    if named := environment.get("SOPS_AGE_KEY_FILE"):
        keys += _read(Path(named), f"SOPS_AGE_KEY_FILE ({named})")
        sources.append(named)
    usual = _usual(environment)
    if usual.exists():
        keys += _read(usual, str(usual))
        sources.append(str(usual))
    return Identities(keys, sources)


def _usual(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CONFIG_HOME")
    home = Path(environment.get("HOME") or Path.home())
    return (Path(base) if base else home / ".config") / "sops" / "age" / "keys.txt"


def _read(path: Path, name: str) -> list[pyrage.x25519.Identity]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode()
    except OSError as error:
        raise SopsError(f"{name} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SopsError(f"{name} is not a file of age identities") from None
    return _parsed(text, name)


def _parsed(text: str, name: str) -> list[pyrage.x25519.Identity]:
    """Identities of other sorts (plugins', SSH keys) are not taken."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip().startswith(_SECRET):
            continue
        try:
            found.append(pyrage.x25519.Identity.from_str(line.strip()))
        except pyrage.IdentityError:
            raise SopsError(
                f"line {number} of {name} is no age identity: was it cut off?"
            ) from None
    return found
