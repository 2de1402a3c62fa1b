"""What the text of a file made from secrets may say.

It is Jinja2's, without all that computes for long or reaches anything: text, `{{ … }}`, `{% if %}`
with `elif` and `else`, comparisons, `and`, `or`, `not`, `~`, and the filters and tests below. Names
are these alone:

    secrets["db"]               the secret db, where it has one key
    secrets["db"]["password"]   one key of it; secrets.db.password where that is a name
    node.name …                 see FIELDS

    Wrong       the text is not of this language; every fault, with its line
"""

from __future__ import annotations

import difflib  # here: the renderer, once shut in, can't load anything
import functools
from collections.abc import Collection, Sequence
from typing import NamedTuple

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from api.rendering import CONTENT_MAX
from api.rendering.filters import FILTERS

FIELDS = (
    "node.name",
    "node.hostname",
    "service.name",
    "service.namespace",
    "service.revision",
    "task.name",
    "task.uid",
    "task.slot",
    "task.hostname",
)
TESTS = ("defined", "undefined")

_DEEPEST = 60  # expressions in each other
_TOO_DEEP = f"is nested more than {_DEEPEST} deep"
_ROOTS = ("secrets", *dict.fromkeys(field.partition(".")[0] for field in FIELDS))
_LITERALS = (str, int, float, bool, type(None))
_PLAIN = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Tuple, nodes.List,
    nodes.Keyword,
)  # fmt: skip
_WORDS: dict[type[nodes.Node], str] = {
    nodes.Call: "calls",
    nodes.For: "loops",
    nodes.Assign: "assignments ({% set %})",
    nodes.AssignBlock: "assignments ({% set %})",
    nodes.Macro: "macros",
    nodes.CallBlock: "macros",
    nodes.FilterBlock: "filter blocks",
    nodes.Include: "includes",
    nodes.Import: "imports",
    nodes.FromImport: "imports",
    nodes.Extends: "inheritance ({% extends %})",
    nodes.Block: "blocks ({% block %})",
    nodes.With: "assignments ({% with %})",
    nodes.Dict: "dictionaries",
    nodes.Slice: "slices",
}


class Fault(NamedTuple):
    line: int  # 1 is the first
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class Wrong(Exception):
    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class Reference(NamedTuple):
    """A secret, or one key of it, and the variable that stands for it."""

    secret: str
    key: str  # empty: the whole secret, of one key
    variable: str
    optional: bool  # the text itself asks whether the key is there

    @property
    def needed_key(self) -> str:
        return "" if self.optional else self.key

    def __str__(self) -> str:
        return f'secrets["{self.secret}"]' + (f'["{self.key}"]' if self.key else "")


class Program(NamedTuple):
    tree: nodes.Template  # names only variables and fields' variables
    references: tuple[Reference, ...]


def field_variable(field: str) -> str:
    return field.replace(".", "_")


@functools.lru_cache(maxsize=256)
def program(content: str) -> Program:
    """Raises Wrong."""
    if len(content) > CONTENT_MAX:
        text = f"has {len(content)} characters, and at most {CONTENT_MAX} are allowed"
        raise Wrong([Fault(1, text)])
    try:
        tree = environment().parse(content)
        reader = _Reader()
        reader.read(tree)
    except TemplateSyntaxError as error:
        raise Wrong([Fault(error.lineno, _sentence(error.message or "is no template"))]) from None
    except RecursionError:
        raise Wrong([Fault(1, _TOO_DEEP)]) from None
    if reader.faults:
        raise Wrong(reader.faults)
    return Program(tree, reader.references())


