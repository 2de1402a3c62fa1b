"""Placement constraints: Swarm's `node.labels.zone == a`, with `in`, `notin` and existence.

    key == value            key in (a, b)       key
    key != value            key notin (a, b)    !key

Keys: node.id, node.hostname, node.ip (an address or a CIDR block), node.role, node.platform.os,
node.platform.arch, node.labels.<label> (the node object's own labels) and engine.labels.<label>.
Values compare without regard to case, as Swarm's do. `!=` and `notin` also hold on a node that
has no such label.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

import msgspec

from api.types.node import Node

_NODE_LABEL = "node.labels."
_ENGINE_LABEL = "engine.labels."
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv8": "arm64"}

_KEY = r"[A-Za-z][A-Za-z0-9._/-]*"
_COMPARE = re.compile(rf"^\s*({_KEY})\s*(==|!=)\s*(.*?)\s*$")
_SET = re.compile(rf"^\s*({_KEY})\s+(in|notin)\s*\((.*)\)\s*$")
_EXISTS = re.compile(rf"^\s*(!?)\s*({_KEY})\s*$")

_PLAIN: dict[str, Callable[[Node], str]] = {
    "node.id": lambda node: node.metadata.uid,
    "node.hostname": lambda node: node.status.hostname or node.metadata.name,
    "node.ip": lambda node: node.status.address,
    "node.role": lambda node: node.spec.role,
    "node.platform.os": lambda node: node.status.os,
    "node.platform.arch": lambda node: architecture(node.status.architecture),
}


def architecture(name: str) -> str:
    """The name images use (amd64, arm64) for the one a kernel may use (x86_64, aarch64)."""
    lower = name.lower()
    return _ARCHITECTURES.get(lower, lower)


class Constraint(msgspec.Struct, frozen=True):
    key: str
    operator: str  # == | != | in | notin | exists | absent
    values: tuple[str, ...] = ()
    text: str = ""  # as it was written

    def met_by(self, node: Node) -> bool:
        found = _value(self.key, node)
        match self.operator:
            case "exists":
                return found is not None
            case "absent":
                return found is None
            case "==" | "in":
                return found is not None and self._among(found)
            case _:
                return found is None or not self._among(found)

    def _among(self, found: str) -> bool:
        if self.key == "node.ip":
            return any(_in_block(found, block) for block in self.values)
        if self.key == "node.platform.arch":
            return any(found == architecture(value) for value in self.values)
        lower = found.lower()
        return any(lower == value.lower() for value in self.values)


@lru_cache(maxsize=4096)
def parse(text: str) -> Constraint:
    """Raises ValueError, saying what was expected."""
    if match := _COMPARE.match(text):
        key, operator, value = match.groups()
        if not value:
            raise ValueError(f"{text!r}: there is no value after {operator}")
        return _checked(Constraint(key, operator, (value,), text))
    if match := _SET.match(text):
        key, operator, inside = match.groups()
        values = tuple(value.strip() for value in inside.split(",") if value.strip())
        if not values:
            raise ValueError(f"{text!r}: there are no values in the parentheses")
        return _checked(Constraint(key, operator, values, text))
    if match := _EXISTS.match(text):
        negated, key = match.groups()
        return _checked(Constraint(key, "absent" if negated else "exists", (), text))
    raise ValueError(
        f"{text!r} is not a constraint; write it like node.labels.zone == a, "
        "node.hostname != host1, node.labels.disk in (ssd, nvme) or !node.labels.spot"
    )


def _checked(constraint: Constraint) -> Constraint:
    key = constraint.key
    labelled = any(
        key.startswith(prefix) and len(key) > len(prefix) for prefix in (_NODE_LABEL, _ENGINE_LABEL)
    )
    if not labelled and key not in _PLAIN:
        raise ValueError(
            f"{constraint.text!r}: there is no key {key}; there are {', '.join(_PLAIN)}, "
            "node.labels.<label> and engine.labels.<label>"
        )
    if key == "node.ip":
        for value in constraint.values:
            try:
                ipaddress.ip_network(value, strict=False)
            except ValueError as error:
                raise ValueError(f"{constraint.text!r}: {error}") from None
    return constraint


def label_of(key: str, node: Node) -> str:
    """What a spread preference's key is on that node; "" where it has none."""
    return _value(key, node) or ""


def _value(key: str, node: Node) -> str | None:
    if key.startswith(_NODE_LABEL):
        return node.metadata.labels.get(key[len(_NODE_LABEL) :])
    if key.startswith(_ENGINE_LABEL):
        return node.status.engine.labels.get(key[len(_ENGINE_LABEL) :])
    plain = _PLAIN.get(key)
    return plain(node) if plain is not None else None


def _in_block(address: str, block: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False
