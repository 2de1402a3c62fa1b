"""Services that wait for each other: what is refused of them, and what is only said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from api.server.status import Cause

DependsOn = Callable[[str, str], list[str] | None]  # of a service in a namespace; None: none such


def named(document: dict[str, Any]) -> list[str]:
    """The services that a service waits for."""
    return [str(one["service"]) for one in document.get("spec", {}).get("dependsOn") or ()]


def cycle(namespace: str, name: str, first: list[str], depends_on: DependsOn) -> list[Cause]:
    """The way from a service back to itself, if there is one: nobody on it would ever start."""
    ways = [[name, other] for other in reversed(first)]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        if way[-1] == name:
            message = f"{' → '.join(way)}: they would wait for each other for ever; remove one"
            return [Cause(field="spec.dependsOn", message=message, reason="FieldValueInvalid")]
        if way[-1] not in seen:
            seen.add(way[-1])
            others = depends_on(namespace, way[-1]) or ()
            ways += [[*way, other] for other in reversed(list(others))]
    return []


def absent(namespace: str, first: list[str], depends_on: DependsOn) -> list[str]:
    """Warnings."""
    return [
        f"service {namespace}/{name} does not exist yet; it is waited for"
        for name in dict.fromkeys(first)
        if depends_on(namespace, name) is None
    ]
