"""The ring of data keys as the store has it, followed by every manager: what values open with.

The record is `wraps`, a key under the key-encryption key, and `sealed`, the ring under that key;
a new one each time, so it seals once. The model: the record is read (`open`), and `followed`.
A manager that meets a value of a data key it does not know looks again (`refresh`): a key is in
the ring before anything is sealed with it.

A record that does not open leaves the ring as it was, and `problem` says why. One that is gone, no
record, or of a lower generation, is put back as it was: a manager that runs has the ring, and
without it the store is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
import structlog

from api.store.contract import ABSENT, Change, Conflict, KeyValue, Store, StoreError, Write
from api.store.keys import RING, ROOT
from api.trust.followed import Followed
from api.vault import ring as rings
from api.vault.anchor import Anchor
from api.vault.envelope import Envelope
from api.vault.errors import VaultError
from api.vault.key import UnlockKey, VaultKey
from api.vault.local import LocalKeys
from api.vault.provider import KeyProvider, ProviderAway
from api.vault.ring import Lock, Ring
from api.vault.vault import Vault

_TRIES = 10

_log = structlog.get_logger("skep.keyring")


class _Record(msgspec.Struct, kw_only=True):
    wraps: dict[str, bytes]
    sealed: bytes


class _NoRecord(VaultError):
    """There is none, or it is none."""


class KeyringError(Exception):
    """What was asked of the keys can't be done as they stand; says why."""


