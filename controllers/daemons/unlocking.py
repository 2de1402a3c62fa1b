"""A locked manager: it listens for the unlock key, and does nothing else.

Its certificate is in `unlock.json` in the data directory, made ahead while the manager ran, by the
cluster's authority. It is good for one name, which no machine has: `ctl unlock` asks for it, and to
everybody else the port shows a certificate that they don't accept. So who steals the disk of a
locked manager can pose as one to nobody but who unlocks it.

A wrong key costs one failed decryption and tells nothing but that it is wrong; there is nothing to
be tried out in 2^256, so nobody is made to wait.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from api.pki.authority import Authority, expiry
from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private
from api.pki.identity import Role
from api.pki.tls import server_context
from api.server import status
from api.server.listener import serve
from api.server.middleware import Handler
from api.server.status import Failure
from api.types.keys import UNLOCK_NAME, UNLOCK_PATH, UnlockReply, UnlockRequest
from api.vault.errors import VaultError
from api.vault.key import UnlockKey
from api.vault.local import LocalKeys, Locked
from controllers.settings import Fatal, ManagerSettings

FILE = "unlock.json"
_DAYS = 3 * 365.0  # a manager may be off for long
_BEFORE = timedelta(days=2 * 365)
_MAX_BODY = 4096
_BODY_SECONDS = 10.0
_QUIET = 10.0  # seconds between words about wrong keys

_log = structlog.get_logger("skep.lock")


class _Kept(msgspec.Struct):
    cert: str
    key: str
    ca: str

    def __repr__(self) -> str:
        return "_Kept"  # never the key


def load(directory: Path) -> Credentials | None:
    """None where there is none. Raises PkiError."""
    path = directory / FILE
    if not path.exists():
        return None
    try:
        kept = msgspec.json.decode(read_private(path), type=_Kept)
    except msgspec.MsgspecError as error:
        raise PkiError(f"{path} is damaged: {error}") from error
    return Credentials(cert_pem=kept.cert, key_pem=kept.key, ca_pem=kept.ca)


def stale(kept: Credentials, bundle: str, now: datetime) -> bool:
    return kept.ca_pem != bundle or expiry(kept.cert_pem) < now + _BEFORE


def make(directory: Path, authority: Authority, bundle: str) -> None:
    """Raises OSError, PkiError."""
    made = authority.issue("unlock", Role.UNLOCK, hosts=[UNLOCK_NAME], days=_DAYS)
    kept = _Kept(made.cert_pem, made.key_pem, bundle)
    make_private_directory(directory)
    write_private(directory / FILE, msgspec.json.encode(kept).decode())


async def until_unlocked(
    settings: ManagerSettings, path: Path, locked: Locked, stop: asyncio.Event
) -> LocalKeys | None:
    """What the key file holds, once somebody brought its key; None if told to stop before.

    Raises Fatal.
    """
    try:
        shown = load(settings.data_dir)
        if shown is None:
            raise PkiError(f"{settings.data_dir / FILE} does not exist")
        tls = server_context(shown, strangers=True)
    except PkiError as error:
        raise Fatal(
            f"this manager is locked, and can't listen for its unlock key: {error}. Bring the file"
            " from a backup, or join with a manager's token of another manager"
        ) from error
    door = _Door(path, locked)
    try:
        listener = await serve(door.app(), host=settings.host, port=settings.port, tls=tls)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise Fatal(f"can't listen on {where}: {error.strerror or error}") from error
    _log.warning("this manager is locked and serves nothing; open it with: ctl unlock")
    told = asyncio.create_task(stop.wait())
    opened = asyncio.create_task(door.opened.wait())
    try:
        await asyncio.wait({told, opened}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (told, opened):
            task.cancel()
        await asyncio.gather(told, opened, return_exceptions=True)
        await listener.cleanup()
    return door.keys


class _Door:
    def __init__(self, path: Path, locked: Locked) -> None:
        self.opened = asyncio.Event()
        self.keys: LocalKeys | None = None
        self._path = path
        self._blob = locked.blob
        self._wrong = 0
        self._silent_until = 0.0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_failures], client_max_size=_MAX_BODY)
        app.router.add_get(UNLOCK_PATH, self._status)
        app.router.add_post(UNLOCK_PATH, self._unlock)
        return app

    async def _status(self, request: web.Request) -> web.Response:
        return _answer(UnlockReply(locked=self.keys is None))

    async def _unlock(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
            wanted = msgspec.json.decode(body, type=UnlockRequest)
            self.keys = LocalKeys.unlocked(self._path, self._blob, UnlockKey.parse(wanted.key))
        except TimeoutError:
            raise status.too_slow(_BODY_SECONDS) from None
        except msgspec.MsgspecError:
            raise status.bad_request("this is not a request to unlock") from None
        except VaultError as error:
            self._refused(request.remote or "unknown")
            raise status.forbidden(str(error)) from None
        _log.info("unlocked", by=request.remote)
        self.opened.set()
        return _answer(UnlockReply(locked=False))

    def _refused(self, remote: str) -> None:
        self._wrong += 1
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + _QUIET
            _log.warning("a wrong unlock key", remote=remote, so_far=self._wrong)


@web.middleware
async def _failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Failure as error:
        failure = error
    except web.HTTPException as error:
        failure = status.unavailable("this manager is locked: open it with `ctl unlock`")
        if error.status == 413:
            failure = status.too_large(_MAX_BODY)
    return web.Response(
        status=failure.code,
        body=msgspec.json.encode(failure.status()),
        content_type="application/json",
    )


def _answer(said: UnlockReply) -> web.Response:
    return web.Response(body=msgspec.json.encode(said), content_type="application/json")
