"""The store of a manager: the etcd that it was given, or a member of its own as its child.

etcd takes any certificate of its authority, so a member of our own has an authority that signs
nothing else: a node's certificate opens no store. (It could not be the cluster's: that is in the
store, and the store comes first.) The certificate, which is the member's and its clients', is
made anew in the middle of its life. etcd reads it again for each connection; the manager's own
connections are made anew with it, and what is open goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from api.pki.authority import Authority, life
from api.pki.errors import PkiError
from api.pki.identity import Role
from api.store.channel import TLSFiles
from api.store.contract import Store
from api.store.etcd import EtcdStore
from api.store.member import Member, MemberError
from controllers.daemons.process import background, wall_clock
from controllers.daemons.renewal import due
from controllers.settings import Fatal, ManagerSettings

DAYS = 90.0
_LOOK = 600.0  # seconds slept at most
_RETRY = 60.0

_log = structlog.get_logger("skep.etcd")


class EtcdCertificate:
    """In `directory`, with the authority that signs it. Raises PkiError, OSError."""

    def __init__(
        self, directory: Path, *, clock: Callable[[], datetime] = wall_clock, days: float = DAYS
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._days = days
        self._authority = Authority.open(directory)
        self.files = self._issue()

    async def keep_good(self, *reconnects: Callable[[], None]) -> None:
        """Until cancelled. `reconnects` are called when there is a new one."""
        while True:
            left = (self._due - self._clock()) / timedelta(seconds=1)
            if left > 0:
                await asyncio.sleep(min(left, _LOOK))
                continue
            try:
                self._issue()
            except OSError as error:
                _log.error("etcd's certificate is not renewed yet", error=str(error))
                await asyncio.sleep(_RETRY)
                continue
            for reconnect in reconnects:
                reconnect()
            _log.info("renewed etcd's certificate")

    def _issue(self) -> TLSFiles:
        issued = self._authority.issue("etcd", Role.ETCD, days=self._days)
        self._due = due(*life(issued.cert_pem), random.random())  # noqa: S311
        return TLSFiles(*issued.write(self._directory, "etcd"))


@contextlib.asynccontextmanager
async def open_store(settings: ManagerSettings, stop: asyncio.Event) -> AsyncIterator[EtcdStore]:
    """Raises Fatal."""
    if settings.etcd_endpoints:
        files = TLSFiles(*settings.etcd_files) if settings.etcd_files else None
        try:
            theirs = EtcdStore(settings.etcd_endpoints, files)
        except (ValueError, OSError) as error:
            raise Fatal(str(error)) from error
        async with _closing(theirs):
            yield theirs
        return
    keys = settings.data_dir / "pki" / "etcd"
    try:
        certificate = EtcdCertificate(keys)
    except (PkiError, OSError) as error:
        raise Fatal(f"the authority in {keys}: {error}") from error
    try:
        async with Member(settings.data_dir / "etcd", certificate.files) as member:
            store = EtcdStore(member.endpoints, member.tls)
            renewing = certificate.keep_good(member.reconnect, store.reconnect)
            async with (
                _closing(store),
                background(renewing, "etcd's certificate", stop),
            ):
                yield store
    except MemberError as error:
        raise Fatal(str(error)) from error


@contextlib.asynccontextmanager
async def _closing(store: Store) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.close()