class Keyring(Followed):
    """`store` is the one below the sealed one. `providers`: the first one wraps, all unwrap."""

    name = "keyring"
    passing = (StoreError, ProviderAway)

    def __init__(
        self,
        store: Store,
        providers: Sequence[KeyProvider],
        anchor: Anchor,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.envelope = Envelope()
        self.problem = ""
        self.applied = 0  # the generation whose file this manager has written
        self.clock = clock
        super().__init__(store, RING)
        self._providers = list(providers)
        self._anchor = anchor
        self._ring: Ring | None = None
        self._wraps: dict[str, bytes] = {}
        self._raw = b""
        self._revision = 0

    # Following

    async def open(self) -> None:
        """Read it, or make it where the store has none. Raises StoreError, VaultError."""
        found = await self._store.get(RING)
        if found is None:
            self._anchor.check(0)
            found = await self._made()
        await self._read(found)
        ring = self.ring
        if not self._providers[0].knows(self._wraps):
            _log.info("wrapping the data keys anew", by=self._providers[0].name)
            lock = ring.lock if isinstance(self._providers[0], LocalKeys) else None
            await self.update(lambda now: rings.locked(now, lock))
        now = await self._store.revision()
        if now < self._anchor.seen.revision:
            _log.error(
                "the store is behind what this manager has seen of it: it was set back, to a"
                " backup perhaps; what it said since is gone",
                seen=self._anchor.seen.revision,
                now=now,
            )
            self._anchor.set_back(now)

    async def _caught_up(self) -> int:
        at = await self._store.revision()
        await self.refresh()
        return at

    async def _told(self, batch: Sequence[Change]) -> None:
        if any(change.key == RING for change in batch):
            await self.refresh()

    async def refresh(self) -> None:
        """Be as far as the store is. Raises StoreError, ProviderAway."""
        found = await self._store.get(RING)
        try:
            await self._read(found)
            self.problem = ""
        except ProviderAway:
            raise
        except _NoRecord as error:
            await self._put_back(found, str(error))
        except VaultError as error:
            self._ill(str(error))

    # What there is

    @property
    def ring(self) -> Ring:
        if self._ring is None:
            raise KeyringError("the ring of data keys is not there yet")
        return self._ring

    @property
    def kept_by(self) -> str:
        """Where the key-encryption key is, for people."""
        return self._providers[0].name

    @property
    def local(self) -> LocalKeys | None:
        """The key-encryption key, where it is in a file of the manager's."""
        keeps = self._providers[0]
        return keeps if isinstance(keeps, LocalKeys) else None

    # Changing

    async def update(self, change: Callable[[Ring], Ring | None]) -> Ring:
        """The ring that `change` makes of the newest, stored; None leaves it as it is.

        Raises StoreError, VaultError, and what `change` raises.
        """
        for _ in range(_TRIES):
            changed = change(self.ring)
            if changed is None:
                return self.ring
            raw, wraps = await self._encoded(changed)
            try:
                revision = await self._store.commit([Write(RING, raw, self._revision)])
            except Conflict:
                await self.refresh()
                continue
            self._take(changed, wraps, raw, revision)
            return changed
        raise Conflict([RING])

    async def rotate(self) -> Ring:
        """Seal with a new data key from now on. Raises KeyringError, StoreError, VaultError."""

        def add(ring: Ring) -> Ring:
            if not ring.settled:
                raise KeyringError(
                    "values are being re-encrypted already; `ctl keys status` says how far that is"
                )
            return rings.rotated(ring, self.clock())

        return await self.update(add)

    async def settle(self, generation: int) -> Ring:
        """Drop all keys but the one that seals, if the ring is still of this generation."""
        return await self.update(
            lambda ring: (
                rings.settled(ring, self.clock()) if ring.generation == generation else None
            )
        )

    async def rewrap(self) -> UnlockKey | None:
        """Begin to put a new key-encryption key in the old one's place; with a KMS, wrap with its
        present one. A locked cluster gets a new unlock key, which is returned.

        Raises KeyringError, StoreError, VaultError, OSError.
        """
        local = self.local
        if local is None:
            await self.update(rings.wrapped_anew)
            return None
        if self.ring.kek:
            raise KeyringError(
                "the key-encryption key is being replaced already; `ctl keys status` says whom that"
                " waits for"
            )
        unlock = UnlockKey.new() if self.ring.lock else None
        new = VaultKey.new()
        local.add(new)
        lock = self._lock(local, unlock) if unlock else None
        await self.update(lambda ring: rings.moving(ring, new.text(), lock))
        return unlock

    async def finish_rewrap(self) -> None:
        """Wrap for the old key-encryption key no more. Raises StoreError, VaultError."""
        if self.local is None or not self.ring.kek:
            return
        self.local.only(VaultKey.parse(self.ring.kek))
        await self.update(lambda ring: rings.moved(ring) if ring.kek else None)

    async def lock(self, *, anew: bool = False) -> UnlockKey:
        """Lock, or with `anew` lock with another key. Nobody is told the key again.

        Raises KeyringError, StoreError, VaultError.
        """
        local = self._lockable()
        if (self.ring.lock is not None) != anew:
            raise KeyringError(
                "the cluster is not locked; see `ctl lock enable`"
                if anew
                else "the cluster is locked already; `ctl lock rotate` makes another unlock key"
            )
        key = UnlockKey.new()
        lock = self._lock(local, key)
        await self.update(lambda ring: rings.locked(ring, lock))
        self._written()
        return key

    async def unlock(self) -> None:
        """Lock no more. Raises KeyringError, StoreError, VaultError."""
        self._lockable()
        await self.update(lambda ring: rings.locked(ring, None) if ring.lock else None)
        self._written()

    def _lockable(self) -> LocalKeys:
        local = self.local
        if local is None:
            raise KeyringError(
                "the key-encryption key is not in a file that could be locked, but in"
                f" {self.kept_by}"
            )
        if self.ring.kek:
            raise KeyringError(
                "the key-encryption key is being replaced; try again when that is done"
                " (`ctl keys status`)"
            )
        return local

    def _lock(self, local: LocalKeys, key: UnlockKey) -> Lock:
        return Lock(id=key.id.hex(), since=self.clock(), sealed=local.sealed_with(key))

    def _written(self) -> None:
        """Raises KeyringError where this manager's file is not what the ring asks for."""
        if self.applied < self.ring.generation:
            raise KeyringError(f"it is stored, and not done on this manager yet: {self.problem}")

    # Reading and writing the record

    async def _made(self) -> KeyValue:
        """The record of a new ring; of another manager's where that was first."""
        page = await self._store.list(ROOT, limit=1)
        ring = rings.first(self.clock(), plain=bool(page.items))
        raw, _ = await self._encoded(ring)
        try:
            revision = await self._store.commit([Write(RING, raw, ABSENT)])
        except Conflict:
            found = await self._store.get(RING)
            if found is None:
                raise
            return found
        if ring.plain:
            _log.info("the store is of an earlier version: its values are sealed from now on")
        return KeyValue(RING, raw, revision, revision, 0)

    async def _encoded(self, ring: Ring) -> tuple[bytes, dict[str, bytes]]:
        once = VaultKey.new()
        wraps = await self._providers[0].wrap(once.raw)
        sealed = Vault([once]).seal(RING, msgspec.json.encode(ring))
        return msgspec.json.encode(_Record(wraps=wraps, sealed=sealed)), wraps

    async def _read(self, found: KeyValue | None) -> None:
        """Raises VaultError; _NoRecord where the last one is to be put back."""
        if found is None:
            raise _NoRecord("the ring of data keys is gone from the store")
        if found.revision == self._revision and self._ring is not None:
            self._follow()
            return
        try:
            record = msgspec.json.decode(found.value, type=_Record)
        except msgspec.MsgspecError as error:
            raise _NoRecord(f"what is stored at {RING} is not a ring of keys: {error}") from None
        once = VaultKey(await self._unwrapped(record.wraps))
        try:
            ring = msgspec.json.decode(Vault([once]).open(RING, record.sealed), type=Ring)
        except VaultError:
            raise VaultError(
                f"the ring of data keys at {RING} does not open: it was changed"
            ) from None
        if self._ring is not None and ring.generation < self._ring.generation:
            raise _NoRecord(f"an old ring of data keys (generation {ring.generation}) was put back")
        self._anchor.check(ring.generation)
        self._take(ring, record.wraps, found.value, found.revision)

    async def _unwrapped(self, wraps: dict[str, bytes]) -> bytes:
        for provider in self._providers:
            if provider.knows(wraps):
                return await provider.unwrap(wraps)
        return await self._providers[0].unwrap(wraps)

    async def _put_back(self, found: KeyValue | None, why: str) -> None:
        if not self._raw:
            self._ill(why)
            return
        expect = ABSENT if found is None else found.revision
        try:
            self._revision = await self._store.commit([Write(RING, self._raw, expect)])
        except Conflict:
            return  # another manager did, or there is a newer one: the watch tells
        _log.error("put the ring of data keys back into the store", why=why)

    def _take(self, ring: Ring, wraps: dict[str, bytes], raw: bytes, revision: int) -> None:
        self._ring, self._wraps, self._raw, self._revision = ring, wraps, raw, revision
        keys = {bytes.fromhex(key.id): key.raw for key in ring.keys}
        self.envelope.use(keys, bytes.fromhex(ring.keys[0].id), plain=ring.plain)
        self._follow()
        self._tell()

    def _follow(self) -> None:
        """What the ring asks for beside the store; tried again with each look."""
        if self.applied == self.ring.generation:
            return
        try:
            self._providers[0].follow(self.ring, self._wraps)
            self._anchor.see(generation=self.ring.generation)
        except OSError as error:
            self._ill(f"{error.filename or 'the key file'} can't be written: {error.strerror}")
            return
        self.problem = ""
        self.applied = self.ring.generation

    def _ill(self, why: str) -> None:
        if why != self.problem:
            _log.error("the ring of data keys can't be followed; going on as it was", why=why)
        self.problem = why
