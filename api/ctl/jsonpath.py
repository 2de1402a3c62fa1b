"""kubectl's JSONPath templates: `{.items[*].metadata.name}`, `{range .items[*]}…{end}`.

A template is text with actions in braces. An action is a path, a quoted text, `range PATH` or
`end`. A path is a chain of steps, each a function from the values found so far to the next ones:

    .name  ['name']  ['a','b']  .*  [*]  [0]  [-1]  [1:3]  ..name  [?(@.x=="y")]  [?(@.x)]

`$` is the whole object; a path without it starts at the current one, which `range` sets. What a
path does not find prints as nothing. Where names hold dots, write `.labels.skep\\.dev/applyset`
or `.labels['skep.dev/applyset']`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from api.ctl.errors import Usage

Step = Callable[[list[Any]], list[Any]]

_NAME = re.compile(r"(?:\\.|[^\s\\.\[\](){}'\"=!<>,*@$?])+")
_INDEX = re.compile(r"\[\s*(-?\d+)\s*\]")
_SLICE = re.compile(r"\[\s*(-?\d*)\s*:\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?\]")
_QUOTED = re.compile(r"'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\"")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_OPERATOR = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


@dataclass(frozen=True)
class Path:
    """A parsed path. `absolute` ones start at the whole object, others at the current one."""

    steps: tuple[Step, ...]
    absolute: bool = False

    def find(self, current: Any, root: Any = None) -> list[Any]:
        values = [root if self.absolute and root is not None else current]
        for step in self.steps:
            values = step(values)
        return values


@dataclass(frozen=True)
class _Range:
    path: Path
    body: tuple[_Part, ...]


_Part = str | Path | _Range


@dataclass(frozen=True)
class Template:
    """A parsed template."""

    parts: tuple[_Part, ...]

    def render(self, obj: Any) -> str:
        return "".join(_render(self.parts, obj, obj))


def _render(parts: Iterable[_Part], current: Any, root: Any) -> Iterable[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Path):
            yield " ".join(shown(value) for value in part.find(current, root))
        else:
            for value in part.path.find(current, root):
                yield from _render(part.body, value, root)


def shown(value: Any) -> str:
    """A value as it is printed: texts bare, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def template(text: str) -> Template:
    """Parse a template. A bare path (`.spec.replicas`) is taken as one in braces. Raises Usage."""
    if "{" not in text and text.startswith((".", "$", "[")):
        text = f"{{{text}}}"
    return Template(_Parser(text).template())


def path(text: str) -> Path:
    """Parse one path, with or without braces around it and a dot before it. Raises Usage."""
    bare = text.strip()
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1].strip()
    if bare and bare[0] not in ".[$@":
        bare = f".{bare}"
    parser = _Parser(bare)
    parsed = parser.path()
    if parser.at != len(bare):
        parser.fail("expected the end of the path")
    return parsed


