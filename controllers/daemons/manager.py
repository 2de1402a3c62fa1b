"""A manager's life.

It comes up in the order in which its parts need each other (keys, store, cache, API, controllers)
and goes down the other way. Its `admin.yaml` appears when the API first answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import structlog

from api import context as contexts
from api.pki.authority import Authority, expiry
from api.pki.errors import PkiError
from api.pki.identity import Role
from api.pki.tls import server_context
from api.server.app import Settings, make_app, serve
from api.server.audit import Audit
from api.store.cache import Cache
from api.store.channel import TLSFiles
from api.store.contract import ABSENT, Conflict, Store, Unavailable, Write
from api.store.etcd import EtcdStore
from api.store.indexes import standard
from api.store.keys import CLUSTER
from api.store.member import Member, MemberError
from controllers.daemons.process import alone, background, pause
from controllers.manager import Controllers
from controllers.settings import Fatal, ManagerSettings

log = structlog.get_logger("skep.manager")

_RENEW_BEFORE = timedelta(days=30)


async def manage(settings: ManagerSettings, stop: asyncio.Event) -> None:
    """Run a manager until `stop`. Raises Fatal."""
    with alone(settings.data_dir):
        authority = _authority(settings.data_dir / "pki")
        async with contextlib.AsyncExitStack() as stack:
            store = await stack.enter_async_context(_store(settings))
            cluster = await _cluster(store, stop)
            if cluster is None:
                return
            cache = Cache(store)
            standard(cache)
            controllers = Controllers(store, cache, heartbeat=settings.heartbeat)
            await stack.enter_async_context(background(cache.run(), "cache", stop))
            await cache.synced()
            await stack.enter_async_context(background(controllers.run(), "controllers", stop))
            audit = Audit(settings.data_dir / "audit.log", reads=settings.audit_reads)
            stack.callback(audit.close)
            app = make_app(
                store=store,
                cache=cache,
                cluster=cluster,
                components=controllers.report,
                settings=Settings(heartbeat=settings.heartbeat),
                audit=audit,
            )
            served = authority.issue(socket.gethostname()[:64], Role.MANAGER, hosts=settings.hosts)
            try:
                runner = await serve(
                    app, host=settings.host, port=settings.port, tls=server_context(served)
                )
            except OSError as error:
                where = f"{settings.host}:{settings.port}"
                raise Fatal(f"can't listen on {where}: {error.strerror or error}") from error
            stack.push_async_callback(runner.cleanup)
            _admin_context(settings, authority)
            log.info("the API answers", url=settings.url, cluster=cluster)
            gc.collect()
            gc.freeze()
            await stop.wait()
            log.info("ending")


def _authority(directory: Path) -> Authority:
    try:
        return Authority.open(directory)
    except (PkiError, OSError) as error:
        raise Fatal(f"the authority in {directory}: {error}") from error


@contextlib.asynccontextmanager
async def _store(settings: ManagerSettings) -> AsyncIterator[Store]:
    """The etcd that was given, or a member of our own as a child."""
    if settings.etcd_endpoints:
        files = TLSFiles(*settings.etcd_files) if settings.etcd_files else None
        try:
            theirs = EtcdStore(settings.etcd_endpoints, files)
        except (ValueError, OSError) as error:
            raise Fatal(str(error)) from error
        async with _closing(theirs) as store:
            yield store
        return
    # etcd takes any certificate of its authority, so it has one that signs nothing else: a node's
    # certificate opens no store.
    keys = settings.data_dir / "pki" / "etcd"
    files = TLSFiles(*_authority(keys).issue("etcd", Role.ETCD).write(keys, "etcd"))
    try:
        async with (
            Member(settings.data_dir / "etcd", files) as member,
            _closing(EtcdStore(member.endpoints, member.tls)) as store,
        ):
            yield store
    except MemberError as error:
        raise Fatal(str(error)) from error


@contextlib.asynccontextmanager
async def _closing(store: Store) -> AsyncIterator[Store]:
    try:
        yield store
    finally:
        await store.close()


async def _cluster(store: Store, stop: asyncio.Event) -> str | None:
    """The cluster's uid, made at its first start; None if told to stop before the store answers."""
    while not stop.is_set():
        try:
            if (known := await store.get(CLUSTER)) is not None:
                return str(msgspec.json.decode(known.value)["uid"])
            made = {"uid": str(uuid4()), "created": datetime.now(UTC)}
            with contextlib.suppress(Conflict):  # another manager was first: read what it made
                await store.commit([Write(CLUSTER, msgspec.json.encode(made), ABSENT)])
        except Unavailable as error:
            log.warning("the store does not answer yet", error=str(error))
            await pause(stop)
    return None


def _admin_context(settings: ManagerSettings, authority: Authority) -> None:
    """`admin.yaml`: what a person on this machine needs to use the cluster as its admin."""
    path = settings.data_dir / "admin.yaml"
    file = contexts.load(path)
    known = file.contexts.get("default")
    usable = (
        known is not None
        and known.ca == authority.ca_pem
        and expiry(known.cert) > datetime.now(UTC) + _RENEW_BEFORE
    )
    if known is not None and usable:
        known.server = settings.url
    else:
        issued = authority.issue("admin", Role.ADMIN)
        file.contexts["default"] = contexts.Context(
            server=settings.url, ca=issued.ca_pem, cert=issued.cert_pem, key=issued.key_pem
        )
    file.current = "default"
    contexts.save(file, path)
