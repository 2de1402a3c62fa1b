"""Parts of an object of any shape: those of a wrong type are as if they were not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def block(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def items(parent: dict[str, Any], key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    value = parent.get(key)
    for index, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, dict):
            yield index, item


def texts(parent: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in parent.items():
        if isinstance(key, str) and isinstance(value, str):
            yield key, value
