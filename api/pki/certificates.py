"""Certificates that secrets ask for: for services, from authorities that are secrets themselves.

Nothing here has to do with the cluster's own authority. An authority's file begins with its
certificate. While its predecessor is still trusted, two more follow: its own key as the predecessor
vouches for it, which goes with everything it signs, and the predecessor's certificate, which goes
into every bundle. So whoever trusts only one of the two accepts what either has signed, in whatever
order services get their new certificates.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.types.generated import AUTHORITY_LIFE, CERTIFICATE_LIFE, Certificate
from api.types.quantity import parse_duration

SKEW = timedelta(minutes=5)  # a clock that is a little behind still accepts a new certificate
_PREDECESSORS = 3  # that an authority's bundle holds, where it is renewed again and again
_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_MAKE: dict[str, Callable[[], PrivateKey]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa-2048": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "rsa-3072": lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
    "rsa-4096": lambda: rsa.generate_private_key(public_exponent=65537, key_size=4096),
}


class Facts(NamedTuple):
    """What a certificate says that is no secret. Times as they are in it."""

    fingerprint: str  # SHA-256, as `openssl x509 -fingerprint -sha256` shows it
    not_before: datetime
    not_after: datetime
    issuer: str  # the `id` of the authority that signed it; empty: it does not say


class Issuer:
    """An authority to sign with: its certificate and key, what goes along, what to trust."""

    def __init__(
        self,
        certificate: x509.Certificate,
        key: PrivateKey,
        chain: Sequence[x509.Certificate],
        trust: Sequence[x509.Certificate],
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.chain = list(chain)
        self.trust = list(trust)

    @classmethod
    def from_pem(cls, cert_pem: bytes, key_pem: bytes, ca_pem: bytes = b"") -> Issuer:
        """An authority's files; `ca_pem` is what else its users trust. Raises PkiError."""
        own = _certificates(cert_pem)
        key = _key(key_pem)
        if own[0].public_key() != key.public_key():
            raise PkiError("its key is not that of its certificate")
        if not _is_authority(own[0]):
            raise PkiError("its certificate is not that of an authority: it may not sign others")
        named = [*own, *(_certificates(ca_pem) if ca_pem else ())]
        chain = [each for each in own if not _signs_itself(each)]
        trust = [each for each in named if _signs_itself(each)] or named
        return cls(own[0], key, chain, _once(trust))

    @property
    def id(self) -> str:
        """What the certificates that it signs say of who signed them: its key's identifier."""
        return (_authority(self.certificate).key_identifier or b"").hex()

    @property
    def trust_pem(self) -> str:
        return _pem(*self.trust)


def signed_by_itself(wanted: Certificate, name: str, now: datetime) -> Credentials:
    """A new key with a certificate that it signs itself: an authority, or one that is trusted by
    itself alone. `name` is what it is called where it has no names. Raises PkiError."""
    key = _MAKE[wanted.key_type]()
    subject = _subject(wanted, name)
    builder = _builder(wanted, name, key, now).issuer_name(subject)
    certificate = _sign(
        builder, key, x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    )
    return Credentials(cert_pem=_pem(certificate), key_pem=_key_pem(key), ca_pem=_pem(certificate))


def successor(wanted: Certificate, name: str, now: datetime, old: Issuer) -> Credentials:
    """An authority that takes the place of another one, which vouches for it. Raises PkiError."""
    made = signed_by_itself(wanted, name, now)
    certificate = _certificates(made.cert_pem.encode())[0]
    key = _key(made.key_pem.encode())
    ends = min(certificate.not_valid_after_utc, old.certificate.not_valid_after_utc)
    trusted = [each for each in old.trust if each.not_valid_after_utc > now][:_PREDECESSORS]
    chain: list[x509.Certificate] = []
    if ends > now:  # one that has ended can vouch for nobody
        builder = _builder(wanted, name, key, now, ends=ends)
        builder = builder.issuer_name(old.certificate.subject)
        cross = _sign(builder, old.key, _authority(old.certificate))
        chain = [cross, *old.chain][:_PREDECESSORS]
    return Credentials(
        cert_pem=_pem(certificate, *chain),
        key_pem=made.key_pem,
        ca_pem=_pem(certificate, *trusted),
    )


