"""The life of a token that was given to us: it is renewed while there is a third of it left.

    GET  /v1/auth/token/lookup-self    {"data": {"ttl", "renewable", "expire_time"}}; ttl 0: no end
    POST /v1/auth/token/renew-self     {"auth": {"lease_duration"}}

What can't go on is said while the token is still good. A token that is replaced where it came from
is another one, looked at anew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import structlog

from controllers.fetcher.contract import FetchError

_LEFT = 1 / 3  # of its life
_AGAIN = 30.0  # seconds until another try, where the server did not answer
_TIME = re.compile(r"[-+0-9T:.Z]{19,40}")

_log = structlog.get_logger("skep.fetcher")

# A request with that method, path and token; its answer. Raises FetchError.
Ask = Callable[[str, str, str], Awaitable[dict[str, Any]]]


class Refused(FetchError):
    """The server answered, and said no."""


class _Life(NamedTuple):
    left: float  # seconds; 0: it does not end
    renewable: bool
    ends: str  # when, as the server says it


class TokenLife:
    """Of one token at a time. `trouble` says in words why it will end, if it will."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._token = ""
        self._renewing: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self.trouble = ""

    async def keep(self, token: str) -> None:
        """See to it that this token lives on, from now on. Returns when it was looked at."""
        async with self._one:
            if token != self._token:
                await self.close()
                self._token = token
                await self._begin()

    async def _begin(self) -> None:
        try:
            life = await self._look()
        except FetchError as error:
            self._say(f"whether its token ends can't be told: {error}")
            if isinstance(error, Refused):
                return
            life = None
        self._renewing = asyncio.create_task(self._renew(life), name="a provider's token")

    async def close(self) -> None:
        self._token, self.trouble = "", ""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None

    async def _renew(self, life: _Life | None) -> None:
        """Until it can't be, or needn't be."""
        while True:
            try:
                life = life or await self._look()
                self.trouble = ""
                if not life.left:
                    return
                if not life.renewable:
                    self._say(f"its token ends at {life.ends}, and is none that can be renewed")
                    return
                await asyncio.sleep(life.left * (1 - _LEFT))
                await self._ask("POST", "auth/token/renew-self", self._token)
                before, life = life.left, await self._look()
                if 0 < life.left <= before * _LEFT + 1:
                    self._say(f"its token ends at {life.ends}, as old as it may become")
                    return
            except Refused as error:
                self._say(f"its token can't be renewed: {error}")
                return
            except FetchError as error:
                self._say(f"its token could not be renewed yet: {error}")
                life = None
                await asyncio.sleep(_AGAIN)

    async def _look(self) -> _Life:
        """Raises FetchError."""
        said = (await self._ask("GET", "auth/token/lookup-self", self._token)).get("data")
        said = said if isinstance(said, dict) else {}
        left, ends = said.get("ttl"), said.get("expire_time")
        if not isinstance(left, int | float):
            raise Refused("its answer says no time")
        known = (
            ends if isinstance(ends, str) and _TIME.fullmatch(ends) else "a time it does not say"
        )
        return _Life(float(left), said.get("renewable") is True, known)

    def _say(self, words: str) -> None:
        if words != self.trouble:
            _log.warning("a provider's token", why=words)
        self.trouble = words
