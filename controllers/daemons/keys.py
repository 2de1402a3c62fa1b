"""A manager's key-encryption key when it starts, and what that opens: the ring, the sealed store.

The first manager of a cluster makes the key. It is in its file before anything is sealed with it,
and never made where the store holds a cluster already: a key that is lost is not replaced by one
that opens nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from api.store.contract import Store, StoreError, Unavailable
from api.store.keys import RING
from api.store.sealed import SealedStore
from api.trust.keyring import Keyring
from api.trust.records import AUTHORITY
from api.vault.anchor import FILE as SEEN
from api.vault.anchor import Anchor
from api.vault.errors import VaultError
from api.vault.local import LocalKeys, Locked
from api.vault.provider import KeyProvider, ProviderAway
from api.vault.vault import Vault
from controllers.daemons.process import pause
from controllers.settings import Fatal, ManagerSettings

VAULT_KEY = "vault.key"  # in the data directory

log = structlog.get_logger("skep.manager")


class Opened(NamedTuple):
    store: SealedStore
    keyring: Keyring
    anchor: Anchor
    vault: Vault | None  # of the key in the file, where there is one


def load_key(settings: ManagerSettings) -> LocalKeys | None:
    """The key in its file; None where there is no file. Raises Fatal, Locked."""
    path = settings.data_dir / VAULT_KEY
    if not path.exists():
        return None
    try:
        return LocalKeys.load(path)
    except Locked:
        raise
    except VaultError as error:
        raise Fatal(
            f"the key-encryption key can't be used: {error}. Nothing was changed; bring the file"
            " from a backup, or that of another manager of this cluster"
        ) from error


async def open_sealed(
    settings: ManagerSettings, store: Store, local: LocalKeys | None, stop: asyncio.Event
) -> Opened | None:
    """The store behind its seal. None if told to stop before it can be. Raises Fatal."""
    made: Path | None = None
    while not stop.is_set():
        try:
            anchor = Anchor.load(settings.data_dir / SEEN)
            if local is None:
                local = await _first_key(settings, store)
                made = local.path
            providers: Sequence[KeyProvider] = [local]
            keyring = Keyring(store, providers, anchor)
            await keyring.open()
            sealed = SealedStore(store, keyring.envelope, keyring.refresh)
            return Opened(sealed, keyring, anchor, local.vault if local else None)
        except (Unavailable, ProviderAway) as error:
            log.warning("the data keys can't be read yet", error=str(error))
            await pause(stop)
        except VaultError as error:
            if made is not None:
                made.unlink(missing_ok=True)
            raise Fatal(f"the store can't be opened: {error}") from error
        except StoreError as error:
            raise Fatal(f"the store can't be read: {error}") from error
        except OSError as error:
            raise Fatal(
                f"{error.filename or settings.data_dir} can't be written: {error.strerror}"
            ) from error
    return None


async def _first_key(settings: ManagerSettings, store: Store) -> LocalKeys:
    """A new key, where the store has no cluster yet. Raises Fatal, StoreError, OSError."""
    path = settings.data_dir / VAULT_KEY
    for key in (RING, AUTHORITY):
        if await store.get(key) is not None:
            raise Fatal(
                f"this cluster is there already, and {path} is not: its key opens all that is"
                " stored, and without it nothing does. Nothing was changed. Bring the file from a"
                " backup or from another manager of this cluster, or join with a manager's token"
                " (`ctl token show manager` on a manager shows the line)"
            )
    return LocalKeys.create(path)
