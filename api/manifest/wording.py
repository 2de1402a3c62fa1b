"""The YAML parsers' complaints, in words for people."""

from __future__ import annotations

import re

import yaml

from api.manifest.problem import Fault
from api.manifest.values import MAX_DEPTH
from api.schema import Code

_TAB_INDENT = re.compile(r"[ ]*\t")
_QUOTE = 'put the value in quotes if it is text: "…"'


def explained(error: yaml.MarkedYAMLError, text: str, first_line: int) -> Fault:
    """What a parser's error means, in `text`, which begins on line `first_line` (from 0)."""
    mark, context = error.problem_mark or error.context_mark, error.context_mark
    line = mark.line if mark is not None else 0
    column = mark.column if mark is not None else 0
    start = context.line if context is not None else line
    message, hint = _words(error.problem or "", error.context or "", first_line + start + 1)
    if line > 0 and line == text.count("\n") + 1:
        # The parsers place the end of a text that has no last line feed on a line of its own.
        line, column = line - 1, len(text) - text.rfind("\n") - 1
    tab = _tab_line(text, line, start)
    if "nesting depth" in (error.problem or ""):
        # libyaml's own limit, which its look-ahead may meet before ours is asked.
        return too_deep(first_line + line + 1, column + 1)
    if tab is not None:
        line, column = tab
        message, hint = "a tab indents this line, and YAML takes only spaces", "use spaces"
    elif "cannot start any token" in (error.problem or ""):
        character = _character(text, line, column)
        message = f"a value can't begin with {character}"
        hint = _QUOTE
    elif "Unicode character escape" in (error.problem or ""):
        hint = "write the character itself, or \\UXXXXXXXX"
    return Fault(first_line + line + 1, column + 1, message, hint)


def too_deep(line: int, column: int) -> Fault:
    return Fault(line, column, f"nested deeper than {MAX_DEPTH} levels", code=Code.TOO_LONG)


def _words(problem: str, context: str, opened: int) -> tuple[str, str]:
    """The message and the hint for a parser's problem; `opened` is where its context begins."""
    for part, message, hint in (
        (
            "mapping values are not allowed",
            "a ':' stands where no field can begin",
            "check the indentation; put a value that holds ': ' in quotes",
        ),
        (
            "entries are not allowed",
            "a '- ' stands where no list can begin",
            "begin the list on a line of its own, or quote the value",
        ),
        (
            "could not find expected ':'",
            f"expected 'name: value', and line {opened} has no ':'",
            "add the ':', or indent the line if it continues a text",
        ),
        (
            "unexpected document",
            f"the quote that line {opened} opens is never closed",
            "close it",
        ),
        (
            "found unexpected end of stream",
            f"the quote that line {opened} opens is never closed",
            "close it",
        ),
        ("unknown escape", "an unknown escape after \\ in double quotes", "use single quotes"),
        (
            "incompatible YAML document",
            "a %YAML directive of another major version",
            "remove it: documents are read as YAML 1.2",
        ),
        ("unknown directive", "an unknown % directive", "remove it"),
        (
            "comment or line break",
            "text after | or > that introduces a block of text",
            "begin the text on the next line, indented",
        ),
        (
            "chomping or indentation",
            "text after | or > that introduces a block of text",
            "begin the text on the next line, indented",
        ),
        (
            "<document start>",
            "text follows after the end of the document",
            "separate documents with a line ---, and check the indentation",
        ),
    ):
        if part in problem:
            return message, hint
    return _by_context(problem, context, opened)


def _by_context(problem: str, context: str, opened: int) -> tuple[str, str]:
    """The problems whose words differ between the parsers; what was being read tells more."""
    for part, message, hint in (
        (
            "block mapping",
            f"this does not fit the mapping that begins on line {opened}",
            "check the indentation and the quotes",
        ),
        (
            "block collection",
            f"this does not fit the list that begins on line {opened}",
            "begin each item with '- ', all equally indented",
        ),
        (
            "flow sequence",
            f"expected ',' or ']' for the list that line {opened} opens with [",
            "close it, or quote the value if it is text",
        ),
        (
            "flow mapping",
            f"expected ',' or '}}' for the mapping that line {opened} opens with {{",
            "close it, or quote the value if it is text",
        ),
        (
            "flow node",
            "expected a value here",
            "check for a ',' too many, and that all brackets are closed",
        ),
        ("anchor", "expected an anchor's name after &", _QUOTE),
        ("alias", "expected an anchor's name after *", _QUOTE),
        ("tag", "expected a tag after !", _QUOTE),
    ):
        if part in context:
            return message, hint
    return f"can't be read as YAML: {problem or context}", ""


def _tab_line(text: str, line: int, start: int) -> tuple[int, int] | None:
    """The line and column of a tab in the indentation where the parser failed."""
    lines = text.split("\n", line + 1)
    for number in (line, line - 1):
        if start <= number < len(lines) and (found := _TAB_INDENT.match(lines[number])):
            return number, found.end() - 1
    return None


def _character(text: str, line: int, column: int) -> str:
    lines = text.split("\n", line + 1)
    if line < len(lines) and column < len(lines[line]):
        return repr(lines[line][column])
    return "this character"
