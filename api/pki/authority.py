"""The cluster's own certificate authority: one ECDSA P-256 key that signs everyone's certificate.

Nothing else is trusted, and a certificate is good for one purpose: those of nodes and admins
prove clients only, so a node that is taken over can't pose as the API server.

The subject of a certificate says all that the API knows of its holder: the role (organization),
the name (common name) and, where the holder was let in by a manager, a uid (user id) that no other
holder ever has, so that a node made anew under an old name is not the old one.

An authority is known by the digest of its public key: join tokens carry it, and the first eight
characters of it are in the authority's name, so that a certificate's issuer says which it was.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private, write_public
from api.pki.identity import AUTHORITY_NAME, ID_LENGTH, Role

CA_DAYS = 20 * 365  # SwarmKit's root: 20 years
LEAF_DAYS = 365  # until certificates renew themselves
_SKEW = timedelta(minutes=5)  # a clock that is a little behind still accepts a new certificate
_SERVERS = frozenset({Role.MANAGER, Role.ETCD})

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """Signs certificates. `cross_pem`: its certificate as signed by the authority before it,
    which goes with all that it signs, for those who know only that one yet."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        clock: Clock = _now,
        *,
        cross_pem: str = "",
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._cross_pem = cross_pem
        self.ca_pem = _pem(certificate)
        self.digest = digest(certificate)

    @property
    def id(self) -> str:
        """What its certificates' issuer field says: `issuer_of` in `api.pki.identity`."""
        return self.digest[:ID_LENGTH]

    @classmethod
    def generate(cls, *, clock: Clock = _now) -> Authority:
        """A new one, in memory only."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_root(key, clock()), key, clock)

    @classmethod
    def from_pem(
        cls, ca_pem: str, key_pem: str, *, cross_pem: str = "", clock: Clock = _now
    ) -> Authority:
        """What `ca_pem` and `private_pem` of an authority were. Raises PkiError."""
        key = _parse_key(key_pem, "the authority's key")
        certificate = parse_certificate(ca_pem)
        if certificate.public_key() != key.public_key():
            raise PkiError("the authority's key is not that of its certificate")
        return cls(certificate, key, clock, cross_pem=cross_pem)

    def private_pem(self) -> str:
        """Its key, to be sealed and stored. Whoever has it is the cluster."""
        return _key_pem(self._key)

    def cross_sign(self, newer: Authority) -> str:
        """The newer authority's certificate as this one vouches for it, PEM."""
        now = self._clock()
        certificate = (
            _ca_builder(newer._certificate.subject, newer._key.public_key(), now)
            .issuer_name(self._certificate.subject)
            .not_valid_after(
                min(self._certificate.not_valid_after_utc, newer._certificate.not_valid_after_utc)
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return _pem(certificate)

    @classmethod
    def create(cls, directory: Path, *, clock: Clock = _now) -> Authority:
        """Make a new authority in `directory` (`ca.crt`, `ca.key`). Raises PkiError, OSError.

        The certificate is written last: a directory with only a key is one where this was
        interrupted before anything was signed, and is made anew.
        """
        if (directory / "ca.crt").exists():
            raise PkiError(f"{directory} has an authority already; a new one would disown it")
        made = cls.generate(clock=clock)
        make_private_directory(directory)
        write_private(directory / "ca.key", made.private_pem())
        write_public(directory / "ca.crt", made.ca_pem)
        return made

    @classmethod
    def load(cls, directory: Path, *, clock: Clock = _now) -> Authority:
        """The authority that `create` made in `directory`. Raises PkiError."""
        certificate_path, key_path = directory / "ca.crt", directory / "ca.key"
        if not certificate_path.exists():
            raise PkiError(
                f"there is no authority in {directory}; a manager makes it when it first starts"
            )
        key = _parse_key(read_private(key_path), str(key_path))
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
        self,
        cn: str,
        role: Role | str,
        *,
        uid: str = "",
        hosts: Iterable[str] = (),
        days: float = LEAF_DAYS,
    ) -> Credentials:
        """A new key with its certificate, good for `days`. Raises PkiError.

        `hosts` are names and addresses a server is reached under; localhost, its addresses and
        this machine's name are always among them.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certified = self.certify(key.public_key(), cn, role, uid=uid, hosts=hosts, days=days)
        return Credentials(cert_pem=certified, key_pem=_key_pem(key), ca_pem=self.ca_pem)

    def certify(
        self,
        key: ec.EllipticCurvePublicKey,
        cn: str,
        role: Role | str,
        *,
        uid: str = "",
        hosts: Iterable[str] = (),
        days: float = LEAF_DAYS,
    ) -> str:
        """A certificate for a key that somebody else keeps, as PEM. Raises PkiError."""
        role = Role(role)
        if not 1 <= len(cn) <= 64:
            raise PkiError(f"{cn!r} can't be a certificate's name: 1 to 64 characters")
        builder = self._leaf(key, _name(cn, role, uid), _purposes(role), timedelta(days=days))
        if role is Role.UNLOCK:  # good under these names alone: for no other server
            names = x509.SubjectAlternativeName([_dns_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        elif role in _SERVERS:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(_alternatives(hosts)), critical=False
            )
        return self._signed(builder)

    def renew(
        self, shown: bytes, key: ec.EllipticCurvePublicKey, *, days: float | None = None
    ) -> str:
        """The same holder's next certificate, for another key, as PEM. `shown` is the one that
        the holder has proven to be theirs, as DER; theirs is also its life, where `days` gives no
        other. Only clients'. Raises PkiError.
        """
        try:
            old = x509.load_der_x509_certificate(shown)
        except ValueError as error:
            raise PkiError(f"this is not a certificate: {error}") from error
        purposes = old.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if list(purposes) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
            raise PkiError("only clients' certificates are renewed; a manager makes its own")
        life = old.not_valid_after_utc - old.not_valid_before_utc - _SKEW
        if days is not None:
            life = timedelta(days=days)
        return self._signed(self._leaf(key, old.subject, list(purposes), life))

    def _leaf(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: x509.Name,
        purposes: list[x509.ObjectIdentifier],
        life: timedelta,
    ) -> x509.CertificateBuilder:
        now = self._clock()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(min(now + life, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def _signed(self, builder: x509.CertificateBuilder) -> str:
        return _pem(builder.sign(self._key, hashes.SHA256())) + self._cross_pem


def parse_certificate(pem: str) -> x509.Certificate:
    """The first one in the text. Raises PkiError."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise PkiError(f"this is not a certificate: {error}") from error


def digest(certificate: x509.Certificate) -> str:
    """Of the public key (its SubjectPublicKeyInfo): SHA-256, 52 characters of [a-z2-7]."""
    return _digest(certificate.public_key())


def _digest(key: CertificatePublicKeyTypes) -> str:
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b32encode(hashlib.sha256(spki).digest()).decode().rstrip("=").lower()


def mark(bundle: str) -> str:
    """Which authorities a bundle of certificates (PEM) holds, as a short text. Raises PkiError."""
    try:
        found = x509.load_pem_x509_certificates(bundle.encode())
    except ValueError as error:
        raise PkiError(f"these are not authorities' certificates: {error}") from error
    return "+".join(sorted(digest(one)[:ID_LENGTH] for one in found))


def life(cert_pem: str) -> tuple[datetime, datetime]:
    """When the certificate was made, as far as it says, and when it ends. Raises PkiError."""
    certificate = parse_certificate(cert_pem)
    return certificate.not_valid_before_utc + _SKEW, certificate.not_valid_after_utc


def expiry(cert_pem: str) -> datetime:
    """When the certificate ends. Raises PkiError."""
    return parse_certificate(cert_pem).not_valid_after_utc


def _root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    known_as = _digest(key.public_key())[:ID_LENGTH]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{AUTHORITY_NAME} {known_as}")])
    return (
        _ca_builder(name, key.public_key(), now)
        .issuer_name(name)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .sign(key, hashes.SHA256())
    )


def _ca_builder(
    name: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        # One authority may stand between: the next one, which this one vouches for.
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(cn: str, role: Role, uid: str) -> x509.Name:
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, role.value),
        x509.NameAttribute(NameOID.COMMON_NAME, cn),
    ]
    return x509.Name([*parts, *([x509.NameAttribute(NameOID.USER_ID, uid)] if uid else [])])


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
    if role is Role.UNLOCK:
        return [ExtendedKeyUsageOID.SERVER_AUTH]
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


def _parse_key(pem: str, what: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{what} can't be read as a private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{what} is not an elliptic curve key")
    return key
