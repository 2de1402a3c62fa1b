"""SSH and age key pairs, read again by who they are for."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from pyrage import decrypt, encrypt, x25519

from api.generate import making
from api.types.generated import AgeKey, Generate, SshKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("type", ["ed25519", "ecdsa", "rsa"])
def test_an_ssh_key_is_read_by_openssh(tmp_path: Path, type: str) -> None:
    made = making.make("id", Generate(ssh=SshKey(type=type)), "shop/deploy", NOW)
    private, public = made.files["id"], made.files["id.pub"]
    assert private.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    key = load_ssh_private_key(private, password=None)
    assert key.public_key() == load_ssh_public_key(public)
    assert public.decode().endswith(" shop/deploy\n")
    assert made.told.public_key == public.decode().strip()
    program = shutil.which("ssh-keygen")
    if program:
        file = tmp_path / "id.pub"
        file.write_bytes(public)
        shown = subprocess.run([program, "-lf", file], capture_output=True, check=True, text=True)
        assert made.told.fingerprint in shown.stdout
    assert made.told.fingerprint.startswith("SHA256:")


def test_an_age_key_opens_what_was_encrypted_to_its_recipient() -> None:
    made = making.make("key", Generate(age=AgeKey()), "shop/backup", NOW)
    recipient = x25519.Recipient.from_str(made.told.public_key)
    assert made.files["key.pub"].decode().strip() == made.told.public_key
    lines = made.files["key"].decode().splitlines()
    identity = x25519.Identity.from_str(next(line for line in lines if line[0] != "#"))
    assert decrypt(encrypt(b"dump", [recipient]), [identity]) == b"dump"


def test_what_is_told_holds_nothing_of_the_private_half() -> None:
    for wanted in (Generate(ssh=SshKey()), Generate(age=AgeKey()), Generate()):
        made = making.make("k", wanted, "shop/x", NOW)
        shown = f"{made!r} {made.told!r}"
        for line in made.files["k"].decode().splitlines():
            if not line.startswith(("#", "-----")):
                assert line not in shown
