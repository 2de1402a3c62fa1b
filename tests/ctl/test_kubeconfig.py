"""`ctl context export --kubeconfig`: what kubectl reads, for its owner's eyes only."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
import yaml

from api.pki.authority import Authority
from api.pki.credentials import Credentials
from api.pki.identity import Role
from tests.ctl.runner import Ctl


@pytest.fixture
def issued(tmp_path: Path) -> Credentials:
    return Authority.open(tmp_path / "pki").issue("ada", Role.ADMIN)


@pytest.fixture
def ctl(tmp_path: Path, issued: Credentials) -> Ctl:
    """With one context, of two servers."""
    context = {
        "server": "https://10.0.0.1:7443,https://10.0.0.2:7443",
        "ca": issued.ca_pem,
        "cert": issued.cert_pem,
        "key": issued.key_pem,
        "namespace": "shop",
    }
    path = tmp_path / "home" / "config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({"current": "home", "contexts": {"home": context}}))
    environment = {"SKEP_CONFIG": str(path), "PATH": "/usr/bin:/bin"}
    return Ctl(environment, directory=tmp_path)


def test_it_holds_what_the_context_does(ctl: Ctl, tmp_path: Path, issued: Credentials) -> None:
    path = tmp_path / "kubeconfig"
    done = ctl("context", "export", "--kubeconfig", str(path))
    assert str(path) in done.out
    assert f"export KUBECONFIG={path}" in done.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = yaml.safe_load(path.read_text())
    cluster = written["clusters"][0]["cluster"]
    user = written["users"][0]["user"]
    assert cluster["server"] == "https://10.0.0.1:7443"
    assert base64.b64decode(cluster["certificate-authority-data"]).decode() == issued.ca_pem
    assert base64.b64decode(user["client-certificate-data"]).decode() == issued.cert_pem
    assert base64.b64decode(user["client-key-data"]).decode() == issued.key_pem
    assert written["contexts"][0]["context"]["namespace"] == "shop"
    assert written["current-context"] == "home"
    assert issued.key_pem not in done.out + done.err


def test_without_a_file_it_stands_beside_the_contexts(ctl: Ctl, tmp_path: Path) -> None:
    ctl("context", "export", "--kubeconfig")
    path = tmp_path / "home" / "home.kubeconfig"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_is_made_private(ctl: Ctl, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)
    ctl("context", "export", "--kubeconfig", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_cannot_be_exported(ctl: Ctl, tmp_path: Path) -> None:
    assert "no context" in ctl("context", "export", "nope", "--kubeconfig", "x", code=3).err
    said = ctl("context", "export", "--kubeconfig", str(tmp_path / "pki" / "ca.crt" / "x"), code=1)
    assert "can't be written" in said.err
