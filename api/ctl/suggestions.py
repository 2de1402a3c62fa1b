"""What the shell offers at the Tab key: kinds, names, contexts, namespaces.

Names come from the cluster, which has one second to answer: an unreachable cluster must not hang
a prompt, and completion never prints an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from api.ctl.session import Session
    from api.types.kinds import Kind

_SECONDS = 1.0
_MOST = 500  # names offered at once

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def kinds_then_names(
    ctx: click.Context, param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """KIND, then NAME…; or KIND/NAME…"""
    from api.types.kinds import KINDS, kind_for

    words: Iterable[str] = ctx.params.get(param.name or "") or ()
    before = [word for word in words if word]
    if "/" in typed:
        kind = kind_for(typed.partition("/")[0])
        prefix = typed.partition("/")[0] + "/"
        return _items((prefix + name for name in _names(ctx, kind)), typed) if kind else []
    if not before:
        if "," in typed:
            done, _, _ = typed.rpartition(",")
            return _items((f"{done},{kind.plural}" for kind in KINDS), typed)
        return _items((kind.plural for kind in KINDS), typed)
    kind = kind_for(before[0])
    return _items((name for name in _names(ctx, kind) if name not in before), typed) if kind else []


def names_of(kind_name: str, *, slashed: str = "") -> Complete:
    """Names of one kind; with `slashed`, also `service/NAME` of that other kind."""

    def complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        from api.types.kinds import kind_for

        kind, other = kind_for(kind_name), kind_for(slashed) if slashed else None
        found = list(_names(ctx, kind)) if kind and "/" not in typed else []
        if other is not None:
            found += [f"{other.name.lower()}/{name}" for name in _names(ctx, other)]
        return _items(found, typed)

    return complete


def kinds(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    from api.types.kinds import KINDS

    return _items((kind.name.lower() for kind in KINDS), typed)


def namespaces(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    from api.types.kinds import NAMESPACE

    return _items(_names(ctx, NAMESPACE), typed)


def contexts(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    from api.context import ContextError, load

    try:
        return _items(sorted(load().contexts), typed)
    except ContextError:
        return []


def _items(words: Iterable[str], typed: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(typed)]


def _names(ctx: click.Context, kind: Kind | None) -> Sequence[str]:
    """The names there are of a kind, none where the cluster does not say."""
    from api.ctl.errors import CtlError
    from api.ctl.session import Session
    from api.pki.errors import PkiError
    from api.rest import ClientError

    session: Session | None = ctx.find_object(Session)
    if session is None or kind is None:
        return ()
    try:
        namespace = session.namespace if kind.namespaced else ""
        return session.ask(
            lambda client: client.names(kind, namespace, _MOST), seconds=_SECONDS, patience=0.0
        )
    except (CtlError, PkiError, ClientError, OSError, ValueError, KeyError):
        return []
