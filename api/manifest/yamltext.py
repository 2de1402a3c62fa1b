"""YAML to plain values, straight from the parser's events.

The model: libyaml turns text into a flat stream of events, each with its place; this builds the
values with a stack of its own. So nothing recurses on what users send, a deep or exploding
document is refused before it costs anything, keys are never guessed into other types, and
duplicates are seen. Positions of fields are only worked out for documents in which something is
wrong, by reading them once more (`positions`): that keeps the usual case fast.

After an error the reading goes on at the next `---`, which YAML allows only between documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from api.manifest.problem import Fault
from api.manifest.values import MAX_DEPTH, STARTS, NotInJSON, Scalar, in_env, plain
from api.manifest.wording import explained
from api.schema import Code, Path, quoted

# The C parser is some seven times faster; without it all works the same.
PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# After so many errors the rest of a file is not read: it is probably no YAML at all.
MAX_FAULTS = 100
# What aliases may add to a document, in characters and 16 for each value.
MAX_EXPANSION = 4_000_000

Positions = dict[Path, tuple[int, int]]

_MARKER = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CORE = "tag:yaml.org,2002:"
_QUOTE = 'put the value in quotes if it is text: "…"'
_NO_KEY: Any = object()
_MERGE: Any = object()


class Parsed(msgspec.Struct, frozen=True):
    """One document: its value, where its text is, and where its content begins (from 1)."""

    value: Any
    start: int
    end: int
    first_line: int  # the line `start` is on, from 0
    line: int
    column: int


class _Refused(Exception):
    """The rest of the document is not worth reading."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def documents(text: str) -> Iterator[Parsed | Fault]:
    """The documents of a text in order, empty ones left out, and all that is wrong with it."""
    illegal = list(_illegal_characters(text))
    if illegal:
        yield from illegal
        text = _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
    start, line = 0, 0
    for _ in range(MAX_FAULTS):
        reader = _Reader(text, start, line)
        yield from reader.read()
        if reader.stopped_at is None:
            return
        marker = _MARKER.search(text, reader.stopped_at)
        if marker is None:
            return
        line += text.count("\n", start, marker.start())
        start = marker.start()
    yield Fault(line + 1, 1, "too many errors: the rest of the file was not read")


def positions(text: str, first_line: int, column: int) -> Positions:
    """The place of each field of the one document in `text`: its key's, from 1.

    The text begins at that line and column of its file, from 0.
    """
    found: Positions = {}
    reader = _Reader(text, 0, first_line, found, column)
    for _ in reader.read():
        pass
    return found


def _illegal_characters(text: str) -> Iterator[Fault]:
    for count, match in enumerate(_ILLEGAL.finditer(text)):
        if count == 10:
            return
        at = match.start()
        line = text.count("\n", 0, at) + 1
        column = at - text.rfind("\n", 0, at)
        message = f"a control character (U+{ord(match.group()):04X}) can't be in YAML"
        yield Fault(line, column, message, 'remove it, or write it as "\\x07" in double quotes')


class _Frame:
    """A collection that is being built, and what is needed to go on with the one around it."""

    __slots__ = ("anchor", "env", "key", "marks", "merges", "path", "value")

    def __init__(self, value: Any, key: Any, anchor: str | None, env: bool, path: Path) -> None:
        self.value = value
        self.key = key
        self.anchor = anchor
        self.env = env
        self.path = path
        self.marks: dict[str, Any] = {}
        self.merges: list[tuple[Any, Any]] | None = None


