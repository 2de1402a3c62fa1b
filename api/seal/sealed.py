"""The sealed form of one value.

    skep-seal:v1:<key id>:<scope>:<base64 of the body>

    body = check (4 bytes) | place (8) | enc (32) | ciphertext and tag

The ciphertext is HPKE's (RFC 9180; base mode, X25519, HKDF-SHA256, AES-256-GCM, one message), whose
`info` is the place: moved to another, a value does not open. `place` is a digest of that place and
`check` one of the whole text; neither is a secret or a protection. They let everybody say which of
damaged and misplaced a value is, also without the key that opens it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from api.seal.errors import Damaged, Malformed, Misplaced, UnknownKey, WillNotOpen
from api.seal.keys import PublicKey, SealingKey
from api.seal.place import DIGEST_BYTES, Place, Scope

PREFIX = "skep-seal:v1:"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_TEXT = re.compile(r"skep-seal:v1:([0-9a-f]{16}):(strict|namespace|cluster):([A-Za-z0-9+/]+={0,2})")
_CHECK_BYTES = 4
_LEAST = _CHECK_BYTES + DIGEST_BYTES + 32 + 16


class Sealed(NamedTuple):
    """A sealed value, taken apart."""

    key_id: str
    scope: Scope
    place: bytes
    message: bytes  # HPKE's enc and ciphertext

    @classmethod
    def parse(cls, text: str) -> Sealed:
        """Raises Malformed, Damaged."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise Malformed(
                f"is not a sealed value: one reads {PREFIX}<key id>:<scope>:<base64>, and is made"
                " by `ctl seal`"
            )
        try:
            body = base64.b64decode(found[3], validate=True)
        except binascii.Error:
            body = b""
        rest = body[_CHECK_BYTES:]
        whole = len(body) >= _LEAST and base64.b64encode(body).decode() == found[3]
        if not whole or body[:_CHECK_BYTES] != _check(_head(found[1], found[2]), rest):
            raise Damaged(
                "was cut off or changed since it was sealed; seal the value anew, or take the text"
                " from an earlier commit"
            )
        return cls(found[1], Scope(found[2]), rest[:DIGEST_BYTES], rest[DIGEST_BYTES:])

    def text(self) -> str:
        head, rest = _head(self.key_id, self.scope.value), self.place + self.message
        return head + base64.b64encode(_check(head, rest) + rest).decode()

    def fits(self, place: Place) -> bool:
        return self.place == place.digest(self.scope)

    def require(self, place: Place, candidates: Iterable[Place] = ()) -> None:
        """That it was sealed for this place. `candidates` are others it may have been sealed for.

        Raises Misplaced.
        """
        if self.fits(place):
            return
        was = next((each for each in candidates if self.fits(each)), None)
        told = was.words(self.scope) if was is not None else f"another {_OTHER[self.scope]}"
        raise Misplaced(
            f"was sealed for {told} (its scope is {self.scope}), and does not open as"
            f" {place.words(self.scope)}; seal it here anew, or with a wider --scope"
        )

    def open(self, place: Place, key_of: Callable[[str], SealingKey | None]) -> bytes:
        """Raises Misplaced, UnknownKey, WillNotOpen."""
        self.require(place)
        key = key_of(self.key_id)
        if key is None:
            raise UnknownKey(self.key_id)
        try:
            return _SUITE.decrypt(self.message, key.private, place.info(self.scope))
        except (InvalidTag, ValueError):
            raise WillNotOpen(
                f"does not open with the key {self.key_id}: it was not made by sealing to it"
            ) from None


def seal(value: bytes, place: Place, scope: Scope, key: PublicKey) -> str:
    """A value as it may be shown to everybody."""
    message = _SUITE.encrypt(value, key.loaded(), place.info(scope))
    return Sealed(key.id, scope, place.digest(scope), message).text()


_OTHER = {
    Scope.STRICT: "namespace, secret or key",
    Scope.NAMESPACE: "namespace",
    Scope.CLUSTER: "cluster",
}


def _head(key_id: str, scope: str) -> str:
    return f"{PREFIX}{key_id}:{scope}:"


def _check(head: str, rest: bytes) -> bytes:
    return hashlib.sha256(head.encode() + rest).digest()[:_CHECK_BYTES]
