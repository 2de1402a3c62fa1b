"""The cluster's trust, followed: what every manager signs with and accepts.

The model: one list and one watch over `…/trust/` (`followed`), as the cache does it for objects.
What this manager writes it also takes in at once, so that who writes reads it; the watch then
brings the same again, which changes nothing. A change that can't be used (a vault key is missing)
leaves what was, and `problem` says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
import structlog

from api.pki.authority import Authority
from api.pki.errors import PkiError
from api.pki.tokens import ROLES, JoinToken, new_secret
from api.seal.keys import SealingKey
from api.store.contract import ABSENT, Change, Conflict, Store, Unopened, Write
from api.trust.followed import Followed
from api.trust.records import (
    AUTHORITY,
    MANAGERS,
    ROOTS,
    SEALING_KEYS,
    TOKENS,
    TRUST,
    AuthorityRecord,
    ManagerRecord,
    RootRecord,
    TokenRecord,
    root_key,
    sealing_key,
    token_key,
)
from api.trust.sealing import LIFE, KeyRecord, SealingRing, renewal, understood
from api.types.meta import Struct
from api.vault.errors import VaultError
from api.vault.vault import Vault, is_sealed

T = TypeVar("T")

_log = structlog.get_logger("skep.trust")

_ONCE_SEALED: dict[str, tuple[str, type[Struct]]] = {
    ROOTS: ("key", RootRecord),
    TOKENS: ("secret", TokenRecord),
    SEALING_KEYS: ("private", KeyRecord),
}

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class TrustError(Exception):
    """What was asked of the cluster's trust can't be done as it stands; says why."""


class Trust(Followed):
    """`store` seals. `vault` has the vault keys where they are in a file: those that an earlier
    version sealed with, and that a manager is given when it joins."""

    name = "trust"

    def __init__(self, store: Store, vault: Vault | None, *, clock: Clock = _now) -> None:
        self.problem = ""
        self.clock = clock
        self.sealing_life = LIFE  # after which a sealing key is followed by another
        super().__init__(store, TRUST)
        self._vault = vault
        self._values: dict[str, bytes] = {}
        self._revisions: dict[str, int] = {}  # of the last change of each key, deletes included
        self._revision = 0
        self._roots: dict[str, Authority] = {}
        self._record: AuthorityRecord | None = None
        self._tokens: dict[str, str] = {}
        self._sealing = SealingRing("", {}, {})

    async def open(self, authority: Authority | None = None) -> None:
        """Read it, or make it where the cluster is new (with `authority`, else one made for it).

        Raises StoreError, VaultError where this manager's key does not open what is stored.
        """
        await self._list()
        if AUTHORITY not in self._values:
            try:
                await self._commit(self._beginnings(authority or Authority.generate()))
                _log.info("made the cluster's authority", id=self.signing.id)
            except Conflict:  # another manager was first: take what it made
                await self._list()
        if self.problem:
            raise VaultError(self.problem)
        await self._unseal_old()

    async def _caught_up(self) -> int:
        if self._behind:
            await self._list()
        return self._revision

    async def _told(self, batch: Sequence[Change]) -> None:
        for change in batch:
            self._take(change.key, change.value, change.revision)
        if batch:
            self._revision = batch[-1].revision
            self._changed()

    async def refresh(self) -> None:
        """Be as far as the store is: to be asked before signing, since a certificate of a root
        that was dropped meanwhile opens nothing. Raises StoreError."""
        stored = await self._store.get(AUTHORITY)
        if stored is None or stored.revision != self._revisions.get(AUTHORITY):
            await self._list()

    # The authority

    @property
    def record(self) -> AuthorityRecord:
        if self._record is None:
            raise TrustError("the cluster's authority is not there yet")
        return self._record

    @property
    def signing(self) -> Authority:
        """The root that signs new certificates."""
        record = self.record
        return self._roots[record.next or record.current]

    @property
    def trusted(self) -> list[Authority]:
        """All roots whose certificates are accepted, the one that signs first."""
        ids = [self.record.next, self.record.current]
        return [self._roots[id] for id in ids if id]

    @property
    def bundle(self) -> str:
        """Their certificates, PEM."""
        return "".join(authority.ca_pem for authority in self.trusted)

    @property
    def mark(self) -> str:
        """What `api.pki.authority.mark` says of the bundle: nodes compare theirs with it."""
        return "+".join(sorted(authority.id for authority in self.trusted))

    async def rotate(self, keep: timedelta = timedelta()) -> Authority:
        """Begin to put a new root in the current one's place, which is accepted for as long as
        `keep` at least. Raises TrustError, StoreError.
        """
        record = self.record
        if record.next:
            raise TrustError(
                f"root {record.current} is being replaced by {record.next} already; see how far"
                " that is with `ctl ca status`"
            )
        made = Authority.generate(clock=self.clock)
        now = self.clock()
        changed = msgspec.structs.replace(
            record,
            next=made.id,
            cross=self.signing.cross_sign(made),
            since=now,
            keep_until=now + keep if keep else None,
        )
        await self._commit([self._root_write(made), self._authority_write(changed)])
        return made

    async def finish_rotation(self) -> None:
        """Drop the old root, its key with it. Only when nobody needs it. Raises StoreError."""
        record = self.record
        if not record.next:
            return
        changed = AuthorityRecord(current=record.next, since=self.clock())
        await self._commit([self._authority_write(changed), Write(root_key(record.current), None)])

    # Tokens

    def token(self, role: str) -> JoinToken:
        """The one that lets a machine join in this role (`worker`, `manager`)."""
        return JoinToken(self.signing.digest, self._tokens[role])

    async def rotate_token(self, role: str) -> JoinToken:
        """A new one; the old one is good for nothing from now on. Raises StoreError."""
        await self._commit([self._token_write(role, self._revisions.get(token_key(role), ABSENT))])
        return self.token(role)

    # Sealing keys

    @property
    def sealing(self) -> SealingRing:
        """The keys that values in git are sealed to."""
        return self._sealing

    async def new_sealing_key(self) -> SealingKey:
        """The newest from now on. Raises StoreError, Conflict where another was made meanwhile."""
        now = self.clock()
        key = SealingKey.new(now, now + self.sealing_life)
        await self._commit(renewal(key, lambda at: self._revisions.get(at, ABSENT)))
        return key

    async def drop_sealing_key(self, id: str) -> None:
        """What was sealed to it never opens again. Raises TrustError, StoreError."""
        known = self._sealing
        if known.newest is not None and known.newest.public.id == id:
            raise TrustError(
                f"sealing key {id} is the newest, which values are sealed to; make another one"
                " first: ctl seal keys renew"
            )
        if known.get(id) is None and id not in known.broken:
            ids = ", ".join(key.public.id for key in known.keys) or "none"
            raise TrustError(f"there is no sealing key {id}; there are: {ids}")
        place = sealing_key(id)
        await self._commit([Write(place, None, self._revisions[place])])

    # Managers

    @property
    def managers(self) -> dict[str, ManagerRecord]:
        """Those that live, by name."""
        return {
            key.removeprefix(MANAGERS): _decoded(value, ManagerRecord)
            for key, value in sorted(self._values.items())
            if key.startswith(MANAGERS) and not isinstance(value, Unopened)
        }

    @property
    def vault_key(self) -> str:
        """What a manager that joins needs, as text; empty where that is in a KMS. Whoever has it
        and the store has all."""
        return self._vault.key.text() if self._vault is not None else ""

    # Writing

    def _beginnings(self, authority: Authority) -> list[Write]:
        record = AuthorityRecord(current=authority.id, since=self.clock())
        return [
            Write(AUTHORITY, msgspec.json.encode(record), ABSENT),
            self._root_write(authority),
            *(self._token_write(role, ABSENT) for role in ROLES),
        ]

    def _authority_write(self, record: AuthorityRecord) -> Write:
        return Write(AUTHORITY, msgspec.json.encode(record), self._revisions[AUTHORITY])

    def _root_write(self, authority: Authority) -> Write:
        key = root_key(authority.id)
        record = RootRecord(
            certificate=authority.ca_pem,
            key=authority.private_pem().encode(),
            created=self.clock(),
        )
        return Write(key, msgspec.json.encode(record), ABSENT)

    def _token_write(self, role: str, expect: int) -> Write:
        key = token_key(role)
        record = TokenRecord(secret=new_secret().encode(), created=self.clock())
        return Write(key, msgspec.json.encode(record), expect)

    async def _commit(self, writes: Sequence[Write]) -> None:
        revision = await self._store.commit(writes)
        for write in writes:
            self._take(write.key, write.value, revision)
        self._changed()

    # Reading

    async def _list(self) -> None:
        page = await self._store.list(TRUST)
        there = {item.key for item in page.items}
        for key in [key for key in self._values if key not in there]:
            self._take(key, None, page.revision)
        for item in page.items:
            self._take(item.key, item.value, item.revision)
        self._revision = page.revision
        self._changed()

    def _take(self, key: str, value: bytes | None, revision: int) -> None:
        if revision < self._revisions.get(key, 0):
            return
        self._revisions[key] = revision
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def _changed(self) -> None:
        try:
            self._understand()
            self.problem = ""
        except (VaultError, PkiError, msgspec.MsgspecError) as error:
            self.problem = str(error)
            _log.error(
                "the cluster's trust can't be read; going on with what was", error=str(error)
            )
        self._tell()

    def _understand(self) -> None:
        if AUTHORITY not in self._values:
            return
        record = _decoded(self._values[AUTHORITY], AuthorityRecord)
        ids = [id for id in (record.current, record.next) if id]
        roots = {id: self._root(id, record) for id in ids}
        tokens = {role: self._secret(role) for role in ROLES}
        self._record, self._roots, self._tokens = record, roots, tokens
        self._sealing = understood(self._values, self._opened)

    def _root(self, id: str, record: AuthorityRecord) -> Authority:
        key = root_key(id)
        stored = _decoded(self._values[key], RootRecord)
        return Authority.from_pem(
            stored.certificate,
            self._opened(key, stored.key).decode(),
            cross_pem=record.cross if id == record.next else "",
            clock=self.clock,
        )

    def _secret(self, role: str) -> str:
        key = token_key(role)
        stored = _decoded(self._values[key], TokenRecord)
        return self._opened(key, stored.secret).decode()

    def _opened(self, key: str, value: bytes) -> bytes:
        if not is_sealed(value):
            return value
        if self._vault is None:
            raise VaultError(
                f"what is stored at {key} was sealed with a vault key by an earlier version: start"
                " once with that vault.key in the data directory"
            )
        return self._vault.open(key, value)

    async def _unseal_old(self) -> None:
        """What an earlier version sealed by itself is written as the store seals it."""
        writes = []
        for key, value in self._values.items():
            for place, (field, type) in _ONCE_SEALED.items():
                if key.startswith(place):
                    with contextlib.suppress(VaultError, msgspec.MsgspecError):
                        record: Struct = _decoded(value, type)
                        if not is_sealed(inner := getattr(record, field)):
                            continue
                        plain = msgspec.structs.replace(record, **{field: self._opened(key, inner)})
                        encoded = msgspec.json.encode(plain)
                        writes.append(Write(key, encoded, self._revisions[key]))
        if writes:
            with contextlib.suppress(Conflict):  # another manager is doing it
                await self._commit(writes)


def _decoded(value: bytes, type: type[T]) -> T:
    if isinstance(value, Unopened):
        raise VaultError(value.why)
    return msgspec.json.decode(value, type=type)
