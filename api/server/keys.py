"""Requests about the keys that the store is sealed with, and about the lock. Admins'.

No key leaves here, but for a new unlock key: once, to who asked for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from api.server import status
from api.server.auth import identify
from api.store.sealed import SealedStore
from api.trust.keyring import Keyring, KeyringError
from api.types.keys import KeysStatus, UnlockKeyReply
from api.vault.errors import VaultError
from api.vault.key import UnlockKey

JSON = "application/json"

_log = structlog.get_logger("skep.keys")


class KeysHandlers:
    """`report` says how the keys are."""

    def __init__(
        self, store: SealedStore, keyring: Keyring, report: Callable[[], KeysStatus]
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._report = report

    async def status(self, request: web.Request) -> web.Response:
        return _answer(self._report())

    async def rotate(self, request: web.Request) -> web.Response:
        await _done(request, "add a data key", self._keyring.rotate())
        return _answer(self._report())

    async def rewrap(self, request: web.Request) -> web.Response:
        """Another key-encryption key; the new unlock key where the cluster is locked."""
        made = await _done(request, "replace the key-encryption key", self._keyring.rewrap())
        return _unlock_key(made)

    async def discard(self, request: web.Request) -> web.Response:
        """Delete a value that can't be used, so that its object can be made anew."""
        key = request.query.get("key", "")
        if not await _done(request, f"discard {key[:300]}", self._store.discard(key)):
            raise status.Failure(
                404, "NotFound", f"there is no unusable value at {key[:300]!r}; `ctl keys status`"
                " lists those that there are",
            )  # fmt: skip
        return _answer(self._report())

    async def lock(self, request: web.Request) -> web.Response:
        return _unlock_key(await _done(request, "lock", self._keyring.lock()))

    async def lock_anew(self, request: web.Request) -> web.Response:
        made = await _done(request, "change the unlock key", self._keyring.lock(anew=True))
        return _unlock_key(made)

    async def unlock(self, request: web.Request) -> web.Response:
        await _done(request, "take off the lock", self._keyring.unlock())
        return _answer(self._report())


async def _done(request: web.Request, what: str, doing: Awaitable[Any]) -> Any:
    """Raises Failure, StoreError."""
    caller = identify(request)
    try:
        made = await doing
    except KeyringError as error:
        raise status.Failure(409, "Conflict", str(error)) from None
    except VaultError as error:
        raise status.unavailable(f"the keys can't be changed now: {error}") from None
    except OSError as error:
        raise status.Failure(
            500, "InternalError", f"this manager's key file can't be written: {error.strerror}"
        ) from None
    _log.info("the keys are being changed", what=what, by=str(caller.identity))
    return made


def _unlock_key(key: UnlockKey | None) -> web.Response:
    return _answer(UnlockKeyReply(unlock_key=key.text() if key is not None else ""))


def _answer(said: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(said), content_type=JSON)
