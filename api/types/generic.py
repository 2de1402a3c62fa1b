"""Generic resources: what a machine has besides CPU and memory, and tasks reserve: GPUs, licences.

The words are Swarm's (`node-generic-resources`). A kind (`gpu`) is on a node either *named*, a list
in which each has a name of its own (`GPU-6a2f…`, `/dev/ttyUSB0`), or *discrete*, a plain number.
Of named ones a task is given certain ones, which nobody else has; of discrete ones a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

Amount = int | list[str]
Claim = tuple[str, str]  # kind, name

# A kind becomes part of an environment variable's name; a name, an element of its value.
KIND_PATTERN = r"^[A-Za-z0-9][-_.A-Za-z0-9]{0,62}$"
NAME_PATTERN = r"^[^\s,\u0000-\u001f\u0085\ufeff]{1,255}$"
MOST = 1_000_000_000  # of a kind on a node


def count(amount: Amount) -> int:
    return amount if isinstance(amount, int) else len(amount)


def claims(generic: Mapping[str, Amount] | None) -> Iterator[Claim]:
    """Those that have names."""
    for kind, amount in (generic or {}).items():
        if not isinstance(amount, int):
            for name in amount:
                yield kind, name


def shown(kind: str, amount: Amount) -> str:
    """For people: `gpu 2`, `gpu GPU-1,GPU-2`."""
    return f"{kind} {amount if isinstance(amount, int) else ','.join(amount)}"


def parse(texts: Iterable[str]) -> dict[str, Amount]:
    """`gpu=2`, `gpu=GPU-1,GPU-2`; also `gpu=GPU-1` and `gpu=GPU-2` apart, as Docker has it.

    Raises ValueError, saying what was expected.
    """
    found: dict[str, Amount] = {}
    for text in texts:
        kind, equals, value = text.partition("=")
        if not equals or not re.match(KIND_PATTERN, kind):
            raise ValueError(
                f"{text!r} is not a resource; write it like gpu=2, gpu=GPU-1,GPU-2 or"
                " modem=/dev/ttyUSB0"
            )
        had = found.get(kind)
        if value.isascii() and value.isdigit():
            if had is not None:
                raise ValueError(f"{kind} is given twice, once as a number: {text!r}")
            if int(value) > MOST:
                raise ValueError(f"{text!r}: more than {MOST} is too much")
            found[kind] = int(value)
            continue
        if isinstance(had, int):
            raise ValueError(f"{kind} is given twice, once as a number: {text!r}")
        found[kind] = [*(had or ()), *_names(text, value)]
    for kind, amount in found.items():
        if not isinstance(amount, int) and len(set(amount)) < len(amount):
            twice = next(name for name in amount if amount.count(name) > 1)
            raise ValueError(f"{kind} has {twice} twice; each name is one thing")
    return found


def _names(text: str, value: str) -> list[str]:
    names = value.split(",")
    if not all(re.match(NAME_PATTERN, name) for name in names):
        raise ValueError(
            f"{text!r}: after the '=' comes a number, or names with commas and without spaces"
            " between them"
        )
    return names
