"""One value as SOPS encrypts it, and as it counts in a file's MAC.

    ENC[AES256_GCM,data:<base64>,iv:<base64>,tag:<base64>,type:<str|int|float|bool|bytes|comment>]

The associated data is the path of keys to the value, each followed by a colon; an index in a list
is no part of it. The formats are those of SOPS' aes/cipher.go and sops.go.
"""

from __future__ import annotations

import base64
import binascii
import re
from decimal import Decimal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.sops.errors import SopsError

_FORM = re.compile(r"ENC\[AES256_GCM,data:(.*),iv:(.+),tag:(.+),type:(.+)\]", re.DOTALL)
Leaf = str | int | float | bool


def is_encrypted(value: object) -> bool:
    return isinstance(value, str) and value.startswith("ENC[AES256_GCM,")


def decrypted(text: str, key: bytes, associated: str) -> Leaf:
    """Raises SopsError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise SopsError("is not encrypted as the rest of the file is, or was cut off")
    try:
        data, nonce, tag = (base64.b64decode(part, validate=True) for part in found.groups()[:3])
        plain = AESGCM(key).decrypt(nonce, data + tag, associated.encode())
    except (binascii.Error, ValueError, InvalidTag):
        raise SopsError(
            "does not decrypt: it was changed, or copied from another place or file"
        ) from None
    try:
        return _typed(plain.decode(), found[4])
    except (UnicodeDecodeError, ValueError):
        raise SopsError(f"decrypts to what is no {found[4]} that a manifest can hold") from None


def _typed(text: str, kind: str) -> Leaf:
    match kind:
        case "int" | "int64":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            return text.lower() == "true"
        case "str" | "bytes" | "comment" | "time":
            return text
    raise SopsError(f"is of the type {kind[:20]!r}, which is not known here")


def mac_bytes(value: Leaf) -> bytes:
    """As a value counts in the MAC."""
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    return str(value).encode()


_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def resolved(text: str) -> Leaf | None:
    """What a plain YAML scalar is to SOPS, which reads YAML as Go's yaml.v3 does: 0444 is 292.

    Manifests are read otherwise (`api.manifest.values`); the MAC counts what SOPS has read.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        digits = text.lstrip("+-").lower()
        if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            digits = "0o" + digits[1:]
        return -int(digits, 0) if text[0] == "-" else int(digits, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text
