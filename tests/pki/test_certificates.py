"""Certificates that secrets ask for, shown to OpenSSL in a handshake as services do."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from api.pki import certificates
from api.pki.certificates import Issuer
from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.types.generated import Certificate

NOW = datetime.now(UTC)
AUTHORITY = Certificate(is_ca=True, common_name="shop")
SERVER = Certificate(ca="ca", dns_names=["db"], ip_addresses=["10.0.0.7"])


def issuer(made: Credentials) -> Issuer:
    return Issuer.from_pem(made.cert_pem.encode(), made.key_pem.encode(), made.ca_pem.encode())


def meet(
    directory: Path, server: Credentials, trust: str, *, name: str = "db", client: str = ""
) -> None:
    """A handshake in memory. Raises SSLError where one does not accept the other."""
    (directory / "chain").write_text(server.cert_pem)
    (directory / "key").write_text(server.key_pem)
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(directory / "chain", directory / "key")
    here = ssl.create_default_context(cadata=trust)
    here.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        here.wrap_bio(to_client, to_server, server_hostname=name),
        there.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize(
    "key_type", ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"]
)  # the larger RSA keys take seconds to make
def test_a_certificate_proves_its_names_to_who_trusts_its_authority(
    tmp_path: Path, key_type: str
) -> None:
    root = certificates.signed_by_itself(
        Certificate(is_ca=True, key_type=key_type), "default/ca", NOW
    )
    leaf = certificates.signed_by(
        issuer(root), Certificate(dns_names=["db"], ip_addresses=["10.0.0.7"], key_type=key_type),
        "db", NOW,
    )  # fmt: skip
    meet(tmp_path, leaf, leaf.ca_pem)
    meet(tmp_path, leaf, root.cert_pem, name="10.0.0.7")
    with pytest.raises(ssl.SSLError, match="mismatch"):
        meet(tmp_path, leaf, leaf.ca_pem, name="other")
    stranger = certificates.signed_by_itself(AUTHORITY, "x", NOW)
    with pytest.raises(ssl.SSLError):
        meet(tmp_path, leaf, stranger.ca_pem)


def test_one_that_signs_itself_is_trusted_by_itself_alone(tmp_path: Path) -> None:
    made = certificates.signed_by_itself(Certificate(dns_names=["db"]), "db", NOW)
    meet(tmp_path, made, made.ca_pem)
    with pytest.raises(PkiError, match="not that of an authority"):
        issuer(made)


def test_usages_and_life_are_as_asked() -> None:
    root = issuer(certificates.signed_by_itself(AUTHORITY, "ca", NOW))
    wanted = Certificate(usages=["client"], lifetime="10d", common_name="worker")
    made = certificates.signed_by(root, wanted, "ignored", NOW)
    found = x509.load_pem_x509_certificate(made.cert_pem.encode())
    usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage._name for usage in usages] == ["clientAuth"]
    assert found.subject.rfc4514_string() == "CN=worker"
    told = certificates.facts(made.cert_pem.encode())
    assert abs(told.not_after - NOW - timedelta(days=10)) < timedelta(seconds=1)
    assert told.issuer == root.id


def test_none_outlives_its_authority_and_a_dead_one_signs_nothing() -> None:
    short = Certificate(is_ca=True, lifetime="1d")
    root = issuer(certificates.signed_by_itself(short, "ca", NOW))
    leaf = certificates.signed_by(root, SERVER, "db", NOW)
    assert certificates.facts(leaf.cert_pem.encode()).not_after <= NOW + timedelta(days=1)
    with pytest.raises(PkiError, match="ended at"):
        certificates.signed_by(root, SERVER, "db", NOW + timedelta(days=2))


def test_while_an_authority_is_replaced_old_and_new_accept_each_other(tmp_path: Path) -> None:
    """Whoever has the old bundle meets who has the new certificate, and the other way round."""
    first = certificates.signed_by_itself(AUTHORITY, "ca", NOW)
    old = certificates.signed_by(issuer(first), SERVER, "db", NOW)
    second = certificates.successor(AUTHORITY, "ca", NOW, issuer(first))
    new = certificates.signed_by(issuer(second), SERVER, "db", NOW)
    for shown in (old, new):
        for trusted in (old, new):
            meet(tmp_path, shown, trusted.ca_pem)
    # Once more, before everybody has followed.
    third = certificates.successor(AUTHORITY, "ca", NOW, issuer(second))
    newest = certificates.signed_by(issuer(third), SERVER, "db", NOW)
    for shown in (old, new, newest):
        for trusted in (old, new, newest):
            meet(tmp_path, shown, trusted.ca_pem)


def test_in_the_end_the_predecessor_is_trusted_no_more(tmp_path: Path) -> None:
    first = certificates.signed_by_itself(AUTHORITY, "ca", NOW)
    old = certificates.signed_by(issuer(first), SERVER, "db", NOW)
    second = certificates.successor(AUTHORITY, "ca", NOW, issuer(first))
    new = certificates.signed_by(issuer(second), SERVER, "db", NOW)
    own = certificates.alone(second.cert_pem.encode())
    last = Issuer.from_pem(own.encode(), second.key_pem.encode())
    chain, trust = certificates.rechained(new.cert_pem.encode(), last)
    shorter = new._replace(cert_pem=chain, ca_pem=trust)
    assert len(chain) < len(new.cert_pem)
    meet(tmp_path, shorter, trust)
    with pytest.raises(ssl.SSLError):
        meet(tmp_path, old, trust)


def test_an_authority_from_elsewhere_signs_with_its_chain(tmp_path: Path) -> None:
    """An issuing authority below a root that is not here, with an identifier of its own making."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(name: str, by: str, public: ec.EllipticCurvePublicKey, mark: bytes) -> str:
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(f"CN={name}"))
            .issuer_name(x509.Name.from_rfc4514_string(f"CN={by}"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=100))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier(mark), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier(b"of the root", None, None), critical=False)
            .add_extension(certificates._usage(AUTHORITY, root_key), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        return built.public_bytes(serialization.Encoding.PEM).decode()

    root = certificate("root", "root", root_key.public_key(), b"of the root")
    below = certificate("issuing", "root", key.public_key(), b"of our own")
    given = Issuer.from_pem(below.encode(), certificates._key_pem(key).encode(), root.encode())
    leaf = certificates.signed_by(given, SERVER, "db", NOW)
    assert leaf.ca_pem == root
    meet(tmp_path, leaf, root)


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        (b"", b"", "not a certificate"),
        (b"junk", b"junk", "not a certificate"),
    ],
)
def test_what_is_no_authority_is_refused_in_words(cert: bytes, key: bytes, words: str) -> None:
    with pytest.raises(PkiError, match=words):
        Issuer.from_pem(cert, key)


def test_a_key_of_another_certificate_is_refused_without_being_shown() -> None:
    one = certificates.signed_by_itself(AUTHORITY, "a", NOW)
    two = certificates.signed_by_itself(AUTHORITY, "b", NOW)
    with pytest.raises(PkiError, match="not that of its certificate") as caught:
        Issuer.from_pem(one.cert_pem.encode(), two.key_pem.encode())
    assert "PRIVATE" not in str(caught.value) + repr(one)
