"""`ctl explain`: what a kind's fields mean, from the schemas that validate them."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from api.ctl.errors import NotFound
from api.ctl.output import Output
from api.ctl.resources import kind
from api.ctl.session import Session, verb
from api.types.kinds import KINDS, Kind
from api.types.meta import API_VERSION

if TYPE_CHECKING:
    from api.schema import Field

_WIDEST = 100  # longer lines are hard to read


def _suggest(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Kinds, then the fields below what is typed."""
    from api.schema import UnknownField, explain
    from api.types.kinds import kind_for

    *walked, last = typed.split(".")
    if not walked:
        return [each.name.lower() for each in KINDS if each.name.lower().startswith(last)]
    found = kind_for(walked[0])
    try:
        children = explain(found, walked[1:]).children if found else ()
    except UnknownField:
        return []
    before = ".".join(walked)
    return [f"{before}.{child.name}" for child in children if child.name.startswith(last)]


@verb("explain")
@click.argument(
    "what", metavar="KIND[.FIELD…]", required=False, default="", shell_complete=_suggest
)
@click.option("-r", "--recursive", is_flag=True, help="All fields below it, without their texts.")
def command(session: Session, what: str, recursive: bool) -> None:
    """Say what a kind, or one of its fields, is.

    \b
    ctl explain service
    ctl explain service.spec.update.order
    ctl explain service.spec.template --recursive
    """
    output = session.output
    if not what:
        output.lines(_kinds())
        return
    from api.schema import UnknownField, explain

    word, *path = what.removesuffix(".").split(".")
    found = kind(word)
    try:
        field = explain(found, [name.removesuffix("[]") for name in path])
    except UnknownField as error:
        raise NotFound(str(error)) from None
    width = min(_WIDEST, shutil.get_terminal_size().columns) if output.terminal else _WIDEST
    output.lines(_tree(output, found, field) if recursive else _page(output, found, field, width))


def _kinds() -> Iterator[str]:
    yield f"Kinds of {API_VERSION}; `ctl explain KIND` says more:"
    for each in KINDS:
        short = f" ({', '.join(each.short_names)})" if each.short_names else ""
        system = "" if each.declared else "   written by the system alone"
        yield f"  {each.name.lower()}{short}{system}"


def _page(output: Output, found: Kind, field: Field, width: int) -> Iterator[str]:
    yield f"{output.bold('KIND:')}     {found.name}"
    yield f"{output.bold('VERSION:')}  {API_VERSION}"
    if field.path:
        yield f"{output.bold('FIELD:')}    {'.'.join(field.path)} <{field.type}>{_marks(field)}"
    yield ""
    yield output.bold("DESCRIPTION:")
    yield from _wrapped(field.description or "(none)", width)
    yield from _facts(field, width)
    if field.children:
        yield ""
        yield output.bold("FIELDS:")
        for child in field.children:
            yield f"  {output.bold(child.name)} <{child.type}>{_marks(child)}"
            yield from _wrapped(child.description, width, indent=6)
            yield from _facts(child, width, indent=6)


def _marks(field: Field) -> str:
    required = " required" if field.required else ""
    return f"{required} read-only" if field.read_only else required


def _facts(field: Field, width: int, indent: int = 2) -> Iterator[str]:
    if field.enum:
        yield from _wrapped(f"One of: {', '.join(map(str, field.enum))}", width, indent)
    if field.format:
        yield from _wrapped(f"Form: {field.format}", width, indent)
    if field.has_default and field.default not in ({}, []):
        more = "".join(f"; with {w}: {json.dumps(v)}" for w, v in field.other_defaults)
        yield from _wrapped(f"Default: {json.dumps(field.default)}{more}", width, indent)
    if field.examples:
        shown = ", ".join(json.dumps(example, ensure_ascii=False) for example in field.examples)
        yield from _wrapped(f"For example: {shown}", width, indent)


def _wrapped(text: str, width: int, indent: int = 2) -> Iterator[str]:
    space = " " * indent
    for paragraph in text.splitlines() or []:
        yield from textwrap.wrap(
            paragraph,
            width,
            initial_indent=space,
            subsequent_indent=space,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]


def _tree(output: Output, found: Kind, field: Field) -> Iterator[str]:
    yield f"{output.bold('KIND:')}     {found.name}"
    yield f"{output.bold('VERSION:')}  {API_VERSION}"
    yield ""
    yield output.bold("FIELDS:")
    yield from _branches(field.children if field.children else (field,), 1)


def _branches(fields: tuple[Field, ...], depth: int) -> Iterator[str]:
    for field in fields:
        yield f"{'  ' * depth}{field.name} <{field.type}>{_marks(field)}"
        yield from _branches(field.children, depth + 1)
