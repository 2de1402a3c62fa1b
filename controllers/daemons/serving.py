"""A manager's port and what it shows there: a server certificate that is always good.

The certificate is made here, by the cluster's own authority, and made anew before it ends and
whenever the authority changes; open connections go on. So is the admin's context file. And the
manager says of itself in the store that it lives, which roots it signs with and accepts, and which
data keys it has: the replacing of a root, and of keys, waits for all managers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import structlog
from aiohttp import web

from api import context as contexts
from api.pki.authority import expiry, life
from api.pki.errors import PkiError
from api.pki.identity import Role
from api.pki.tls import server_context
from api.server.listener import Listener, serve
from api.store.contract import LeaseGone, Store, StoreError, Write
from api.trust.keyring import Keyring
from api.trust.records import ManagerRecord, manager_key
from api.trust.trust import Trust
from controllers.daemons import unlocking
from controllers.daemons.renewal import due
from controllers.settings import ManagerSettings

SERVER_DAYS = 90.0
_ADMIN_BEFORE = timedelta(days=30)
_LOOK = 600.0  # seconds between looks at what ends by itself
_ALIVE = 15.0  # seconds a manager is counted after its last sign of life
_RETRY = 1.0

_log = structlog.get_logger("skep.serving")


class Serving:
    name = "certificates"

    def __init__(
        self,
        trust: Trust,
        store: Store,
        keyring: Keyring,
        settings: ManagerSettings,
        name: str,
        *,
        clock: Callable[[], datetime],
        days: float = SERVER_DAYS,
    ) -> None:
        self._trust = trust
        self._store = store
        self._keyring = keyring
        self._settings = settings
        self._manager = name
        self._clock = clock
        self._days = days
        self._listener: Listener | None = None
        self._listening = asyncio.Event()
        self._changed = asyncio.Event()
        self._news = asyncio.Event()  # something to say in the store
        self._made_for = ""  # the roots that the present certificate was made for
        self._due = clock()
        self._lease = 0
        self._since = clock()
        self._said: ManagerRecord | None = None

    async def open(self, app: web.Application) -> None:
        """Listen, and write the admin's context. Raises OSError, PkiError."""
        self._listener = await serve(
            app, host=self._settings.host, port=self._settings.port, tls=self._certificate()
        )
        self._admin()
        self._unlocking()
        self._listening.set()

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.cleanup()
        if self._lease:
            with contextlib.suppress(StoreError):
                await self._store.revoke(self._lease)

    async def run(self) -> None:
        """Until cancelled."""
        await self._listening.wait()
        stops = [
            self._trust.listen(self._changed.set),
            self._keyring.listen(self._news.set),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_good(), name="certificates")
                group.create_task(self._keep_alive(), name="presence")
        finally:
            for stop in stops:
                stop()

    # The certificate

    async def _keep_good(self) -> None:
        while True:
            if self._stale() and self._listener is not None:
                self._listener.use(self._certificate())
                self._news.set()
                _log.info("took a new server certificate", root=self._trust.signing.id)
            self._admin()
            self._unlocking()
            left = (self._due - self._clock()) / timedelta(seconds=1)
            # Not wait_for: it may take being cancelled for the event, when both come at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(left, _LOOK))):
                    await self._changed.wait()
            self._changed.clear()

    def _stale(self) -> bool:
        return self._made_for != self._roots() or self._clock() >= self._due

    def _roots(self) -> str:
        return f"{self._trust.signing.id} of {self._trust.mark}"

    def _certificate(self) -> ssl.SSLContext:
        self._made_for = self._roots()
        issued = self._trust.signing.issue(
            self._manager[:64], Role.MANAGER, hosts=self._settings.hosts, days=self._days
        )
        self._due = due(*life(issued.cert_pem), random.random())  # noqa: S311
        return server_context(issued._replace(ca_pem=self._trust.bundle), strangers=True)

    def _admin(self) -> None:
        """`admin.yaml`: what a person on this machine needs to use the cluster as its admin."""
        try:
            self._write_admin()
        except (contexts.ContextError, PkiError) as error:
            _log.error("the admin's context is not renewed", error=str(error))

    def _unlocking(self) -> None:
        """What this manager shows to who unlocks it, should it be locked when it starts."""
        try:
            kept = unlocking.load(self._settings.data_dir)
            if kept is None or unlocking.stale(kept, self._trust.bundle, self._clock()):
                unlocking.make(self._settings.data_dir, self._trust.signing, self._trust.bundle)
        except (PkiError, OSError) as error:
            _log.error("the certificate for unlocking is not renewed", error=str(error))

    def _write_admin(self) -> None:
        path = self._settings.data_dir / "admin.yaml"
        own = self._settings.url
        others = [each.url for each in self._trust.managers.values() if each.url != own]
        servers = ",".join([own, *others])
        file = contexts.load(path)
        known = file.contexts.get("default")
        if (
            known is not None
            and known.ca == self._trust.bundle
            and known.server == servers
            and expiry(known.cert) > self._clock() + _ADMIN_BEFORE
        ):
            return
        issued = self._trust.signing.issue("admin", Role.ADMIN)
        file.contexts["default"] = contexts.Context(
            server=servers,
            ca=self._trust.bundle,
            cert=issued.cert_pem,
            key=issued.key_pem,
        )
        file.current = "default"
        contexts.save(file, path)

    # That we live

    async def _keep_alive(self) -> None:
        while True:
            try:
                await self._say()
            except LeaseGone:
                self._lease, self._said = 0, None
                continue
            except StoreError as error:
                _log.warning("can't say in the store that this manager lives", error=str(error))
                await asyncio.sleep(_RETRY)
                continue
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ALIVE / 3):
                    await self._news.wait()

    async def _say(self) -> None:
        if not self._lease:
            self._lease = await self._store.grant(_ALIVE)
        await self._store.keep_alive(self._lease)
        signs, _, trusts = self._made_for.partition(" of ")
        record = ManagerRecord(
            url=self._settings.url,
            since=self._since,
            signs=signs,
            trusts=trusts.split("+"),
            ring=self._keyring.applied,
        )
        if record != self._said:
            key = manager_key(self._manager)
            await self._store.commit([Write(key, msgspec.json.encode(record), lease=self._lease)])
            self._said = record
