#!/usr/bin/env python3
"""A KMS for skep in a few lines: wraps with keys in a file (0600), one a line, the last one new.

    python manifests/kms/local.py --socket /run/skep-kms/socket --keys /etc/skep-kms/keys
    skepd manager --kms unix:///run/skep-kms/socket

To rotate its key, append one (`--add-key`), restart it, and run `ctl keys rewrap`. It shows what
the other end of `--kms` has to do; a real one keeps its keys where nobody can copy them.
"""

import argparse
import asyncio
import base64
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PLACE = b"skep ring key"


def load(path: Path) -> dict[str, bytes]:
    """Keys by their ids, in the file's order."""
    lines = path.read_text().splitlines()
    return {id: base64.b64decode(key) for id, key in (line.split() for line in lines if line)}


def add_key(path: Path) -> None:
    line = f"key-{secrets.token_hex(4)} {base64.b64encode(secrets.token_bytes(32)).decode()}\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(line)


def answer(keys: dict[str, bytes], request: dict) -> dict:
    """What is answered to a request; never how a key looks."""
    if request.get("version") != 1:
        return {"error": "this KMS speaks version 1"}
    match request.get("do"):
        case "wrap":
            id, key = list(keys.items())[-1]
            nonce = secrets.token_bytes(12)
            wrapped = nonce + AESGCM(key).encrypt(nonce, base64.b64decode(request["key"]), PLACE)
            return {"keyId": id, "wrapped": base64.b64encode(wrapped).decode()}
        case "unwrap":
            if (key := keys.get(request["keyId"])) is None:
                return {"error": f"there is no key {request['keyId']}"}
            wrapped = base64.b64decode(request["wrapped"])
            try:
                plain = AESGCM(key).decrypt(wrapped[:12], wrapped[12:], PLACE)
            except InvalidTag:
                return {"error": "this was not wrapped here, or was changed"}
            return {"key": base64.b64encode(plain).decode()}
    return {"error": "it can wrap and unwrap"}


async def serve(socket: Path, keys: dict[str, bytes]) -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            said = answer(keys, json.loads(await reader.readline()))
        except (ValueError, KeyError, TypeError):
            said = {"error": "this is no request"}
        writer.write(json.dumps(said).encode() + b"\n")
        await writer.drain()
        writer.close()

    os.umask(0o177)  # for the socket: its owner alone
    server = await asyncio.start_unix_server(one, socket)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--add-key", action="store_true", help="append a key, and end")
    options = parser.parse_args()
    if options.add_key or not options.keys.exists():
        add_key(options.keys)
    if not options.add_key:
        options.socket.unlink(missing_ok=True)
        asyncio.run(serve(options.socket, load(options.keys)))


if __name__ == "__main__":
    main()
