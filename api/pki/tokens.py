"""Join tokens: `SKEPTKN-1-<digest>-<secret>`.

The digest is of the authority's public key, so that a machine that joins knows the cluster before
it says anything; the secret, 128 bits, lets the cluster know that the machine was sent.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from typing import NamedTuple

from api.pki.errors import PkiError

PREFIX = "SKEPTKN-1"
ROLES = ("worker", "manager")
SECRET_BITS = 128
_TEXT = re.compile(rf"{PREFIX}-([a-z2-7]{{52}})-([a-z2-7]{{26}})")


class JoinToken(NamedTuple):
    digest: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises PkiError, whose words do not repeat the text: it may be most of a secret."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise PkiError(
                f"this is not a join token: one begins with {PREFIX}- and is 90 characters long;"
                " copy it whole from `ctl token show worker`"
            )
        return cls(found[1], found[2])

    def same(self, secret: str) -> bool:
        """Whether the secret is that one, in a time that tells nothing of where it differs."""
        return hmac.compare_digest(self.secret.encode(), secret.encode())

    def __str__(self) -> str:
        return f"{PREFIX}-{self.digest}-{self.secret}"

    def __repr__(self) -> str:
        return "JoinToken(…)"


def new_secret() -> str:
    """128 random bits, 26 characters of [a-z2-7]."""
    raw = secrets.token_bytes(SECRET_BITS // 8)
    return base64.b32encode(raw).decode().rstrip("=").lower()
