"""What SOPS writes, made here by its documented format and by nothing of ours.

Values: AES-256-GCM with a nonce of 32 bytes, the path of keys as associated data. The MAC: SHA-512
over the values in the clear, in order, itself encrypted with the time of the last change as
associated data. The data key: an armoured age file for each recipient.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import textwrap
from collections.abc import Callable
from typing import Any

import pyrage
import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHANGED = "2026-02-03T04:05:06Z"
Chosen = Callable[[list[str]], bool]


def armoured(data: bytes) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 64))
    return f"-----BEGIN AGE ENCRYPTED FILE-----\n{body}\n-----END AGE ENCRYPTED FILE-----\n"


def in_bytes(value: Any) -> bytes:
    match value:
        case bool():
            return b"True" if value else b"False"
        case float():
            return (str(int(value)) if value == int(value) else repr(value)).encode()
    return str(value).encode()


def enc(value: Any, key: bytes, associated: str) -> str:
    kind = {bool: "bool", int: "int", float: "float", str: "str"}[type(value)]
    nonce = os.urandom(32)
    out = AESGCM(key).encrypt(nonce, in_bytes(value), associated.encode())
    data, iv, tag = (base64.b64encode(part).decode() for part in (out[:-16], nonce, out[-16:]))
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{kind}]"


def encrypted(
    documents: list[dict[str, Any]],
    recipients: list[pyrage.x25519.Recipient],
    chosen: Chosen = lambda path: True,
    *,
    only_encrypted: bool = False,
    **rules: Any,
) -> list[dict[str, Any]]:
    """The documents as `sops encrypt` leaves them; `chosen` must be what `rules` say."""
    key = os.urandom(32)
    digest = hashlib.sha512(hashlib.sha256(b"sops").digest() if only_encrypted else b"")

    def walk(value: Any, path: list[str]) -> Any:
        if isinstance(value, dict):
            return {name: walk(inner, [*path, name]) for name, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, path) for inner in value]
        if value is None:
            return None
        if chosen(path) or not only_encrypted:
            digest.update(in_bytes(value))
        if not chosen(path) or value == "":
            return value
        return enc(value, key, ":".join(path) + ":")

    bodies = [walk(document, []) for document in documents]
    metadata = {
        "age": [
            {"recipient": str(each), "enc": armoured(pyrage.encrypt(key, [each]))}
            for each in recipients
        ],
        "lastmodified": CHANGED,
        "mac": enc(digest.hexdigest().upper(), key, CHANGED),
        **rules,
        **({"mac_only_encrypted": True} if only_encrypted else {}),
        "version": "3.9.0",
    }
    return [{**body, "sops": metadata} for body in bodies]


def as_yaml(documents: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=10_000)


def as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2)