def environment() -> Environment:
    """Where texts are parsed and rendered: nothing in it but the filters and tests named here."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    made.globals.clear()
    made.filters = dict(FILTERS)
    made.tests = {name: made.tests[name] for name in TESTS}
    return made


class _Reader:
    """Looks at every part of a tree once, and puts variables in the place of what it names."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._found: dict[tuple[str, str], bool] = {}  # secret and key → only asked for

    def references(self) -> tuple[Reference, ...]:
        return tuple(
            Reference(secret, key, f"secret_{number}", optional)
            for number, ((secret, key), optional) in enumerate(self._found.items())
        )

    def read(self, tree: nodes.Template) -> None:
        self._children(tree, 0, asked=False)

    def _children(self, node: nodes.Node, depth: int, *, asked: bool) -> None:
        if depth > _DEEPEST:
            self._fault(node, _TOO_DEEP)
            return
        for field, value in node.iter_fields():
            if isinstance(value, nodes.Node):
                setattr(node, field, self._read(value, depth + 1, asked=asked))
            elif isinstance(value, list):
                parts = [self._read(each, depth + 1, asked=asked) for each in value]
                setattr(node, field, parts)

    def _read(self, node: nodes.Node, depth: int, *, asked: bool) -> nodes.Node:
        """The node as it is rendered. `asked`: the text minds itself that it may be absent."""
        if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
            return self._named(node, asked)
        if isinstance(node, nodes.Filter):
            self._known(node, "filter", FILTERS)
            self._children(node, depth, asked=node.name == "default")
        elif isinstance(node, nodes.Test):
            self._known(node, "test", TESTS)
            self._children(node, depth, asked=True)
        elif isinstance(node, nodes.Sub) and _is_of_secrets(node):
            self._fault(node, "'-' is a minus here; a name with one is written secrets[\"a-name\"]")
        elif isinstance(node, _PLAIN):
            self._children(node, depth, asked=False)
        elif not (isinstance(node, nodes.Const) and isinstance(node.value, _LITERALS)):
            self._fault(node, f"{_what(node)} can't be used here")
        return node

    def _known(self, node: nodes.Filter | nodes.Test, what: str, known: Collection[str]) -> None:
        if node.name not in known:
            self._fault(node, f"{node.name} is no {what}{_there(node.name, sorted(known))}")

    def _named(self, node: nodes.Node, asked: bool) -> nodes.Node:
        path = _path(node)
        wrong = _wrong_path(path)
        if wrong:
            self._fault(node, wrong)
            return node
        if path[0] != "secrets":
            return nodes.Name(field_variable(".".join(path)), "load", lineno=node.lineno)
        found = (path[1], path[2] if len(path) == 3 else "")
        self._found[found] = self._found.get(found, False) or (asked and len(path) == 3)
        number = list(self._found).index(found)
        return nodes.Name(f"secret_{number}", "load", lineno=node.lineno)

    def _fault(self, node: nodes.Node, text: str) -> None:
        self.faults.append(Fault(node.lineno or 1, text))


def _path(node: nodes.Node) -> list[str]:
    """`a.b["c"]` as a, b, c; empty where it is anything else."""
    if isinstance(node, nodes.Name):
        return [node.name]
    if isinstance(node, nodes.Getattr):
        above, part = _path(node.node), node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        above, part = _path(node.node), node.arg.value
    else:
        return []
    return [*above, part] if above and isinstance(part, str) and part else []


def _wrong_path(path: list[str]) -> str:
    """What is wrong with it, in words; empty: nothing."""
    if not path:
        return 'only secrets["name"]["key"] and fields can be looked into, by fixed names'
    root, name = path[0], ".".join(path)
    if root not in _ROOTS:
        return f"{root} is not known{_there(root, _ROOTS)}"
    if root == "secrets":
        if len(path) == 1:
            return 'which secret? write secrets["name"], or secrets["name"]["key"]'
        return "" if len(path) <= 3 else f"{name}: there is nothing inside a key"
    if name in FIELDS:
        return ""
    there = [field for field in FIELDS if field.startswith(f"{root}.")]
    return f"{name} is not known{_there(name, there)}"


def _is_of_secrets(node: nodes.Node) -> bool:
    while isinstance(node, nodes.Sub):
        node = node.left
    return _path(node)[:1] == ["secrets"]


def _what(node: nodes.Node) -> str:
    for kind, words in _WORDS.items():
        if isinstance(node, kind):
            return words
    return f"{type(node).__name__.lower()} expressions"


def _there(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (there are {', '.join(known)})" + (f"; did you mean {near[0]}?" if near else "")


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