class _Parser:
    """Reads `text` from `at` on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, why: str) -> NoReturn:
        raise Usage(
            f"the jsonpath {self.text!r} is not valid at character {self.at + 1}: {why}",
            "write it like '{.items[*].metadata.name}'",
        )

    def template(self, inside_range: bool = False) -> tuple[_Part, ...]:
        parts: list[_Part] = []
        while self.at < len(self.text):
            brace = self.text.find("{", self.at)
            if brace != self.at:
                end = len(self.text) if brace < 0 else brace
                parts.append(self.text[self.at : end])
                self.at = end
                continue
            self.at += 1
            self.space()
            if self.word("end"):
                self.close()
                if not inside_range:
                    self.fail("{end} without a {range …}")
                return tuple(parts)
            parts.extend(self.action())
        if inside_range:
            self.fail("a {range …} without its {end}")
        return tuple(parts)

    def action(self) -> list[_Part]:
        if self.word("range"):
            self.space()
            over = self.path()
            self.close()
            return [_Range(over, self.template(inside_range=True))]
        parts: list[_Part] = []
        while True:
            self.space()
            if self.peek("}"):
                self.close()
                return parts
            quoted = self.quoted()
            parts.append(self.path() if quoted is None else quoted)

    def path(self) -> Path:
        absolute = self.peek("$")
        if absolute or self.peek("@"):
            self.at += 1
        start = self.at
        steps: list[Step] = []
        while (step := self.step()) is not None:
            steps.append(step)
        if self.at == start and not absolute and self.text[start - 1 : start] != "@":
            self.fail("expected a path such as .metadata.name")
        return Path(tuple(steps), absolute)

    def step(self) -> Step | None:
        if self.peek(".."):
            self.at += 2
            return _descend(self.name())
        if self.peek("."):
            self.at += 1
            if self.peek("["):  # .['name'], as some write it
                return self.step()
            if self.peek("*"):
                self.at += 1
                return _all
            if self.at == len(self.text) or self.text[self.at] in "} \t":  # `.` alone: this object
                return _same
            return _member([self.name()])
        if self.peek("["):
            return self.bracket()
        return None

    def bracket(self) -> Step:
        if match := _INDEX.match(self.text, self.at):
            self.at = match.end()
            return _index(int(match[1]))
        if match := _SLICE.match(self.text, self.at):
            self.at = match.end()
            return _slice(slice(*(int(part) if part else None for part in match.groups())))
        self.at += 1
        self.space()
        if self.peek("*"):
            self.at += 1
            step: Step = _all
        elif self.peek("?("):
            self.at += 2
            step = self.filter()
        else:
            step = _member(self.members())
        self.space()
        self.expect("]")
        return step

    def members(self) -> list[str]:
        found = []
        while True:
            self.space()
            name = self.quoted()
            found.append(self.name() if name is None else name)
            self.space()
            if not self.peek(","):
                return found
            self.at += 1

    def filter(self) -> Step:
        self.space()
        left = self.operand()
        match = _OPERATOR.match(self.text, self.at)
        if match is None:
            self.space()
            self.expect(")")
            return _where(lambda item: bool(left(item)))
        self.at = match.end()
        right = self.operand()
        self.space()
        self.expect(")")
        compare = _COMPARE[match[1]]
        return _where(lambda item: _compares(compare, left(item), right(item)))

    def operand(self) -> Callable[[Any], list[Any]]:
        quoted = self.quoted()
        if quoted is not None:
            return lambda item: [quoted]
        if match := _NUMBER.match(self.text, self.at):
            self.at = match.end()
            number = float(match[0])
            return lambda item: [number]
        for word, value in (("true", True), ("false", False)):
            if self.word(word):
                return lambda item, value=value: [value]  # type: ignore[misc]
        return self.path().find

    def name(self) -> str:
        match = _NAME.match(self.text, self.at)
        if match is None:
            self.fail("expected a field's name")
        self.at = match.end()
        return re.sub(r"\\(.)", r"\1", match[0])

    def quoted(self) -> str | None:
        match = _QUOTED.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        inner = match[1] if match[1] is not None else match[2]
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), inner)

    def word(self, word: str) -> bool:
        end = self.at + len(word)
        if self.peek(word) and (end == len(self.text) or not self.text[end].isalnum()):
            self.at = end
            return True
        return False

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def expect(self, text: str) -> None:
        if not self.peek(text):
            self.fail(f"expected {text!r}")
        self.at += len(text)

    def close(self) -> None:
        self.space()
        self.expect("}")


def _same(values: list[Any]) -> list[Any]:
    return values


def _member(keys: list[str]) -> Step:
    return lambda values: [
        value[key] for value in values if isinstance(value, dict) for key in keys if key in value
    ]


def _index(index: int) -> Step:
    return lambda values: [
        value[index]
        for value in values
        if isinstance(value, list) and -len(value) <= index < len(value)
    ]


def _slice(part: slice) -> Step:
    return lambda values: [
        item for value in values if isinstance(value, list) for item in value[part]
    ]


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _all(values: list[Any]) -> list[Any]:
    return [child for value in values for child in _children(value)]


def _descend(key: str) -> Step:
    def step(values: list[Any]) -> list[Any]:
        found: list[Any] = []
        for value in values:
            if isinstance(value, dict) and key in value:
                found.append(value[key])
            found.extend(step(_children(value)))
        return found

    return step


def _where(holds: Callable[[Any], bool]) -> Step:
    return lambda values: [
        item
        for value in values
        for item in (value if isinstance(value, list) else _children(value))
        if holds(item)
    ]


def _compares(compare: Callable[[Any, Any], bool], left: list[Any], right: list[Any]) -> bool:
    if not left or not right:
        return False
    try:
        return compare(left[0], right[0])
    except TypeError:  # a number against a text: kubectl finds nothing there either
        return False
