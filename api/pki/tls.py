"""TLS as every connection of ours uses it: version 1.3, both ends prove who they are."""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator

from api.pki.credentials import Credentials
from api.pki.errors import PkiError


def server_context(credentials: Credentials, *, strangers: bool = False) -> ssl.SSLContext:
    """For a server: TLS 1.3 only, a client certificate of the same authority required.

    With `strangers` a client may show none, and whoever answers must look; one that is shown must
    be good all the same. Raises PkiError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL if strangers else ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    # A resumed connection would not have its certificate looked at again.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return _equipped(context, credentials)


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """For a client: TLS 1.3 only, trusting the cluster's authority and nobody else.

    Raises PkiError.
    """
    return _equipped(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), credentials)


def stranger_context(ca_pem: str = "") -> ssl.SSLContext:
    """For a client that has no certificate yet: TLS 1.3, trusting this authority alone.

    Without one it trusts anybody: good only to ask who the server says it is. Raises PkiError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if not ca_pem:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    _trust(context, ca_pem)
    return context


def _equipped(context: ssl.SSLContext, credentials: Credentials) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _trust(context, credentials.ca_pem)
    try:
        with _as_file(credentials.cert_pem + credentials.key_pem) as path:
            context.load_cert_chain(path)
    except (ssl.SSLError, ValueError) as error:
        raise PkiError(f"the certificate and its key can't be used together: {error}") from error
    return context


def _trust(context: ssl.SSLContext, ca_pem: str) -> None:
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise PkiError(f"the authority's certificate can't be used: {error}") from error


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A path to the text for OpenSSL, which reads keys from files only; in memory on Linux."""
    if sys.platform == "linux":
        handle = os.memfd_create("skep-tls", os.MFD_CLOEXEC)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            yield f"/proc/self/fd/{handle}"
    else:
        with tempfile.NamedTemporaryFile("w", encoding="ascii", prefix="skep-") as file:  # 0600
            file.write(text)
            file.flush()
            yield file.name
