"""The key-encryption key in a key management service, behind a unix socket.

The contract is for whoever writes the other end, and is told in docs/encryption.md: one JSON object
a line, one request a connection.

    {"version": 1, "do": "wrap", "key": B64} → {"keyId": TEXT, "wrapped": B64}
    {"version": 1, "do": "unwrap", "keyId": TEXT, "wrapped": B64} → {"key": B64}
    what can't be done                    → {"error": WORDS}
    what may be done later                → {"error": WORDS, "retry": true}
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from api.vault.errors import VaultError
from api.vault.key import BYTES
from api.vault.provider import ProviderAway
from api.vault.ring import Ring

_VERSION = 1
_BY = "kms:"
_SECONDS = 10.0  # for an answer
_MOST = 256 * 1024  # bytes of one


class _Request(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    version: int
    do: str
    key: bytes = b""
    key_id: str = ""
    wrapped: bytes = b""

    def __repr__(self) -> str:
        return f"_Request({self.do})"  # never the key


class _Reply(msgspec.Struct, kw_only=True, rename="camel"):
    key: bytes = b""
    key_id: str = ""
    wrapped: bytes = b""
    error: str = ""
    retry: bool = False

    def __repr__(self) -> str:
        return "_Reply"


class Kms:
    """See `api.vault.provider.KeyProvider`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key_id = ""

    @property
    def name(self) -> str:
        return f"key {self._key_id or '(not known yet)'} of the KMS at {self.path}"

    def knows(self, wraps: Mapping[str, bytes]) -> bool:
        return any(by.startswith(_BY) for by in wraps)

    async def wrap(self, key: bytes) -> dict[str, bytes]:
        reply = await self._ask(_Request(version=_VERSION, do="wrap", key=key))
        if not reply.key_id or not reply.wrapped:
            raise VaultError(f"the KMS at {self.path} wrapped nothing: keyId or wrapped is missing")
        # One that gives back something else later would lose the store: find out now.
        if await self._unwrapped(reply.key_id, reply.wrapped) != key:
            raise VaultError(f"the KMS at {self.path} unwraps another key than it wrapped")
        return {_BY + reply.key_id: reply.wrapped}

    async def unwrap(self, wraps: Mapping[str, bytes]) -> bytes:
        for by, wrapped in wraps.items():
            if by.startswith(_BY):
                return await self._unwrapped(by.removeprefix(_BY), wrapped)
        raise VaultError(
            f"the cluster's data keys are wrapped by {', '.join(wraps)}, and not by a KMS: start"
            " with the vault.key of a manager in the data directory, too"
        )

    def follow(self, ring: Ring, wraps: Mapping[str, bytes]) -> None:
        """There is nothing to keep."""

    async def _unwrapped(self, key_id: str, wrapped: bytes) -> bytes:
        request = _Request(version=_VERSION, do="unwrap", key_id=key_id, wrapped=wrapped)
        reply = await self._ask(request)
        if len(reply.key) != BYTES:
            raise VaultError(f"the KMS at {self.path} unwrapped no key of {BYTES} bytes")
        self._key_id = key_id
        return reply.key

    async def _ask(self, request: _Request) -> _Reply:
        """Raises VaultError, ProviderAway."""
        try:
            async with asyncio.timeout(_SECONDS):
                line = await self._exchange(msgspec.json.encode(request) + b"\n")
        except TimeoutError:
            raise ProviderAway(f"the KMS at {self.path} did not answer in {_SECONDS:g} s") from None
        except ValueError:  # asyncio's, for a line that does not end
            raise VaultError(f"the KMS at {self.path} answered more than {_MOST:,} bytes") from None
        except OSError as error:
            why = error.strerror or error
            raise ProviderAway(f"the KMS at {self.path} does not answer: {why}") from error
        if not line:
            raise ProviderAway(f"the KMS at {self.path} closed the connection without an answer")
        try:
            reply = msgspec.json.decode(line, type=_Reply)
        except msgspec.MsgspecError as error:
            raise VaultError(f"the KMS at {self.path} answered otherwise than agreed") from error
        if reply.error:
            said = f"the KMS at {self.path} can't {request.do}: {reply.error[:500]}"
            raise ProviderAway(said) if reply.retry else VaultError(said)
        return reply

    async def _exchange(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.path), limit=_MOST)
        try:
            writer.write(line)
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
