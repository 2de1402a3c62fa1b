"""Secrets in the text of a manifest, and changes of it that leave every other character as it is.

The model: the text is read twice, for what it says (`api.manifest`) and for where it says it (nodes
with their marks). A change is a list of splices of the text. What comes out is read again, and
must say what was meant and nothing else; where it doesn't (an anchor went with a value), the change
is refused, and the file is as it was. A YAML library that writes, also one that keeps comments,
would lay out anew what nobody touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from api import manifest
from api.seal.errors import SealError

SEALED = "sealed"
PLAIN = ("data", "stringData")
_BARE = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[A-Za-z_][-._A-Za-z0-9]*", re.I)


class Uneditable(SealError):
    """The text can't be changed without touching more of it; says how to write it instead."""


class Splice(NamedTuple):
    start: int
    end: int
    text: str


class Entry(NamedTuple):
    """A key and its value. Offsets in the text."""

    key: str
    line: int  # from 1
    column: int
    at: int  # where the key begins
    start: int  # of the value
    end: int


class Block(NamedTuple):
    """`data`, `stringData` or `sealed` of a secret."""

    field: str
    at: int  # where the field's name begins
    name_end: int
    flow: bool
    entries: list[Entry]
    end: int  # of its last value

    def entry(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)


class Secret(NamedTuple):
    """A secret of a manifest: what it says, and where."""

    source: str
    line: int
    column: int  # of its fields, from 0
    object: dict[str, Any]
    flow: bool
    blocks: dict[str, Block]
    end: int  # of its last value

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Empty where it says none."""
        return str(self.object["metadata"].get("namespace") or "")

    def texts(self, field: str) -> dict[str, str]:
        given = self.object.get(field) or {}
        return {key: text for key, text in given.items() if isinstance(text, str)}

    def place(self, key: str, field: str = SEALED) -> str:
        """`file:line:column`, for editors."""
        block = self.blocks.get(field)
        entry = block.entry(key) if block is not None else None
        at = (entry.line, entry.column) if entry is not None else (self.line, 1)
        return f"{self.source}:{at[0]}:{at[1]}"


def secrets(name: str, text: str) -> list[Secret]:
    """All secrets of a manifest that is valid YAML. Raises SealError with every fault of it."""
    loaded = manifest.load([manifest.Source(name, text)], check=lambda _: [])
    if loaded.problems:
        raise SealError("\n".join(map(str, loaded.problems)))
    found = [d for d in loaded.documents if _is_secret(d.object)]
    nodes = {node.start_mark.line + 1: node for node in _nodes(text)} if found else {}
    return [_secret(text, each, nodes) for each in found]


def edited(name: str, text: str, splices: list[Splice], meant: Callable[[Any], Any]) -> str:
    """The text with all of the splices. `meant` says what each object is to be afterwards.

    Raises Uneditable where it would say anything else.
    """
    changed = text
    for splice in sorted(splices, reverse=True):
        changed = changed[: splice.start] + splice.text + changed[splice.end :]
    before = manifest.load([manifest.Source(name, text)], check=lambda _: []).objects
    after = manifest.load([manifest.Source(name, changed)], check=lambda _: [])
    if after.problems or after.objects != [meant(obj) for obj in before]:
        raise Uneditable(
            f"{name}: can't be changed without changing more of it: is a value an anchor (&) or an"
            " alias (*), or written across lines in { }? Write each value by itself, a line each"
        )
    return changed


def written(name: str, namespace: str, key: str, sealed: str) -> str:
    """A manifest of a secret with one sealed value."""
    return (
        f"apiVersion: skep.dev/v1\nkind: Secret\nmetadata:\n  name: {_key(name)}\n"
        f"  namespace: {_key(namespace)}\n{SEALED}:\n  {_key(key)}: {sealed}\n"
    )


def set_value(text: str, secret: Secret, key: str, sealed: str) -> list[Splice]:
    """Give a key a sealed value: its old one replaced, or one line more."""
    block = secret.blocks.get(SEALED)
    if block is not None and (entry := block.entry(key)) is not None:
        return [Splice(entry.start, entry.end, _value(sealed, block.flow))]
    line = _Lines(text)
    if block is not None and block.entries and not block.flow:
        indent = " " * (block.entries[0].column - 1)
        return [line.after(block.end, f"{indent}{_key(key)}: {sealed}")]
    if block is not None or secret.flow:
        raise Uneditable(
            f"{secret.source}:{secret.line}: is written in {{ }}; write its fields a line each,"
            " and the next change leaves everything else as it is"
        )
    indent = " " * secret.column
    field = f"{indent}{SEALED}:"
    return [line.after(secret.end, f"{field}{line.end}{indent}  {_key(key)}: {sealed}")]


def seal_all(text: str, secret: Secret, sealed: Mapping[str, str]) -> list[Splice]:
    """Turn `data` and `stringData` into `sealed`, where `sealed` has the value of each key.

    The first of them is renamed where it stands, so comments and order stay; another's lines move
    to it, or all of theirs to a block of sealed values that is there already.
    """
    plain = [b for f in PLAIN if (b := secret.blocks.get(f)) is not None and b.entries]
    plain.sort(key=lambda block: block.at)
    target = secret.blocks.get(SEALED)
    splices: list[Splice] = []
    if target is None and plain:
        target = plain.pop(0)
        quote = text[target.at] if text[target.at] in "\"'" else ""
        splices.append(Splice(target.at, target.name_end, f"{quote}{SEALED}{quote}"))
        splices += _values(target, sealed)
    for block in plain:
        if target is None or target.flow or block.flow or not target.entries:
            raise Uneditable(
                f"{secret.source}:{secret.line}: has values in {block.field} and in another field,"
                " and one of them in { }; write a line for each value"
            )
        splices += _moved(text, block, target, sealed)
    return splices


def replace_values(secret: Secret, sealed: Mapping[str, str]) -> list[Splice]:
    """Other sealed values for some of its keys."""
    block = secret.blocks[SEALED]
    return [
        Splice(entry.start, entry.end, _value(sealed[entry.key], block.flow))
        for entry in block.entries
        if entry.key in sealed
    ]


def _values(block: Block, sealed: Mapping[str, str]) -> list[Splice]:
    return [
        Splice(entry.start, entry.end, _value(sealed[entry.key], block.flow))
        for entry in block.entries
    ]


def _moved(text: str, block: Block, target: Block, sealed: Mapping[str, str]) -> list[Splice]:
    """A block's lines, sealed, to the end of another's."""
    line = _Lines(text)
    first, last = line.end_of(block.name_end), line.end_of(block.end)
    inner, at = "", first
    for splice in _values(block, sealed):
        inner += text[at : splice.start] + splice.text
        at = splice.end
    inner += text[at:last]
    was, now = block.entries[0].column - 1, target.entries[0].column - 1
    lines = [each for each in inner.splitlines() if each.strip()]
    shifted = [" " * now + each[min(was, len(each) - len(each.lstrip())) :] for each in lines]
    return [
        Splice(line.start_of(block.at), min(last + len(line.end), len(text)), ""),
        line.after(target.end, line.end.join(shifted)),
    ]


class _Lines:
    """The lines of a text, and how they end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.end = "\r\n" if "\r\n" in text else "\n"

    def start_of(self, at: int) -> int:
        return self._text.rfind("\n", 0, at) + 1

    def end_of(self, at: int) -> int:
        """Before what ends the line."""
        found = self._text.find("\n", at)
        found = len(self._text) if found < 0 else found
        return found - 1 if self._text[found - 1 : found] == "\r" else found

    def after(self, at: int, text: str) -> Splice:
        """The text as lines of its own below the one that is there."""
        end = self.end_of(at)
        return Splice(end, end, self.end + text)


