"""The cluster's authority: what it signs, what it keeps, and whom it lets be what."""

from __future__ import annotations

import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from api.pki.authority import Authority, expiry
from api.pki.credentials import read_credentials
from api.pki.errors import PkiError
from api.pki.files import write_private
from api.pki.identity import Role

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki")


def test_an_authority_is_found_again(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "pki")
    assert Authority.load(tmp_path / "pki").ca_pem == made.ca_pem
    assert Authority.open(tmp_path / "pki").ca_pem == made.ca_pem


def test_open_makes_one_where_there_is_none(tmp_path: Path) -> None:
    made = Authority.open(tmp_path / "pki")
    assert Authority.load(tmp_path / "pki").ca_pem == made.ca_pem


def test_keys_are_their_owners_alone_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        authority = Authority.create(tmp_path / "pki")
        files = authority.issue("a", Role.NODE).write(tmp_path / "node", "node")
    finally:
        os.umask(before)
    assert mode(tmp_path / "pki") == 0o700
    assert mode(tmp_path / "pki" / "ca.key") == 0o600
    assert mode(files.key) == 0o600


def test_a_key_is_never_seen_open_or_half(tmp_path: Path) -> None:
    path, text, seen = tmp_path / "key", "k" * 100_000, set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for entry in tmp_path.iterdir():
                try:
                    seen.add((mode(entry), entry.name == "key" and len(entry.read_text())))
                except FileNotFoundError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(50):
            write_private(path, text)
    finally:
        done.set()
        watcher.join()
    assert {opened for opened, _ in seen} <= {0o600}
    assert {size for _, size in seen if size is not False} <= {len(text)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_second_authority_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    Authority.create(tmp_path)
    with pytest.raises(PkiError, match="has an authority already"):
        Authority.create(tmp_path)


def test_an_interrupted_start_is_begun_anew(tmp_path: Path) -> None:
    Authority.create(tmp_path)
    (tmp_path / "ca.crt").unlink()  # the key is written first
    assert Authority.open(tmp_path).ca_pem == (tmp_path / "ca.crt").read_text()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    Authority.create(tmp_path)
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(PkiError, match="chmod 600"):
        Authority.load(tmp_path)


@pytest.mark.parametrize("broken", ["ca.key", "ca.crt"])
def test_damage_is_said_in_words(tmp_path: Path, broken: str) -> None:
    Authority.create(tmp_path)
    (tmp_path / broken).write_text("not a PEM file")
    with pytest.raises(PkiError, match=broken):
        Authority.load(tmp_path)


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    Authority.create(tmp_path / "one")
    Authority.create(tmp_path / "two")
    write_private(tmp_path / "one" / "ca.key", (tmp_path / "two" / "ca.key").read_text())
    with pytest.raises(PkiError, match="is not the key of"):
        Authority.load(tmp_path / "one")


def test_subjects_say_role_and_name(authority: Authority) -> None:
    subject = certificate(authority.issue("worker-1", Role.NODE).cert_pem).subject
    assert subject.rfc4514_string() == "CN=worker-1,O=skep:node"


def test_keys_are_p256(authority: Authority) -> None:
    key = certificate(authority.issue("admin", Role.ADMIN).cert_pem).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


@pytest.mark.parametrize("role", [Role.ADMIN, Role.NODE])
def test_a_client_cannot_pose_as_a_server(authority: Authority, role: Role) -> None:
    issued = certificate(authority.issue("a", role).cert_pem)
    purposes = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_server_is_reached_under_the_names_given_and_on_loopback(authority: Authority) -> None:
    issued = authority.issue("manager", Role.MANAGER, hosts=["skep.example.com", "10.0.0.7", ""])
    names = certificate(issued.cert_pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert {"localhost", "skep.example.com"} <= set(names.value.get_values_for_type(x509.DNSName))
    addresses = {str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)}
    assert {"127.0.0.1", "::1", "10.0.0.7"} <= addresses


def test_a_certificate_ends_when_it_is_said_to(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, clock=lambda: NOW)
    assert expiry(authority.issue("a", Role.NODE, days=90).cert_pem) == NOW + timedelta(days=90)


def test_no_certificate_outlives_the_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, clock=lambda: NOW)
    assert expiry(authority.issue("a", Role.NODE, days=36_500).cert_pem) == expiry(authority.ca_pem)


@pytest.mark.parametrize("name", ["", "n" * 65])
def test_names_that_do_not_fit_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(PkiError, match="1 to 64 characters"):
        authority.issue(name, Role.NODE)


def test_credentials_come_back_from_their_files(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("a", Role.NODE)
    assert read_credentials(*issued.write(tmp_path / "out", "node")) == issued


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"node\.crt does not exist"):
        read_credentials(tmp_path / "ca.crt", tmp_path / "node.crt", tmp_path / "node.key")


def test_a_key_does_not_show_when_credentials_are_printed(authority: Authority) -> None:
    issued = authority.issue("a", Role.NODE)
    assert "PRIVATE" not in f"{issued} {issued!r}"
