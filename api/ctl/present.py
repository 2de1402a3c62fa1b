"""Objects as tables: the columns of a kind, for this terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from api.ctl.formats import Format, custom_cells
from api.ctl.output import Output
from api.ctl.table import Table
from api.types.columns import cells, columns
from api.types.kinds import Kind

Document = dict[str, Any]


class KindTable:
    """One kind's table; later rows of a watch keep its columns' places."""

    def __init__(
        self,
        output: Output,
        kind: Kind,
        *,
        wide: bool = False,
        namespaces: bool = False,
        prefix: bool = False,
        without: frozenset[str] = frozenset(),
        instead: Mapping[str, Callable[[Document], str]] | None = None,
    ) -> None:
        """`instead` of what columns show by themselves: cells of who knows more than the object."""
        self._columns = [
            c._replace(cell=_known(instead[c.name])) if instead and c.name in instead else c
            for c in columns(kind.name, wide=wide)
            if c.name not in without
        ]
        self._namespaces = namespaces and kind.namespaced
        # Where several kinds are shown, names say their kind, so that they can be copied.
        self._prefix = f"{kind.name.lower()}/" if prefix else ""
        headers = [column.name for column in self._columns]
        self._table = Table(
            (["NAMESPACE"] if self._namespaces else []) + headers,
            frozenset(c.name for c in self._columns if c.shrinks),
            None if wide else output.width,
            output.cell,
        )

    def lines(self, objects: Sequence[Document], *, header: bool = True) -> list[str]:
        now = datetime.now(UTC)
        return self._table.lines([self._row(obj, now) for obj in objects], header=header)

    def _row(self, obj: Document, now: datetime) -> list[str]:
        row = cells(self._columns, obj, now)
        if self._prefix and self._columns[0].name == "NAME":
            row[0] = self._prefix + row[0]
        if self._namespaces:
            row.insert(0, obj.get("metadata", {}).get("namespace", ""))
        return row


def _known(cell: Callable[[Document], str]) -> Callable[[Any, datetime], str]:
    return lambda obj, _: cell(obj)


class CustomTable:
    """A table of `-o custom-columns`."""

    def __init__(self, output: Output, format: Format) -> None:
        self._format = format
        self._table = Table([header for header, _ in format.columns])

    def lines(self, objects: Sequence[Document], *, header: bool = True) -> list[str]:
        return self._table.lines(
            [custom_cells(self._format, obj) for obj in objects], header=header
        )
