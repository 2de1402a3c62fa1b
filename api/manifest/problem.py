"""A problem in a file: where, in which object, what."""

from __future__ import annotations

import msgspec

from api.schema import Code, Path, Problem


class Located(msgspec.Struct, frozen=True, kw_only=True):
    """`file:line:column: services/web: spec.replica: unknown field; did you mean replicas?`

    Lines and columns count from 1; 0 where there is none, as for a file that can't be read.
    """

    source: str
    line: int = 0
    column: int = 0
    object: str = ""  # services/web; empty where it is not known
    problem: Problem

    @property
    def path(self) -> Path:
        return self.problem.path

    @property
    def field(self) -> str:
        return self.problem.field

    @property
    def message(self) -> str:
        return self.problem.message

    @property
    def hint(self) -> str:
        return self.problem.hint

    @property
    def code(self) -> Code:
        return self.problem.code

    @property
    def place(self) -> str:
        """`file:line:column`, as editors take it."""
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.object, str(self.problem)) if part)


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a text, before anybody knows whose it is. Counts from 1."""

    line: int
    column: int
    message: str
    hint: str = ""
    code: Code = Code.SYNTAX

    def located(self, source: str) -> Located:
        problem = Problem((), self.message, self.hint, self.code)
        return Located(source=source, line=self.line, column=self.column, problem=problem)
