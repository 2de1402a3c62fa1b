"""How a client wants objects: as they are, as rows of a table, or only their metadata.

Which one it is stands in the Accept header, in Kubernetes' words. A table's columns are those of
`ctl get` (`api.types.columns`); wide ones have priority 1, and kubectl shows them with `-o wide`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from api.types.columns import Column, cells, columns
from api.types.kinds import Kind
from api.types.meta import API_VERSION

_META: Final = "meta.k8s.io"
_FORMS: Final = {
    "Table": "Table",
    "PartialObjectMetadata": "Partial",
    "PartialObjectMetadataList": "Partial",
}
_INCLUDES: Final = ("Metadata", "Object", "None")


class View(NamedTuple):
    """Objects of one kind seen as another: a task as a pod."""

    api_version: str
    kind: str
    columns: tuple[Column, ...]
    convert: Callable[[bytes], bytes]


class Form(NamedTuple):
    """`form` is Object, Table or Partial; `include` says what a table's rows carry."""

    form: str = "Object"
    include: str = "Metadata"
    view: View | None = None

    @property
    def plain(self) -> bool:
        """Whether objects are served as they are stored."""
        return self.form == "Object" and self.view is None

    def columns_of(self, kind: Kind) -> tuple[Column, ...]:
        return self.view.columns if self.view else columns(kind.name, wide=True)

    def names_of(self, kind: Kind) -> tuple[str, str]:
        """apiVersion and kind."""
        return (self.view.api_version, self.view.kind) if self.view else (API_VERSION, kind.name)


PLAIN: Final = Form()


class _Envelope(msgspec.Struct):
    metadata: msgspec.Raw


def form(accept: str, include: str = "") -> Form:
    """The first form in an Accept header that this server has; what else it names is JSON."""
    if "as=" not in accept:
        return PLAIN
    for part in accept.split(","):
        media, *rest = (piece.strip() for piece in part.split(";"))
        given = dict(piece.partition("=")[::2] for piece in rest)
        if media == "application/json" and "as" not in given:
            return PLAIN
        known = _FORMS.get(given.get("as", "")) if given.get("g") == _META else None
        if media == "application/json" and given.get("v") == "v1" and known:
            return Form(known, include if include in _INCLUDES else "Metadata")
    return PLAIN


def shown(wanted: Form, kind: Kind, served: bytes, now: datetime) -> bytes:
    """One object in the wanted form."""
    if wanted.view is not None:
        served = wanted.view.convert(served)
    if wanted.form == "Object":
        return served
    if wanted.form == "Partial":
        return _partial(served)
    version = msgspec.json.decode(served)["metadata"].get("resourceVersion", "")
    return table(
        wanted.columns_of(kind), [served], now, {"resourceVersion": version}, wanted.include
    )


def listed(
    wanted: Form, kind: Kind, items: Sequence[bytes], metadata: dict[str, str], now: datetime
) -> bytes:
    """A list in the wanted form."""
    if wanted.view is not None:
        items = [wanted.view.convert(item) for item in items]
    if wanted.form == "Object":
        version, name = wanted.names_of(kind)
        head = {"apiVersion": version, "kind": f"{name}List", "metadata": metadata}
        opened = msgspec.json.encode(head)[:-1]
        return b'%b,"items":[%b]}' % (opened, b",".join(items))
    if wanted.form == "Table":
        return table(wanted.columns_of(kind), items, now, metadata, wanted.include)
    partial: dict[str, Any] = {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"{_META}/v1",
        "metadata": metadata,
        "items": [msgspec.Raw(_partial(item)) for item in items],
    }
    return msgspec.json.encode(partial)


def table(
    shown_columns: Sequence[Column],
    items: Iterable[bytes],
    now: datetime,
    metadata: dict[str, str],
    include: str,
) -> bytes:
    body: dict[str, Any] = {
        "kind": "Table",
        "apiVersion": f"{_META}/v1",
        "metadata": metadata,
        "columnDefinitions": [_definition(column) for column in shown_columns],
        "rows": [_row(shown_columns, item, now, include) for item in items],
    }
    return msgspec.json.encode(body)


def _definition(column: Column) -> dict[str, Any]:
    # kubectl makes the words of its header of these: capitals of `Last Seen`.
    return {
        "name": column.name.capitalize(),
        "type": "string",
        "format": "name" if column.name == "NAME" else "",
        "description": column.description or f"{column.name.capitalize()}.",
        "priority": 1 if column.wide else 0,
    }


def _row(
    shown_columns: Sequence[Column], item: bytes, now: datetime, include: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"cells": cells(shown_columns, msgspec.json.decode(item), now)}
    if include == "Object":
        row["object"] = msgspec.Raw(item)
    elif include == "Metadata":
        row["object"] = msgspec.Raw(_partial(item))
    return row


def _partial(item: bytes) -> bytes:
    envelope = msgspec.json.decode(item, type=_Envelope)
    head = {"kind": "PartialObjectMetadata", "apiVersion": f"{_META}/v1"}
    return msgspec.json.encode({**head, "metadata": envelope.metadata})
