"""Tables for people: aligned columns that fit the terminal they are shown on.

Without a width (a pipe, a file) nothing is cut. On a terminal the columns that may shrink give
way, the widest first, down to a width where they still say something; if that is not enough,
lines are left to wrap. Control characters never reach a terminal: messages come from containers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

GAP = "   "
LEAST = 12  # characters a shrunken column keeps

Paint = Callable[[str, str], str]  # (header, cell) → cell, with colour


def clean(text: str) -> str:
    """One line of printable text: escapes, newlines and other controls made visible or spaces."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else (" " if char.isspace() else repr(char)[1:-1])
        for char in text
    )


def width(text: str) -> int:
    """How many terminal cells it takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, cells: int) -> str:
    """At most `cells` wide, with … where something is missing."""
    if width(text) <= cells:
        return text
    if text.isascii():
        return text[: cells - 1] + "…"
    from rich.cells import set_cell_size

    return set_cell_size(text, cells - 1).rstrip() + "…"


@dataclass
class Table:
    """Columns whose widths only grow, so that rows of a watch stay under their headers."""

    headers: Sequence[str]
    shrinks: frozenset[str] = frozenset()
    terminal: int | None = None  # its width; None: not a terminal
    paint: Paint = lambda header, cell: cell
    widths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.widths = [width(header) for header in self.headers]

    def lines(self, rows: Sequence[Sequence[str]], *, header: bool = True) -> list[str]:
        """The rows as lines, without trailing spaces."""
        cleaned = [[clean(cell) for cell in row] for row in rows]
        for row in cleaned:
            self.widths = [max(w, width(cell)) for w, cell in zip(self.widths, row, strict=True)]
        fitted = self._fit()
        lines = [self._line(self.headers, fitted)] if header else []
        return lines + [self._line(row, fitted, self.paint) for row in cleaned]

    def _fit(self) -> list[int]:
        """The widths, with those that shrink cut to the terminal."""
        fitted = list(self.widths)
        if self.terminal is None:
            return fitted
        least = {
            i: max(LEAST, width(header))
            for i, header in enumerate(self.headers)
            if header in self.shrinks
        }
        over = sum(fitted) + len(GAP) * (len(fitted) - 1) - self.terminal
        while over > 0:
            able = [i for i in least if fitted[i] > least[i]]
            if not able:
                break
            widest = max(able, key=lambda i: fitted[i])
            others = [fitted[i] for i in able if i != widest]
            # Down to the next widest in one step, so that a long message costs no loop a cell.
            floor = max(least[widest], *others) if others else least[widest]
            step = min(over, max(1, fitted[widest] - floor))
            fitted[widest] -= step
            over -= step
        return fitted

    def _line(self, row: Sequence[str], fitted: list[int], paint: Paint | None = None) -> str:
        parts = []
        for header, cell, cells in zip(self.headers, row, fitted, strict=True):
            short = cut(cell, cells)
            pad = " " * (cells - width(short))
            parts.append((paint(header, short) if paint else short) + pad)
        return GAP.join(parts).rstrip()
