"""The file of public sealing keys that a client fetched: to seal without a manager, or from git.

    {"cluster": "<uid>", "keys": [{"id": …, "key": base64, "created": …, "expires": …}, …]}

The first key is the one to seal to.
"""

from __future__ import annotations

import msgspec

from api.seal.errors import SealError
from api.seal.keys import PublicKey
from api.types.meta import Struct


class KeyFile(Struct, kw_only=True):
    """A cluster's public keys, the newest first. Also what the API answers."""

    cluster: str  # its uid
    keys: list[PublicKey]

    @property
    def newest(self) -> PublicKey:
        """Raises SealError."""
        if not self.keys:
            raise SealError("the cluster has no sealing key yet; its manager is about to make one")
        return self.keys[0]

    def key(self, id: str) -> PublicKey | None:
        return next((key for key in self.keys if key.id == id), None)

    def text(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self)).decode() + "\n"


def parse(data: bytes) -> KeyFile:
    """Raises SealError."""
    try:
        found = msgspec.json.decode(data, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SealError(f"is not a file of sealing keys: {error}") from None
    for key in found.keys:
        key.checked()
    return found
