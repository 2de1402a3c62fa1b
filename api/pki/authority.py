"""The cluster's own certificate authority: one ECDSA P-256 key that signs everyone's certificate.

Nothing else is trusted, and a certificate is good for one purpose: those of nodes and admins
prove clients only, so a node that is taken over can't pose as the API server.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private, write_public
from api.pki.identity import Role

CA_DAYS = 20 * 365  # SwarmKit's root: 20 years
LEAF_DAYS = 365  # until certificates renew themselves
_SKEW = timedelta(minutes=5)  # a clock that is a little behind still accepts a new certificate
_SERVERS = frozenset({Role.MANAGER, Role.ETCD})

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """Signs certificates. Its key never leaves its file and this object."""

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock = _now
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self.ca_pem = _pem(certificate)

    @classmethod
    def create(cls, directory: Path, *, clock: Clock = _now) -> Authority:
        """Make a new authority in `directory` (`ca.crt`, `ca.key`). Raises PkiError, OSError.

        The certificate is written last: a directory with only a key is one where this was
        interrupted before anything was signed, and is made anew.
        """
        if (directory / "ca.crt").exists():
            raise PkiError(f"{directory} has an authority already; a new one would disown it")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _root(key, clock())
        make_private_directory(directory)
        write_private(directory / "ca.key", _key_pem(key))
        write_public(directory / "ca.crt", _pem(certificate))
        return cls(certificate, key, clock)

    @classmethod
    def load(cls, directory: Path, *, clock: Clock = _now) -> Authority:
        """The authority that `create` made in `directory`. Raises PkiError."""
        certificate_path, key_path = directory / "ca.crt", directory / "ca.key"
        if not certificate_path.exists():
            raise PkiError(
                f"there is no authority in {directory}; a manager makes it when it first starts"
            )
        key = _load_key(key_path)
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        except (OSError, ValueError) as error:
            raise PkiError(f"{certificate_path} can't be read as a certificate: {error}") from error
        if certificate.public_key() != key.public_key():
            raise PkiError(f"{key_path} is not the key of {certificate_path}")
        return cls(certificate, key, clock)

    @classmethod
    def open(cls, directory: Path, *, clock: Clock = _now) -> Authority:
        """Load the authority, or create it where there is none. Raises PkiError, OSError."""
        exists = (directory / "ca.crt").exists()
        return (cls.load if exists else cls.create)(directory, clock=clock)

    def issue(
        self, cn: str, role: Role | str, *, hosts: Iterable[str] = (), days: float = LEAF_DAYS
    ) -> Credentials:
        """A new key with its certificate, good for `days`. Raises PkiError.

        `hosts` are names and addresses a server is reached under; localhost, its addresses and
        this machine's name are always among them.
        """
        role = Role(role)
        if not 1 <= len(cn) <= 64:
            raise PkiError(f"{cn!r} can't be a certificate's name: 1 to 64 characters")
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock()
        end = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(cn, role))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_purposes(role)), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if role in _SERVERS:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(_alternatives(hosts)), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Credentials(cert_pem=_pem(certificate), key_pem=_key_pem(key), ca_pem=self.ca_pem)


def expiry(cert_pem: str) -> datetime:
    """When the certificate ends. Raises PkiError."""
    try:
        return x509.load_pem_x509_certificate(cert_pem.encode()).not_valid_after_utc
    except ValueError as error:
        raise PkiError(f"this is not a certificate: {error}") from error


def _root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "skep cluster authority")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _name(cn: str, role: Role) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, role.value),
            x509.NameAttribute(NameOID.COMMON_NAME, cn),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(role: Role) -> list[x509.ObjectIdentifier]:
    client = [ExtendedKeyUsageOID.CLIENT_AUTH]
    return [ExtendedKeyUsageOID.SERVER_AUTH, *client] if role in _SERVERS else client


def _alternatives(hosts: Iterable[str]) -> list[x509.GeneralName]:
    wanted = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts]
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(host for host in wanted if host):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(_dns_name(host))
    return names


def _dns_name(host: str) -> x509.DNSName:
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise PkiError(f"{host!r} can't be a server's name: {error}") from error


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_private(path).encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{path} can't be read as a private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path} is not an elliptic curve key")
    return key