class _Reader:
    """Reads from one place in the text to its end, or to an error."""

    def __init__(
        self,
        text: str,
        start: int,
        line: int,
        found: Positions | None = None,
        column: int = 0,
    ) -> None:
        self._text = text
        self._start = start
        self._line = line
        self._column = column  # of `start`; the lines after the first begin at 0
        self._positions = found
        self._faults: list[Fault] = []
        self._anchors: dict[str, Any] = {}
        self._stack: list[_Frame] = []
        self._expanded = 0
        self._document = 0  # where the current document begins, from self._start
        # Where to look for the next document when reading stopped at an error.
        self.stopped_at: int | None = None

    def read(self) -> Iterator[Parsed | Fault]:
        text = self._text[self._start :] if self._start else self._text
        parser = PARSER(text)
        try:
            yield from self._documents(parser)
        except yaml.MarkedYAMLError as error:
            yield from self._taken()
            yield explained(error, text, self._line)
            mark = error.problem_mark or error.context_mark
            self._stop(text, mark.index if mark is not None else len(text))
        except _Refused as refused:
            yield from self._taken()
            yield refused.fault
            self._stop(text, self._document)
        except (yaml.YAMLError, ValueError) as error:
            # Numbers in escapes beyond Unicode, in the pure parser.
            yield from self._taken()
            yield Fault(self._line + 1, 1, f"can't be read as YAML: {error}")
            self._stop(text, self._document)
        finally:
            parser.dispose()

    def _stop(self, text: str, index: int) -> None:
        line_start = text.rfind("\n", 0, index) + 1
        self.stopped_at = self._start + max(line_start, self._document + 1)

    def _taken(self) -> list[Fault]:
        faults, self._faults = self._faults, []
        return faults

    def _documents(self, parser: Any) -> Iterator[Parsed | Fault]:
        get = parser.get_event
        first = True
        event = get()  # stream start
        while not isinstance(event := get(), StreamEndEvent):
            if not isinstance(event, DocumentStartEvent):
                continue
            self._anchors = {}
            self._expanded = 0
            mark: Any = event.start_mark
            begin, begin_line = mark.index, mark.line
            if first and not event.explicit:
                begin, begin_line = 0, 0
            first = False
            self._document = begin
            root = get()
            mark = root.start_mark
            value = self._value(root, get)
            end_mark = get().end_mark  # document end
            yield from self._taken()
            if value is not None:
                yield Parsed(
                    value,
                    self._start + begin,
                    self._start + end_mark.index,
                    self._line + begin_line,
                    self._line + mark.line + 1,
                    mark.column + 1,
                )

    def _value(self, event: Any, get: Any) -> Any:
        """The value that begins with `event`. One loop, no recursion; see the module."""
        stack: list[_Frame] = []
        self._stack = stack
        frame = _Frame([], _NO_KEY, None, False, ())
        container: Any = frame.value  # of one item: the root
        found = self._positions
        while True:
            kind = type(event)
            if kind is ScalarEvent:
                text = event.value
                if frame.key is _NO_KEY and type(container) is dict:
                    self._key(frame, event, text)
                    event = get()
                    continue
                if event.implicit[0]:
                    value = text
                    if not text or text[0] in STARTS:
                        value = self._plain(event, text, frame.env)
                elif event.tag is None:
                    value = text
                else:
                    value = self._tagged(event, text)
                if event.anchor is not None:
                    self._anchors[event.anchor] = value
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                frame = self._opened(stack, frame, event, kind is MappingStartEvent)
                container = frame.value
                event = get()
                continue
            elif kind is AliasEvent:
                if frame.key is _NO_KEY and type(container) is dict:
                    name = self._aliased(event, frame)
                    self._key(frame, event, name if isinstance(name, str) else None)
                    event = get()
                    continue
                value = self._aliased(event, frame)
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                value = container
                if frame.merges is not None:
                    self._merge(frame)
                if frame.anchor is not None:
                    self._anchors[frame.anchor] = value
                frame = stack.pop()
                container = frame.value
            else:
                raise _Refused(self._fault(event, f"unexpected {kind.__name__}"))
            # A value is complete: put it where it belongs.
            if type(container) is dict:
                if frame.key is _MERGE:
                    frame.merges = frame.merges or []
                    frame.merges.append((value, event))
                else:
                    container[frame.key] = value
                frame.key = _NO_KEY
            else:
                if found is not None and stack and kind in (ScalarEvent, AliasEvent):
                    self._note(frame.path, len(container), event)
                container.append(value)
                if not stack:
                    return value
            event = get()

    def _opened(self, stack: list[_Frame], frame: _Frame, event: Any, mapping: bool) -> _Frame:
        """The frame of a collection that begins inside `frame`."""
        if frame.key is _NO_KEY and type(frame.value) is dict:
            message = "a list or mapping can't be the name of a field"
            raise _Refused(self._fault(event, message, "quote it if it is text, as {{ x }} is"))
        stack.append(frame)
        if len(stack) > MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
            raise _Refused(self._fault(event, message, code=Code.TOO_LONG))
        if event.tag is not None and event.tag not in (f"{_CORE}map", f"{_CORE}seq", "!"):
            self._complain(self._tag_fault(event))
        path: Path = ()
        in_list = type(frame.value) is list
        if self._positions is not None and len(stack) > 1:
            key = len(frame.value) if in_list else frame.key
            path = (*frame.path, "<<" if key is _MERGE else key)
            if in_list:
                self._note(frame.path, key, event)
        env = mapping and frame.key == "env"
        return _Frame({} if mapping else [], _NO_KEY, event.anchor, env, path)

    def _key(self, frame: _Frame, event: Any, text: str | None) -> None:
        """A mapping's key: its text as written, whatever it would mean as a value."""
        if text is None:
            raise _Refused(self._fault(event, "only text can be the name of a field"))
        if isinstance(event, ScalarEvent):
            if event.anchor is not None:
                self._anchors[event.anchor] = text
            if event.tag is not None and event.tag not in (f"{_CORE}str", "!"):
                self._complain(self._tag_fault(event))
            if text == "<<" and event.implicit[0]:
                frame.key = _MERGE
                return
        mark = event.start_mark
        old = frame.marks.setdefault(text, mark)
        if old is not mark:
            message = f"the field {quoted(text)} is given twice"
            hint = f"first on line {self._line + old.line + 1}; remove one of them"
            self._complain(self._fault(event, message, hint, Code.DUPLICATE))
        elif self._positions is not None:
            self._note(frame.path, text, event)
        frame.key = text

    def _plain(self, event: Any, text: str, env: bool) -> Scalar:
        try:
            return in_env(text) if env else plain(text)
        except NotInJSON as error:
            self._complain(self._fault(event, str(error), "put it in quotes if it is text"))
            return text

    def _tagged(self, event: Any, text: str) -> Scalar:
        """A scalar with a tag: YAML's own for text, numbers, true and null are understood."""
        name = event.tag.removeprefix(_CORE)
        wanted: dict[str, tuple[type, ...]] = {
            "int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)
        }  # fmt: skip
        if event.tag == f"{_CORE}str":
            return text
        if not event.tag.startswith(_CORE) or name not in wanted:
            self._complain(self._tag_fault(event))
            return text
        value = self._plain(event, text, False)
        if type(value) not in wanted[name]:
            self._complain(self._fault(event, f"the value is no {name}, as its tag says"))
        return value

    def _aliased(self, event: Any, frame: _Frame) -> Any:
        """A copy of what an alias names, as long as that stays of sane size.

        Messages don't name it: it may be a password that nobody put in quotes.
        """
        name = event.anchor
        if any(each.anchor == name for each in (frame, *self._stack)):
            raise _Refused(self._fault(event, "this alias (*) would contain itself"))
        if name not in self._anchors:
            message = "this alias (*) names no anchor (&) above it in this document"
            raise _Refused(self._fault(event, message, _QUOTE))
        value = self._anchors[name]
        budget = MAX_EXPANSION - self._expanded
        spent, height = _measured(value, budget)
        self._expanded += spent
        if spent > budget or height + len(self._stack) > MAX_DEPTH:
            message = "aliases make this document explode: this one goes too far"
            raise _Refused(self._fault(event, message, code=Code.TOO_LONG))
        return _copied(value)

    def _merge(self, frame: _Frame) -> None:
        """`<<: *base`: fields that the mapping does not have itself; earlier ones win."""
        for given, event in frame.merges or ():
            for base in given if isinstance(given, list) else [given]:
                if not isinstance(base, dict):
                    message = "<< takes a mapping, or a list of mappings"
                    self._complain(self._fault(event, message, "for example: <<: *base"))
                    continue
                for key, value in base.items():
                    if key not in frame.value:
                        frame.value[key] = value
                        if self._positions is not None:
                            self._note(frame.path, key, event)

    def _note(self, path: Path, key: str | int, event: Any) -> None:
        if self._positions is not None:
            mark = event.start_mark
            before = self._column if mark.line == 0 else 0
            place = (self._line + mark.line + 1, before + mark.column + 1)
            self._positions.setdefault((*path, key), place)

    def _tag_fault(self, event: Any) -> Fault:
        """A tag we don't take. A custom one is not named: it may be an unquoted password."""
        if not event.tag.startswith(_CORE):
            return self._fault(event, "custom tags (!…) are not supported", _QUOTE)
        tag = event.tag.replace(_CORE, "!!")
        hint = "write the value as text" if tag != "!!binary" else "write base64 as text"
        return self._fault(event, f"the tag {tag} is not supported", hint)

    def _complain(self, fault: Fault) -> None:
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(fault)

    def _fault(self, event: Any, message: str, hint: str = "", code: Code = Code.SYNTAX) -> Fault:
        mark = event.start_mark
        return Fault(self._line + mark.line + 1, mark.column + 1, message, hint, code)


def _measured(value: Any, budget: int) -> tuple[int, int]:
    """The size of a value and its height, counted until the budget is spent."""
    spent, height = 0, 0
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo and spent <= budget:
        node, level = todo.pop()
        height = max(height, level)
        spent += 16
        if isinstance(node, str):
            spent += len(node)
        elif isinstance(node, dict):
            spent += sum(map(len, node))
            todo.extend((child, level + 1) for child in node.values())
        elif isinstance(node, list):
            todo.extend((child, level + 1) for child in node)
    return spent, height


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_copied(child) for child in value]
    return value
