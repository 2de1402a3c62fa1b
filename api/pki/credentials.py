"""A certificate with its key and the authority it can be checked against, as PEM text."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private, write_public


class CredentialFiles(NamedTuple):
    ca: Path
    cert: Path
    key: Path


class Credentials(NamedTuple):
    cert_pem: str
    key_pem: str
    ca_pem: str

    def __repr__(self) -> str:
        return "Credentials(…)"  # a key must not reach a log or a traceback

    def write(self, directory: Path, name: str) -> CredentialFiles:
        """Write `ca.crt`, `<name>.crt` and `<name>.key`. Raises OSError."""
        make_private_directory(directory)
        files = CredentialFiles(
            ca=directory / "ca.crt", cert=directory / f"{name}.crt", key=directory / f"{name}.key"
        )
        write_private(files.key, self.key_pem)
        write_public(files.cert, self.cert_pem)
        write_public(files.ca, self.ca_pem)
        return files


def read_credentials(ca: Path, cert: Path, key: Path) -> Credentials:
    """Read what `Credentials.write` wrote. Raises PkiError."""
    return Credentials(cert_pem=_public(cert), key_pem=read_private(key), ca_pem=_public(ca))


def _public(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise PkiError(f"{path} does not exist") from None
    except OSError as error:
        raise PkiError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise PkiError(f"{path} is not a PEM file") from None
