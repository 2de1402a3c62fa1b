"""What a provider does for the fetcher."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

MOST_BYTES = 1024 * 1024  # of an answer: a full secret in JSON's escapes

# A key of a stored Secret: namespace, name, key. Raises FetchError.
ReadSecret = Callable[[str, str, str], Awaitable[bytes]]


class FetchError(Exception):
    """Nothing was fetched; why, in words that may stand in a secret's status.

    They never hold a value, nor what a server or program answered."""


class Wanted(NamedTuple):
    """What a secret asks for."""

    namespace: str  # the secret's
    name: str
    path: str
    version: int = 0


class Provider(Protocol):
    @property
    def trouble(self) -> str:
        """What will keep it from giving values, in words as a FetchError's; "": nothing."""

    async def fetch(self, wanted: Wanted) -> dict[str, bytes]:
        """What is there, by key. Raises FetchError; never waits for longer than a minute."""

    async def close(self) -> None: ...