def _value(sealed: str, flow: bool) -> str:
    return json.dumps(sealed) if flow else sealed


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _is_secret(obj: Any) -> bool:
    metadata = obj.get("metadata")
    named = isinstance(metadata, dict) and isinstance(metadata.get("name"), str)
    return obj.get("kind") == "Secret" and named


def _nodes(text: str) -> Iterator[yaml.MappingNode]:
    for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
        if isinstance(node, yaml.MappingNode):
            yield node


def _secret(
    text: str, document: manifest.Document, nodes: Mapping[int, yaml.MappingNode]
) -> Secret:
    node = nodes.get(document.position()[0])
    if node is None or not any(key.value == "kind" for key, _ in node.value):
        raise Uneditable(
            f"{document.source}:{document.line}: {document.label} is in a List, or begins on the"
            " line of its ---; make it a document of its own, that begins a line"
        )
    blocks = {}
    for key, value in node.value:
        if key.value in (SEALED, *PLAIN) and isinstance(value, yaml.MappingNode):
            blocks[key.value] = _block(text, key, value)
    return Secret(
        source=document.source,
        line=document.line,
        column=node.start_mark.column,
        object=document.object,
        flow=bool(node.flow_style),
        blocks=blocks,
        end=_end(text, node),
    )


def _block(text: str, key: yaml.Node, node: yaml.MappingNode) -> Block:
    entries = [
        Entry(
            key=name.value,
            line=name.start_mark.line + 1,
            column=name.start_mark.column + 1,
            at=name.start_mark.index,
            start=value.start_mark.index,
            end=_end(text, value),
        )
        for name, value in node.value
    ]
    return Block(
        field=str(key.value),
        at=key.start_mark.index,
        name_end=key.end_mark.index,
        flow=bool(node.flow_style),
        entries=entries,
        end=_end(text, node),
    )


def _end(text: str, node: yaml.Node) -> int:
    """Where what is written of a node ends; block nodes' own marks are behind what follows them."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, yaml.MappingNode) else last
    start: int = node.start_mark.index
    end: int = node.end_mark.index
    return start + len(text[start:end].rstrip())
