"""Join tokens and certificate requests."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from api.pki.authority import Authority, digest, parse_certificate
from api.pki.errors import PkiError
from api.pki.identity import Role, identity_of
from api.pki.requests import new_request, requested_key
from api.pki.tokens import JoinToken, new_secret

PEM = serialization.Encoding.PEM


def test_a_token_is_read_back() -> None:
    token = JoinToken(Authority.generate().digest, new_secret())
    assert JoinToken.parse(f" {token}\n") == token
    assert str(token).startswith("SKEPTKN-1-")
    assert token.secret not in repr(token)


def test_a_token_pins_the_authoritys_key() -> None:
    authority = Authority.generate()
    assert authority.digest == digest(parse_certificate(authority.ca_pem))
    assert authority.digest != Authority.generate().digest


@pytest.mark.parametrize("text", ["", "SKEPTKN-1-abc-def", "SWMTKN-1-x-y", "SKEPTKN-1-" + "a" * 79])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(PkiError, match="not a join token"):
        JoinToken.parse(text)


def test_secrets_are_of_128_bits_and_never_the_same() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {26}  # 5 bits each: 130


def test_a_request_is_only_a_public_key() -> None:
    """Names, organizations and hosts in it do not get into the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "skep:admin"),
                    x509.NameAttribute(NameOID.COMMON_NAME, "admin"),
                ]
            )
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("manager")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority = Authority.generate()
    taken = requested_key(request.public_bytes(PEM).decode())
    issued = parse_certificate(authority.certify(taken, "worker-1", Role.NODE, uid="u"))
    assert issued.subject.rfc4514_string() == "UID=u,CN=worker-1,O=skep:node"
    assert issued.public_key() == key.public_key()
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        issued.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_request_for_somebody_elses_key_is_refused() -> None:
    """Its signature is what proves that the sender has the key."""
    _, request = new_request()
    _, other = new_request()
    parsed = x509.load_pem_x509_csr(request.encode())
    theirs = x509.load_pem_x509_csr(other.encode())
    forged = parsed.public_bytes(serialization.Encoding.DER).replace(_point(parsed), _point(theirs))
    pem = x509.load_der_x509_csr(forged).public_bytes(PEM).decode()
    with pytest.raises(PkiError, match="not signed with its own key"):
        requested_key(pem)


def _point(request: x509.CertificateSigningRequest) -> bytes:
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


OTHER_KEYS = [
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP384R1()),
]


@pytest.mark.parametrize("key", OTHER_KEYS)
def test_other_keys_than_p256_are_refused(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
) -> None:
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(PkiError, match="P-256"):
        requested_key(request.public_bytes(PEM).decode())


@pytest.mark.parametrize(
    "text", ["", "nothing", "-----BEGIN CERTIFICATE REQUEST-----\n", "x" * 9999]
)
def test_what_is_no_request_is_said_in_words(text: str) -> None:
    with pytest.raises(PkiError):
        requested_key(text)


def test_a_uid_does_not_change_who_one_is() -> None:
    peer = {
        "subject": (
            (("organizationName", "skep:node"),), (("commonName", "a"),), (("userId", "u"),),
        )
    }  # fmt: skip
    identity = identity_of(peer)
    assert identity is not None
    assert str(identity) == "node a"
