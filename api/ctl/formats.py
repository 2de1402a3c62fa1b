"""`-o`: how objects are printed. Everything but the tables is stable, for scripts.

-o json|yaml          one object as itself, several as a List; of a watch: one document each
-o name               kind/name, a line each
-o jsonpath=TEMPLATE  see api.ctl.jsonpath; several objects are `.items`
-o custom-columns=HEADER:.path,…
-o wide               the table with all columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.ctl.errors import Usage
from api.ctl.jsonpath import Path, Template, path, shown, template

Document = dict[str, Any]

PLAIN = ("wide", "json", "yaml", "name")
CHOICES = (*PLAIN, "jsonpath=TEMPLATE", "custom-columns=HEADER:.path,…")


@dataclass(frozen=True)
class Format:
    """What `-o` says. `name` is "table" where it says nothing."""

    name: str = "table"
    template: Template | None = None
    columns: tuple[tuple[str, Path], ...] = ()
    managed_fields: bool = False  # who manages which field: long, and seldom asked for

    @property
    def table(self) -> bool:
        return self.name in ("table", "wide")


def parse(text: str) -> Format:
    """Raises Usage."""
    if not text:
        return Format()
    name, equals, rest = text.partition("=")
    if name == "jsonpath" and rest:
        return Format(name, template=template(rest))
    if name == "custom-columns" and rest:
        return Format(name, columns=_columns(rest))
    if name in PLAIN and not equals:
        return Format(name)
    raise Usage(f"-o {text} is not an output format", f"it is one of: {', '.join(CHOICES)}")


def _columns(text: str) -> tuple[tuple[str, Path], ...]:
    columns = []
    for part in text.split(","):
        header, colon, where = part.partition(":")
        if not colon or not header or not where:
            raise Usage(
                f"{part!r} is not a column", "write it HEADER:.path, as in NAME:.metadata.name"
            )
        columns.append((header, path(where)))
    return tuple(columns)


def custom_cells(format: Format, obj: Document) -> list[str]:
    """One row of custom columns."""
    return [
        ",".join(shown(value) for value in where.find(obj)) or "<none>"
        for _, where in format.columns
    ]


def object_name(obj: Document) -> str:
    """kind/name, as every verb names an object."""
    return f"{str(obj.get('kind', '?')).lower()}/{obj.get('metadata', {}).get('name', '?')}"


def as_list(objects: Sequence[Document]) -> Document:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}


def render(format: Format, objects: Sequence[Document], *, single: bool) -> str:
    """The objects in a format that is no table. `single`: exactly one was asked for by name."""
    if format.name == "name":
        return "".join(f"{object_name(obj)}\n" for obj in objects)
    if format.template is None and not format.managed_fields:
        objects = [_without_book(obj) for obj in objects]
    content: Any = objects[0] if single and len(objects) == 1 else as_list(objects)
    if format.name == "json":
        return to_json(content) + "\n"
    if format.template is not None:
        return format.template.render(content)
    return to_yaml(content)


def _without_book(obj: Document) -> Document:
    metadata = obj.get("metadata", {})
    if "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


def to_json(content: Any) -> str:
    import json

    return json.dumps(content, indent=2, ensure_ascii=False)


def to_yaml(content: Any) -> str:
    """YAML as people write it: keys in their order, texts of several lines as blocks."""
    import yaml

    # The C emitter is many times faster, where PyYAML was built with it.
    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        block = "\n" in value and not any(line.endswith(" ") for line in value.split("\n"))
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if block else None)

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump(
        content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=2**16
    )
    return dumped
