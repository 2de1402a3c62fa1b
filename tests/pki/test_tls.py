"""TLS contexts: 1.3, both ends proven, nothing of other authorities."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.pki.authority import Authority
from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.pki.identity import Role
from api.pki.tls import client_context, server_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki")


class Handshake:
    """A TLS connection in memory."""

    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name)
        self.server = server.wrap_bio(up, down, server_side=True)

    def run(self) -> None:
        """Raises ssl.SSLError where either end refuses the other."""
        ends = [self.client, self.server]
        for _ in range(10):
            for end in list(ends):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                ends.remove(end)
            if not ends:
                return


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> Handshake:
    made = Handshake(client, server, name)
    made.run()
    return made


def manager(authority: Authority) -> ssl.SSLContext:
    return server_context(authority.issue("manager", Role.MANAGER))


def admin(authority: Authority) -> ssl.SSLContext:
    return client_context(authority.issue("admin", Role.ADMIN))


def test_both_ends_know_each_other(authority: Authority) -> None:
    made = handshake(admin(authority), manager(authority))
    assert made.server.version() == "TLSv1.3"
    peer = made.server.getpeercert()
    assert peer is not None
    assert (("commonName", "admin"),) in peer["subject"]


def test_older_tls_is_refused(authority: Authority) -> None:
    old = admin(authority)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(old, manager(authority))


def test_a_client_without_a_certificate_is_refused(authority: Authority) -> None:
    nobody = ssl.create_default_context(cadata=authority.ca_pem)
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        handshake(nobody, manager(authority))


def test_a_client_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other").issue("admin", Role.ADMIN)
    stranger = client_context(other._replace(ca_pem=authority.ca_pem))
    with pytest.raises(ssl.SSLError):
        handshake(stranger, manager(authority))


def test_a_server_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(admin(authority), manager(other))


def test_a_node_cannot_pose_as_the_server(authority: Authority) -> None:
    node = server_context(authority.issue("localhost", Role.NODE))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(admin(authority), node)


def test_a_server_under_another_name_is_refused(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)hostname"):
        handshake(admin(authority), manager(authority), "elsewhere.example.com")


def test_an_expired_client_is_refused(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=400)
    authority = Authority.create(tmp_path, clock=lambda: past)
    expired = client_context(authority.issue("admin", Role.ADMIN, days=30))
    current = Authority.load(tmp_path)
    with pytest.raises(ssl.SSLError):
        handshake(expired, manager(current))


def test_a_key_of_another_certificate_is_said_in_words(authority: Authority) -> None:
    one, two = authority.issue("a", Role.NODE), authority.issue("b", Role.NODE)
    with pytest.raises(PkiError, match="can't be used together"):
        client_context(one._replace(key_pem=two.key_pem))


def test_damaged_text_is_said_in_words(authority: Authority) -> None:
    good = authority.issue("a", Role.NODE)
    with pytest.raises(PkiError, match="authority's certificate"):
        client_context(good._replace(ca_pem="nothing"))
    with pytest.raises(PkiError, match="can't be used"):
        client_context(Credentials("nothing", "nothing", good.ca_pem))
