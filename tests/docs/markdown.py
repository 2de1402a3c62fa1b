"""Fenced blocks of the project's Markdown files, with where they stand.

```sh            a reader types this: it is run
```sh not-run    a reader types this elsewhere (say why beside it)
```yaml          whole objects: they are validated
```console       what a run looked like: `$ ` lines and what they printed
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```(\S*) *(.*)$")


@dataclass(frozen=True)
class Block:
    path: Path
    line: int
    language: str
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README.md, the other pages beside it, those of docs/ and of the manifests."""
    below = (page for room in ("docs", "manifests") for page in (ROOT / room).rglob("*.md"))
    return [*sorted(ROOT.glob("*.md")), *sorted(below)]


def blocks(*paths: Path) -> list[Block]:
    return [block for path in paths or pages() for block in _blocks(path)]


def _blocks(path: Path) -> list[Block]:
    found = []
    inside: tuple[int, str, str, str] | None = None  # line, indent, language, info
    lines: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if inside is None and fence:
            inside = number, fence[1], fence[2], fence[3]
            lines = []
        elif inside is not None and fence and not fence[2]:
            found.append(Block(path, inside[0], inside[2], inside[3], "\n".join(lines) + "\n"))
            inside = None
        elif inside is not None:
            lines.append(line.removeprefix(inside[1]))
    return found
