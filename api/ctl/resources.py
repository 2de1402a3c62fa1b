"""What a command line names: kinds, objects, `KEY=VALUE` pairs and selectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from api.ctl.errors import Usage
from api.types.kinds import KINDS, Kind, kind_for

_LABEL_KEY = re.compile(
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)


class Target(NamedTuple):
    """A kind, and the name of one object of it; no name means all of the kind."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind.name.lower()}/{self.name}" if self.name else self.kind.plural


def kind(word: str) -> Kind:
    """The kind meant by `word`. Raises Usage, with the kind that may have been meant."""
    found = kind_for(word)
    if found is not None:
        return found
    import difflib

    words = {w: k for k in KINDS for w in (k.name.lower(), k.plural)}
    close = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    plurals = ", ".join(k.plural for k in KINDS)
    hint = f"did you mean {words[close[0]].plural}?" if close else f"the kinds are {plurals}"
    raise Usage(f"there is no kind {word!r}", hint)


def targets(words: Sequence[str]) -> list[Target]:
    """What `services,tasks`, `service web db` or `service/web task/web-1-abcde` name.

    Raises Usage.
    """
    if not words:
        raise Usage("name a kind", "as in `ctl get services`, or `ctl get service/web`")
    if "/" in words[0]:
        return [_slashed(word) for word in words]
    kinds = list(dict.fromkeys(kind(word) for word in words[0].split(",") if word))
    if not kinds:
        raise Usage(f"{words[0]!r} names no kind")
    for word in words[1:]:
        if "/" in word:
            raise Usage(
                f"{word!r} cannot follow the kind {words[0]!r}",
                "write either KIND NAME… or KIND/NAME…",
            )
    if len(words) == 1:
        return [Target(each) for each in kinds]
    return [Target(each, name) for each in kinds for name in words[1:]]


def named(words: Sequence[str]) -> list[Target]:
    """Like `targets`, where each must be one object. Raises Usage."""
    found = targets(words)
    for target in found:
        if not target.name:
            word = target.kind.name.lower()
            raise Usage(
                f"name the {word} you mean",
                f"as in `{word}/NAME`; `ctl get {target.kind.plural}` lists them",
            )
    return found


def _slashed(word: str) -> Target:
    before, slash, name = word.partition("/")
    if not slash or not name or "/" in name:
        raise Usage(f"{word!r} is not of the form KIND/NAME")
    return Target(kind(before), name)


def pairs(words: Sequence[str], *, what: str) -> dict[str, str | None]:
    """`key=value` sets, `key-` removes (None). Raises Usage."""
    found: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            key = word.removesuffix("-")
            if key == word:
                raise Usage(
                    f"{word!r} is no {what}", "write KEY=VALUE to set it, KEY- to remove it"
                )
        if not _LABEL_KEY.match(key):
            raise Usage(
                f"{key!r} is not the key of a {what}",
                "write letters, digits, - _ . with an optional prefix, as in example.com/team",
            )
        if key in found:
            raise Usage(f"the {what} {key!r} is given twice")
        found[key] = value if equals else None
    return found
