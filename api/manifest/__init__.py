"""From files to objects, with every problem at its place in the file.

The model: paths become sources (`sources`), sources become documents (`yamltext`, `jsontext`),
documents are validated with `api.schema`, and every problem of every document comes back at once
with file, line and column. Nothing here knows the server.

Documents hold plain JSON values. YAML is read as YAML 1.2 has it (`values` says where we differ);
`kind: List` is taken apart; the same object twice is a problem of the second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import msgspec

from api.manifest import jsontext, yamltext
from api.manifest.problem import Fault, Located
from api.manifest.sources import MAX_BYTES, Source, read_paths, read_stream, source
from api.schema import Code, Path, Problem, nearest, sort_of, validate
from api.types.kinds import BY_NAME

__all__ = [
    "MAX_BYTES",
    "Decrypt",
    "Document",
    "Loaded",
    "Located",
    "Source",
    "Undecryptable",
    "load",
    "load_paths",
    "read_paths",
    "read_stream",
    "source",
]


class Undecryptable(Exception):
    """A source is encrypted and can't be read. Where: the document's number, and the field."""

    def __init__(self, message: str, hint: str, document: int, path: Path) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.document = document
        self.path = path


# From a source's text and its documents' values to those in the clear; None: they are.
Decrypt = Callable[[str, list[Any]], list[Any] | None]

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LIST_FIELDS = frozenset(("apiVersion", "kind", "metadata", "items"))


class _Origin:
    """A document's text, and where its fields are once somebody asks."""

    def __init__(
        self, source: str, text: str, parsed: yamltext.Parsed, encrypted: bool = False
    ) -> None:
        self.source = source
        self.encrypted = encrypted
        self.parsed = parsed
        self._text = text

    @cached_property
    def places(self) -> yamltext.Positions:
        start, end = self.parsed.start, self.parsed.end
        column = start - self._text.rfind("\n", 0, start) - 1
        text = jsontext.as_yaml(self._text[start:end])
        return yamltext.positions(text, self.parsed.first_line, column)

    def position(self, path: Path) -> tuple[int, int]:
        for length in range(len(path), 0, -1):
            if (found := self.places.get(path[:length])) is not None:
                return found
        return self.parsed.line, self.parsed.column


class Document:
    """One object of a manifest and where it stands."""

    __slots__ = ("_origin", "_path", "line", "object", "source")

    def __init__(self, origin: _Origin, value: dict[str, Any], path: Path = ()) -> None:
        self.source = origin.source
        self.object = value
        self._origin = origin
        self._path = path  # of the object in its document: () or ("items", 3)
        self.line = origin.position(path)[0]

    def position(self, path: Path = ()) -> tuple[int, int]:
        """Line and column of a field, from 1; of the nearest field around it if it isn't there."""
        return self._origin.position((*self._path, *path))

    @property
    def encrypted(self) -> bool:
        """Whether it was decrypted on its way here."""
        return self._origin.encrypted

    @property
    def label(self) -> str:
        """`services/web`, as far as it says who it is."""
        return _label(self.object)

    def located(self, problem: Problem) -> Located:
        """A problem of this object, at its place."""
        line, column = self.position(problem.path)
        return Located(
            source=self.source, line=line, column=column, object=self.label, problem=problem
        )


class Loaded(msgspec.Struct, frozen=True):
    """All documents, and all that is wrong with them or with their files."""

    documents: list[Document]
    problems: list[Located]

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [document.object for document in self.documents]


def load(
    sources: Iterable[Source],
    *,
    namespace: str = "default",
    check: Callable[[object], list[Problem]] = validate,
    decrypt: Decrypt | None = None,
) -> Loaded:
    """Every object in the sources, and every problem of every one of them.

    `namespace` is where objects go that don't say: it tells whether two are the same. `check`
    says what is wrong with one object. `decrypt` gives the documents of a source in the clear, or
    None where it is not encrypted.
    """
    documents: list[Document] = []
    problems: list[Located] = []
    first: dict[tuple[str, str, str], Document] = {}
    for each in sources:
        problems += each.problems
        for found in _objects(each, decrypt):
            if isinstance(found, Located):
                problems.append(found)
                continue
            documents.append(found)
            wrong = [*check(found.object), *_not_for_manifests(found.object)]
            same = _remember(first, found, namespace)
            if same is not None:
                wrong.append(same)
            problems += sorted(map(found.located, wrong), key=_place)
    return Loaded(documents, problems)


def _place(problem: Located) -> tuple[int, int]:
    return problem.line, problem.column


def _remember(
    first: dict[tuple[str, str, str], Document], document: Document, namespace: str
) -> Problem | None:
    """The problem that this object was there before."""
    identity = _identity(document.object, namespace)
    if identity is None:
        return None
    before = first.setdefault(identity, document)
    if before is document:
        return None
    message = f"the same object is at {before.source}:{before.line} too"
    return Problem(("metadata", "name"), message, "remove or rename one of them", Code.DUPLICATE)


def _identity(obj: dict[str, Any], namespace: str) -> tuple[str, str, str] | None:
    kind, metadata = obj.get("kind"), obj.get("metadata")
    if not isinstance(kind, str) or not isinstance(metadata, dict):
        return None
    name, within = metadata.get("name"), metadata.get("namespace") or namespace
    if not isinstance(name, str) or not isinstance(within, str):
        return None
    known = BY_NAME.get(kind)
    return kind, within if known is None or known.namespaced else "", name


