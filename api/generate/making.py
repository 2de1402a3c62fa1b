"""What a manifest asks for, made: the keys with their bytes, and what may be told of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from api.generate import keypairs, text
from api.pki import certificates
from api.pki.certificates import Issuer
from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.types.generated import Certificate, Generate, Generated, keys_of
from api.types.quantity import parse_duration

_AUTHORITY_KEYS = (("ca.crt", "ca.key"), ("tls.crt", "tls.key"))  # of one that users give


class Made(NamedTuple):
    files: dict[str, bytes]
    told: Generated

    def __repr__(self) -> str:
        return f"Made({', '.join(self.files)})"  # bytes must not reach a log or a traceback


def make(
    name: str,
    wanted: Generate,
    secret: str,
    now: datetime,
    *,
    issuer: Issuer | None = None,
    predecessor: Issuer | None = None,
) -> Made:
    """Values of that name for a secret (namespace/name). `issuer` signs a certificate that asks
    for an authority; `predecessor` is an authority's own one. Raises PkiError."""
    if wanted.x509 is not None:
        files = _certificate(name, wanted.x509, secret, now, issuer, predecessor)
    elif wanted.ssh is not None:
        pair = keypairs.ssh(wanted.ssh, secret)
        files = {name: pair.private, f"{name}.pub": f"{pair.public}\n".encode()}
    elif wanted.age is not None:
        pair = keypairs.age()
        files = {name: pair.private, f"{name}.pub": f"{pair.public}\n".encode()}
    else:
        files = {name: text.make(wanted)}
    return Made(files, told(name, Generated(spec=wanted, made=now), files))


def told(name: str, known: Generated, files: Mapping[str, bytes]) -> Generated:
    """What may be told of values that are there, `known` brought up to their bytes.

    Raises PkiError, KeyError, ValueError where they are not what was asked for.
    """
    wanted = known.spec
    keys = keys_of(name, wanted)
    missing = [key for key in keys if key not in files]
    if missing:
        raise KeyError(missing[0])
    new = msgspec.structs.replace(known, keys=keys)
    if wanted.x509 is not None:
        found = certificates.facts(files[f"{name}.crt"])
        return msgspec.structs.replace(
            new,
            fingerprint=found.fingerprint,
            not_before=found.not_before,
            not_after=found.not_after,
            issuer=found.issuer,
        )
    if wanted.ssh is not None or wanted.age is not None:
        public = files[f"{name}.pub"].decode().strip()
        shown = keypairs.ssh_fingerprint(public) if wanted.ssh is not None else ""
        return msgspec.structs.replace(new, public_key=public, fingerprint=shown)
    return new


def authority(wanted: Mapping[str, Generate], files: Mapping[str, bytes]) -> Issuer:
    """The authority that a secret holds: the one it asks for, or one that its user gave.

    Raises PkiError, in words about the secret.
    """
    asked = [name for name, each in wanted.items() if each.x509 is not None and each.x509.is_ca]
    if len(asked) > 1:
        raise PkiError(f"it holds several authorities ({', '.join(asked)}), and one is needed")
    pairs = [(f"{name}.crt", f"{name}.key") for name in asked] or list(_AUTHORITY_KEYS)
    for cert, key in pairs:
        if cert in files and key in files:
            return Issuer.from_pem(files[cert], files[key], files.get("ca.crt", b""))
    if asked:
        raise PkiError(f"its authority {asked[0]} is not made yet")
    raise PkiError("it holds no authority: no generated one with isCA, no ca.crt with ca.key")


def reissued_bundle(name: str, files: Mapping[str, bytes], issuer: Issuer) -> dict[str, bytes]:
    """The keys of a certificate whose chain or bundle differs now; its key and it stay."""
    chain, trust = certificates.rechained(files[f"{name}.crt"], issuer)
    new = _laid_out(name, Credentials(cert_pem=chain, key_pem="", ca_pem=trust))
    return {key: new[key] for key in new if not key.endswith(".key") and new[key] != files.get(key)}


def without_predecessors(name: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The keys of an authority that change when nobody before it is trusted any more."""
    own = certificates.alone(files[f"{name}.crt"]).encode()
    return {key: own for key in (f"{name}.crt", "ca.crt") if files.get(key) != own}


def _certificate(
    name: str,
    wanted: Certificate,
    secret: str,
    now: datetime,
    issuer: Issuer | None,
    predecessor: Issuer | None,
) -> dict[str, bytes]:
    called = secret.rpartition("/")[2]
    if wanted.is_ca and predecessor is not None:
        made = certificates.successor(wanted, called, now, predecessor)
    elif issuer is not None:
        made = certificates.signed_by(issuer, wanted, called, now)
    else:
        made = certificates.signed_by_itself(wanted, called, now)
    return _laid_out(name, made)


def _laid_out(name: str, made: Credentials) -> dict[str, bytes]:
    """An authority called `ca` has its certificate, what goes along and the bundle in one file."""
    files = {f"{name}.crt": made.cert_pem, f"{name}.key": made.key_pem}
    bundle = made.ca_pem
    if f"{name}.crt" == "ca.crt":
        bundle = made.cert_pem + certificates.rest_of(made.ca_pem)
    return {key: value.encode() for key, value in {**files, "ca.crt": bundle}.items()}


def overlap_end(wanted: Certificate, now: datetime) -> datetime:
    """Until when an authority's predecessor is trusted at least."""
    return now + timedelta(seconds=parse_duration(wanted.overlap))
