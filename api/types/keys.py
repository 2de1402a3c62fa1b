"""What a manager says about the keys that its store is sealed with. Never a key, but one: a new
unlock key, to who asked for it, once."""

from __future__ import annotations

from datetime import datetime

from api.types.meta import Struct

UNLOCK_NAME = "unlock.skep.invalid"  # of a locked manager's certificate; no machine can have it
UNLOCK_PATH = "/unlock"


class DataKeyStatus(Struct, kw_only=True):
    id: str
    created: datetime
    seals: bool = False  # what is written; the others only open
    values: int | None = None  # sealed with it when last counted, where this manager counts


class ReencryptionStatus(Struct, kw_only=True):
    done: int = 0  # values
    total: int = 0
    begun: datetime
    manager: str = ""  # that does it


class LockStatus(Struct, kw_only=True):
    locked: bool  # whether a manager needs the unlock key when it starts
    id: str = ""  # of the unlock key
    since: datetime | None = None
    waiting: list[str] = []  # managers that have not done yet what was asked last


class KeysStatus(Struct, kw_only=True):
    kept_by: str  # where the key-encryption key is
    generation: int  # of the ring
    keys: list[DataKeyStatus]
    rewrapping: bool = False  # another key-encryption key takes the present one's place
    reencryption: ReencryptionStatus | None = None
    unsealed: int | None = None  # values that an earlier version wrote, where they are counted
    waiting: list[str] = []  # managers that are behind
    problem: str = ""
    unopened: dict[str, str] = {}  # by key of the store: why
    lock: LockStatus


class UnlockKeyReply(Struct, kw_only=True):
    unlock_key: str = ""  # empty: there is no new one

    def __repr__(self) -> str:
        return "UnlockKeyReply"  # never the key


class UnlockRequest(Struct, kw_only=True):
    key: str

    def __repr__(self) -> str:
        return "UnlockRequest"


class UnlockReply(Struct, kw_only=True):
    locked: bool