def _label(obj: Any) -> str:
    kind, metadata = obj.get("kind"), obj.get("metadata")
    known = BY_NAME.get(kind) if isinstance(kind, str) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if known is None or not isinstance(name, str) or not name:
        return ""
    return f"{known.plural}/{name if len(name) <= 63 else name[:62] + '…'}"


def _not_for_manifests(obj: dict[str, Any]) -> Iterator[Problem]:
    kind = obj.get("kind")
    known = BY_NAME.get(kind) if isinstance(kind, str) else None
    if known is not None and not known.declared:
        message = f"{known.plural} are written by the system, not by manifests"
        yield Problem(("kind",), message, "remove it", Code.FORBIDDEN)


def _objects(source: Source, decrypt: Decrypt | None) -> Iterator[Document | Located]:
    """The objects of a source, those in a List one by one."""
    text, found = _parsed(source)
    encrypted = False
    if decrypt is not None:
        found, encrypted = _in_the_clear(source.name, text, list(found), decrypt)
    for parsed in found:
        if isinstance(parsed, Fault):
            yield parsed.located(source.name)
            continue
        origin = _Origin(source.name, text, parsed, encrypted)
        if not isinstance(parsed.value, dict):
            what = sort_of(parsed.value)
            message = f"expected an object (apiVersion, kind, metadata, …), got {what}"
            hint = "several objects: documents separated by ---, or kind: List"
            yield Fault(parsed.line, parsed.column, message, hint, Code.TYPE).located(source.name)
        elif _is_list(parsed.value):
            yield from _items(origin, parsed.value, ())
        else:
            yield Document(origin, parsed.value)


def _in_the_clear(
    name: str, text: str, found: list[yamltext.Parsed | Fault], decrypt: Decrypt
) -> tuple[list[yamltext.Parsed | Fault], bool]:
    """What was found, decrypted; and whether it had to be. Faults stay as they are, and keep what
    is encrypted from being read: it is whole, or nothing."""
    parsed = [each for each in found if isinstance(each, yamltext.Parsed)]
    try:
        values = decrypt(text, [each.value for each in parsed])
    except Undecryptable as error:
        if len(parsed) < len(found):
            return [each for each in found if isinstance(each, Fault)], False
        origin = _Origin(name, text, parsed[error.document])
        line, column = origin.position(error.path)
        return [Fault(line, column, error.message, error.hint, Code.INVALID)], False
    if values is None:
        return found, False
    pairs = zip(parsed, values, strict=True)
    return [msgspec.structs.replace(each, value=value) for each, value in pairs], True


def _parsed(source: Source) -> tuple[str, Iterable[yamltext.Parsed | Fault]]:
    """The text as it was read in the end, and what is in it."""
    text = source.text
    found: Iterable[yamltext.Parsed | Fault]
    named_json = source.name.lower().endswith(".json")
    if named_json or text.lstrip()[:1] == "{":
        try:
            found = list(jsontext.documents(text))
        except jsontext.NotJSON as error:
            text = jsontext.as_yaml(text)
            found = _not_json(text, error, named_json)
    else:
        found = yamltext.documents(text)
    if _SURROGATE.search(text):
        found = map(_encodable, found)
    return text, found


def _not_json(
    text: str, error: jsontext.NotJSON, named_json: bool
) -> list[yamltext.Parsed | Fault]:
    """What YAML makes of a text that is not JSON, or not JSON we take."""
    if named_json and error.placed:
        return [error.fault]
    found = list(yamltext.documents(text))
    faulty = any(isinstance(each, Fault) for each in found)
    return found if faulty or not named_json else [error.fault]


def _encodable(found: yamltext.Parsed | Fault) -> yamltext.Parsed | Fault:
    """What was found, unless it holds half a character: that can't be stored."""
    if isinstance(found, Fault):
        return found
    try:
        msgspec.json.encode(found.value)
    except UnicodeEncodeError:
        message = "holds half of a character: an escape \\ud800 to \\udfff without its other half"
        return Fault(found.line, found.column, message, "write the character itself")
    return found


def _is_list(value: dict[str, Any]) -> bool:
    kind = value.get("kind")
    return isinstance(kind, str) and kind.endswith("List") and kind.removesuffix("List") in (
        "", *BY_NAME,
    )  # fmt: skip


def _items(origin: _Origin, value: dict[str, Any], path: Path) -> Iterator[Document | Located]:
    """The objects in a List; a List may hold Lists."""
    whole = Document(origin, value, path)
    for key in value.keys() - _LIST_FIELDS:
        meant = nearest(key, _LIST_FIELDS)
        hint = f"did you mean {meant}?" if meant else "a List has items"
        yield whole.located(Problem((key,), "unknown field", hint, Code.UNKNOWN))
    items = value.get("items")
    if not isinstance(items, list):
        message = f"expected a list of objects, got {sort_of(items)}"
        yield whole.located(Problem(("items",), message, "give items: […]", Code.TYPE))
        return
    for index, item in enumerate(items):
        place = (*path, "items", index)
        if not isinstance(item, dict):
            message = f"expected an object, got {sort_of(item)}"
            yield whole.located(Problem(("items", index), message, code=Code.TYPE))
        elif _is_list(item):
            yield from _items(origin, item, place)
        else:
            yield Document(origin, item, place)


def load_paths(
    paths: Iterable[str | os.PathLike[str]],
    recursive: bool = False,
    *,
    namespace: str = "default",
    max_bytes: int = MAX_BYTES,
) -> Loaded:
    """`read_paths` and `load` in one."""
    return load(read_paths(paths, recursive, max_bytes=max_bytes), namespace=namespace)