def signed_by(issuer: Issuer, wanted: Certificate, name: str, now: datetime) -> Credentials:
    """A new key with a certificate from an authority, good no longer than that one is.

    Raises PkiError, also where the authority's certificate has ended.
    """
    ends = issuer.certificate.not_valid_after_utc
    if ends <= now:
        raise PkiError(f"the authority's certificate ended at {ends:%Y-%m-%dT%H:%M:%SZ}")
    key = _MAKE[wanted.key_type]()
    builder = _builder(wanted, name, key, now, ends=min(ends, now + life(wanted)))
    builder = builder.issuer_name(issuer.certificate.subject)
    certificate = _sign(builder, issuer.key, _authority(issuer.certificate))
    return Credentials(
        cert_pem=_pem(certificate, *issuer.chain),
        key_pem=_key_pem(key),
        ca_pem=issuer.trust_pem,
    )


def rechained(cert_pem: bytes, issuer: Issuer) -> tuple[str, str]:
    """The same certificate with what its authority has go along now, and what to trust now."""
    leaf = _certificates(cert_pem)[0]
    return _pem(leaf, *issuer.chain), issuer.trust_pem


def rest_of(bundle_pem: str) -> str:
    """All certificates of a bundle but the first."""
    return _pem(*_certificates(bundle_pem.encode())[1:])


def alone(cert_pem: bytes) -> str:
    """An authority's file, and its bundle, without its predecessors. Raises PkiError."""
    return _pem(_certificates(cert_pem)[0])


def facts(cert_pem: bytes) -> Facts:
    """Of the first certificate of a file. Raises PkiError."""
    certificate = _certificates(cert_pem)[0]
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        issuer = found.value.key_identifier or b""
    except (x509.ExtensionNotFound, ValueError):
        issuer = b""
    return Facts(
        fingerprint=fingerprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer=issuer.hex(),
    )


def fingerprint(certificate: x509.Certificate) -> str:
    raw = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return ":".join(raw[at : at + 2] for at in range(0, len(raw), 2))


def life(wanted: Certificate) -> timedelta:
    default = AUTHORITY_LIFE if wanted.is_ca else CERTIFICATE_LIFE
    return timedelta(seconds=parse_duration(wanted.lifetime or default))


def _builder(
    wanted: Certificate,
    name: str,
    key: PrivateKey,
    now: datetime,
    *,
    ends: datetime | None = None,
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(wanted, name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(ends or now + life(wanted))
        .add_extension(x509.BasicConstraints(ca=wanted.is_ca, path_length=None), critical=True)
        .add_extension(_usage(wanted, key), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    names = _alternatives(wanted)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if not wanted.is_ca:
        usages = [_USAGES[usage] for usage in wanted.usages]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder


def _sign(
    builder: x509.CertificateBuilder, signer: PrivateKey, authority: x509.AuthorityKeyIdentifier
) -> x509.Certificate:
    try:
        return builder.add_extension(authority, critical=False).sign(signer, _hash(signer))
    except ValueError as error:
        raise PkiError(f"the certificate can't be made: {error}") from error


def _authority(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How its own certificate names its key; others' authorities have their own ways to."""
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except (x509.ExtensionNotFound, ValueError):
        key = certificate.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None  # it brings its own
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256:
        return hashes.SHA384()
    return hashes.SHA256()


def _usage(wanted: Certificate, key: PrivateKey) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not wanted.is_ca,
        key_cert_sign=wanted.is_ca,
        crl_sign=wanted.is_ca,
        # TLS 1.2 without forward secrecy, which old clients of RSA still ask for.
        key_encipherment=not wanted.is_ca and isinstance(key, rsa.RSAPrivateKey),
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(wanted: Certificate, name: str) -> x509.Name:
    called = wanted.common_name or next(iter([*wanted.dns_names, *wanted.ip_addresses]), "") or name
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called[:64])])
    except ValueError as error:
        raise PkiError(f"{called!r} can't be a certificate's name: {error}") from error


def _alternatives(wanted: Certificate) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(wanted.dns_names):
        try:
            names.append(x509.DNSName(host))
        except ValueError as error:
            raise PkiError(f"{host!r} can't be a certificate's DNS name: {error}") from error
    for text in dict.fromkeys(wanted.ip_addresses):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError as error:
            raise PkiError(f"{text!r} is no IP address") from error
    return names


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return found.value.ca


def _signs_itself(certificate: x509.Certificate) -> bool:
    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _once(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    return list({fingerprint(each): each for each in certificates}.values())


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise PkiError(f"this is not a certificate: {error}") from error


def _pem(*certificates: x509.Certificate) -> str:
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)


def _key(pem: bytes) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError("its key can't be read as a private key without a password") from error
    if not isinstance(key, PrivateKey):
        raise PkiError(f"its key is of a sort that can't be used here: {type(key).__name__}")
    return key


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
