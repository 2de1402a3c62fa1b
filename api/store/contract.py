"""What a store must do. Two implementations pass one test-suite: etcd and memory.

The model is etcd's: every commit has one revision, a number that only grows; a key remembers the
revision that last changed it; a watch from revision N delivers every change after N, in order,
exactly once, all changes of one commit together, also across reconnects, or says it can't
(`Compacted`).

Errors:

    StoreError
    ├── Unavailable     no answer, or no leader; the write may or may not have happened
    │   └── Full        out of space or over its quota; it takes no writes until that is mended
    ├── Conflict        a compare did not hold; names the keys; nothing of the commit was written
    ├── Compacted       history before a revision is gone: list again, watch from there
    ├── LeaseGone       the lease has expired or never was
    ├── Unreadable      the value that is stored can't be opened; names the key
    └── TooLarge        a value or a commit over the store's limit; says which
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol

ANY = -1  # no compare
ABSENT = 0  # the key must not exist


class StoreError(Exception):
    """Base of all errors of a store."""


class Unavailable(StoreError):
    """The store did not answer. Retry; a write may have happened."""


class Full(Unavailable):
    """The store has no room left: it can be read, and nothing was written."""


class Conflict(StoreError):
    """Keys were not at the revision that the write expected."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(f"changed since they were read: {', '.join(keys)}")
        self.keys = tuple(keys)


class Compacted(StoreError):
    """The revision asked for is no longer kept."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"history before revision {oldest} is gone")
        self.oldest = oldest


class LeaseGone(StoreError):
    """The lease has expired."""


class TooLarge(StoreError):
    """More than the store takes at once."""


class Unreadable(StoreError):
    """What is stored at a key can't be opened. Other keys are not concerned."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


class Unopened(bytes):
    """A value that can't be opened, where it is one of many: as it is stored, and why.

    It decodes as nothing.
    """

    why: str

    def __new__(cls, stored: bytes, why: str) -> Unopened:
        made = super().__new__(cls, stored)
        made.why = why
        return made


class KeyValue(NamedTuple):
    key: str
    value: bytes
    revision: int  # of its last change
    created: int  # revision at which it came to be
    lease: int  # 0: none


class Page(NamedTuple):
    items: list[KeyValue]  # in the order of their keys
    revision: int  # of the store when it was read; ask for the next page at this one
    more: bool


class Change(NamedTuple):
    """One key's change. `value` is None for a delete; `revision` is the commit's."""

    key: str
    value: bytes | None
    revision: int
    created: int  # equals `revision` where the key is new
    lease: int


class Write(NamedTuple):
    """Put (`value` given) or delete (`value` None) a key if it is at revision `expect`."""

    key: str
    value: bytes | None
    expect: int = ANY
    lease: int = 0


class Store(Protocol):
    async def get(self, key: str) -> KeyValue | None:
        """The key now, read through the quorum."""

    async def list(
        self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0
    ) -> Page:
        """Keys under `prefix` that sort after `after`, at `revision` (0: now).

        `limit` 0 gives all, fetched in pages inside. Raises Compacted.
        """

    async def commit(self, writes: Sequence[Write]) -> int:
        """All writes or none, in one commit; the revision it made. Raises Conflict, TooLarge.

        No key may be in it twice. At most `max_ops` writes.
        """

    async def write(self, writes: Sequence[Write]) -> builtins.list[int | Conflict]:
        """Each write by itself, many in one commit: for each, its revision or its Conflict.

        Commits hold at most `max_ops` writes; one conflict does not stop its neighbours. A key
        may be in it twice and is then written in that order. Raises Unavailable if any part got
        no answer, and LeaseGone if a lease is, when some of the writes may have happened; raises
        TooLarge before any has.
        """

    def watch(self, prefix: str, *, after: int) -> AsyncGenerator[builtins.list[Change], None]:
        """Changes after revision `after`, in order, in batches that never split a commit.

        An empty batch may come at any time and means nothing. Reconnects by itself and goes on
        where it was. Raises Compacted when changes after `after` may be forgotten, and when
        `after` is a revision that this store never had (it was set back to a backup). Close it
        with `aclose()`.
        """

    async def grant(self, ttl: float) -> int:
        """A new lease, of at least `ttl` seconds; its keys go when it does."""

    async def keep_alive(self, lease: int) -> None:
        """Start the lease's time anew. Raises LeaseGone."""

    async def revoke(self, lease: int) -> None:
        """End the lease and delete its keys; nothing happens if it is gone already."""

    async def compact(self, revision: int) -> None:
        """Forget history before `revision`."""

    async def revision(self) -> int:
        """The newest revision, read through the quorum."""

    async def close(self) -> None: ...
