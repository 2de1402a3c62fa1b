"""A manager's life.

It comes up in the order in which its parts need each other (keys, store, cache, API, controllers)
and goes down the other way. Its `admin.yaml` appears when the API first answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import structlog

from api.pki.errors import PkiError
from api.server.app import Settings, make_app
from api.server.audit import Audit
from api.server.keys import KeysHandlers
from api.store.cache import Cache
from api.store.contract import ABSENT, Conflict, Store, StoreError, Unavailable, Write
from api.store.indexes import standard
from api.store.keys import CLUSTER
from api.trust.trust import Trust
from api.vault.errors import VaultError
from api.vault.local import Locked
from api.vault.vault import Vault
from controllers.daemons.etcd import open_store
from controllers.daemons.keys import VAULT_KEY, load_key, open_sealed
from controllers.daemons.process import alone, background, keep_out_of_dumps, pause
from controllers.daemons.serving import Serving
from controllers.daemons.unlocking import until_unlocked
from controllers.encryption import EncryptionController
from controllers.fetcher.definitions import Definitions, ProvidersError
from controllers.manager import Controllers, wall_clock
from controllers.settings import Fatal, ManagerSettings

log = structlog.get_logger("skep.manager")


async def manage(settings: ManagerSettings, stop: asyncio.Event) -> None:
    """Run a manager until `stop`. Raises Fatal."""
    keep_out_of_dumps()
    with alone(settings.data_dir):
        async with contextlib.AsyncExitStack() as stack:
            try:
                local = load_key(settings)
            except Locked as locked:
                path = settings.data_dir / VAULT_KEY
                local = await until_unlocked(settings, path, locked, stop)
                if local is None:
                    return
            raw = await stack.enter_async_context(open_store(settings, stop))
            opened = await open_sealed(settings, raw, local, stop)
            if opened is None:
                return
            store, keyring = opened.store, opened.keyring
            cluster = await _cluster(store, stop)
            if cluster is None:
                return
            trust = await _trust(store, opened.vault)
            trust.sealing_life = settings.sealing_key_life
            cache = Cache(store)
            standard(cache)
            serving = Serving(trust, store, keyring, settings, _name(settings), clock=wall_clock)
            controllers = Controllers(
                store,
                cache,
                trust=trust,
                heartbeat=settings.heartbeat,
                providers=_providers(settings),
                more=(keyring, trust, serving),
            )
            encryption = EncryptionController(
                store,
                cache,
                keyring,
                trust,
                opened.anchor,
                controllers.recorder,
                wall_clock,
                manager=_name(settings),
                purge=None if settings.etcd_endpoints else raw.reclaim,
            )
            controllers.add(encryption)
            await stack.enter_async_context(background(cache.run(), "cache", stop))
            await cache.synced()
            await stack.enter_async_context(background(controllers.run(), "controllers", stop))
            audit = Audit(settings.data_dir / "audit.log", reads=settings.audit_reads)
            stack.callback(audit.close)
            app = make_app(
                store=store,
                cache=cache,
                trust=trust,
                cluster=cluster,
                components=controllers.report,
                note=controllers.recorder.note,
                settings=Settings(
                    heartbeat=settings.heartbeat,
                    node_days=settings.node_cert_life / timedelta(days=1),
                    shared_store=bool(settings.etcd_endpoints),
                ),
                audit=audit,
                keys=KeysHandlers(store, keyring, encryption.status),
            )
            stack.push_async_callback(serving.close)
            try:
                await serving.open(app)
            except OSError as error:
                where = f"{settings.host}:{settings.port}"
                raise Fatal(f"can't listen on {where}: {error.strerror or error}") from error
            except PkiError as error:
                raise Fatal(f"the server's certificate can't be made: {error}") from error
            log.info("the API answers", url=settings.url, cluster=cluster)
            gc.collect()
            gc.freeze()
            await stop.wait()
            log.info("ending")


def _providers(settings: ManagerSettings) -> Definitions:
    """Where secrets' values may be fetched from. Raises Fatal."""
    definitions = Definitions(settings.providers)
    try:
        definitions.load()
    except ProvidersError as error:
        raise Fatal(f"the providers of secrets' values can't be used:\n{error}") from error
    return definitions


def _name(settings: ManagerSettings) -> str:
    """What tells managers from each other: several may be on one machine."""
    return f"{socket.gethostname()}:{settings.port}"


async def _trust(store: Store, vault: Vault | None) -> Trust:
    """The cluster's authority and tokens. Raises Fatal."""
    trust = Trust(store, vault)
    try:
        await trust.open()
    except VaultError as error:
        raise Fatal(f"the cluster's authority can't be opened: {error}") from error
    except StoreError as error:
        raise Fatal(f"the cluster's authority can't be read: {error}") from error
    return trust


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
