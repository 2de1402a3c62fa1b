"""A manager's key-encryption key when it starts, and what that opens: the ring, the sealed store.

The first manager of a cluster makes the key. It is in its file before anything is sealed with it,
and never made where the store holds a cluster already: a key that is lost is not replaced by one
that opens nothing.
"""

from __future__ import annotations

import asyncio
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
from api.vault.kms import Kms
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
            if local is None and (settings.kms is None or settings.leave_kms):
                local = await _first_key(settings, store)
                made = local.path
            keyring = Keyring(store, _providers(settings, local), anchor)
            await keyring.open()
            if local is not None and keyring.local is None:
                log.warning("the KMS has the key now: remove the file", file=str(local.path))
            sealed = SealedStore(
                store,
                keyring.envelope,
                keyring.refresh,
                seen=await store.revision(),
                floor=anchor.seen.revision,
            )
            return Opened(sealed, keyring, anchor, local.vault if local else None)
        except Unavailable as error:
            log.warning("the store does not answer yet", error=str(error))
            await pause(stop)
        except ProviderAway as error:
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


def _providers(settings: ManagerSettings, local: LocalKeys | None) -> list[KeyProvider]:
    """The one that wraps first. Raises Fatal."""
    files: list[KeyProvider] = [local] if local is not None else []
    if settings.kms is None:
        return files
    directory = settings.kms.parent
    if directory.exists() and directory.stat().st_mode & 0o022:
        raise Fatal(
            f"others than its owner can write to {directory}, and put a socket of their own in the"
            f" KMS's place: chmod go-w {directory}"
        )
    kms = Kms(settings.kms)
    return [*files, kms] if settings.leave_kms else [kms, *files]


async def _first_key(settings: ManagerSettings, store: Store) -> LocalKeys:
    """A new key, where the store has no cluster yet, or one that a KMS opens.

    Raises Fatal, StoreError, OSError.
    """
    path = settings.data_dir / VAULT_KEY
    for key in () if settings.leave_kms else (RING, AUTHORITY):
        if await store.get(key) is not None:
            raise Fatal(
                f"this cluster is there already, and {path} is not: its key opens all that is"
                " stored, and without it nothing does. Nothing was changed. Bring the file from a"
                " backup or from another manager of this cluster, or join with a manager's token"
                " (`ctl token show manager` on a manager shows the line)"
            )
    return LocalKeys.create(path)
