"""What every client of the API shares: paths, answers, refusals, and words for what fails.

The asynchronous client (`api.client`) can do everything; its library takes longer to load than a
request takes. `ctl` asks without it (`api.ctl.blocking`). Both use what is here.

Errors:

    ClientError
    ├── ApiError        a manager answered, and it was no: code, reason, message, details
    └── Unreachable     no manager answered, within `patience` seconds of trying
        └── Untrusted   one did, but one side does not accept the other's certificate
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from api.types.kinds import Kind
from api.types.meta import API_VERSION

Document = dict[str, Any]

BASE = f"/apis/{API_VERSION}"
PAGE = 500  # objects a list asks for at once
PATIENCE = 3.0  # seconds
BUSY = frozenset({429, 503})


class ClientError(Exception):
    """Base of what the client raises; its text is for people."""


class ApiError(ClientError):
    """A manager's refusal: Kubernetes' Status, taken apart."""

    def __init__(self, status: Mapping[str, Any], *, code: int = 0) -> None:
        self.status = status
        self.code = int(status.get("code") or code)
        self.reason = str(status.get("reason") or "")
        self.message = str(status.get("message") or f"the manager answered {self.code}")
        self.details: Mapping[str, Any] = status.get("details") or {}
        self.causes: Sequence[Mapping[str, Any]] = self.details.get("causes") or ()
        super().__init__(self.message)


class Unreachable(ClientError):
    """No manager answered; what was asked for has most probably not happened."""


class Untrusted(Unreachable):
    """A certificate was not accepted, the manager's by us or ours by the manager."""


class Listing(NamedTuple):
    items: list[Document]
    resource_version: str  # to watch from


def object_path(kind: Kind, namespace: str, name: str = "") -> str:
    within = f"/namespaces/{quote(namespace, safe='')}" if kind.namespaced and namespace else ""
    if name and kind.namespaced and not namespace:
        raise ClientError(f"{kind.name.lower()} {name} is looked for in no namespace")
    return f"{BASE}{within}/{kind.plural}" + (f"/{quote(name, safe='')}" if name else "")


def given(**query: str | int) -> dict[str, str]:
    """Of a query, what is not empty."""
    return {name: str(value) for name, value in query.items() if value not in ("", 0)}


def refusal(code: int, body: bytes, where: str) -> ApiError:
    """What a manager's answer of 400 and more says."""
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        said = None
    if not isinstance(said, dict) or said.get("kind") != "Status":
        said = {"message": f"{where} answered {code}, not as skep does"}
    return ApiError(said, code=code)


def not_reached(where: str, error: OSError) -> Unreachable:
    """Why no connection to `where` came about."""
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} did not answer in time")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{where} refused the connection: no manager runs there")
    return Unreachable(f"{where} can't be reached: {error.strerror or error}")


def hung_up(where: str) -> Unreachable:
    # OpenSSL's alert rarely makes it out before Python's TLS closes the connection.
    return Unreachable(
        f"{where} closed the connection without an answer: it stops, or it does not accept our"
        " certificate (is it our cluster, or was that made anew?)"
    )


def distrust(error: Exception) -> str:
    """What is wrong between two certificates, in words; empty where it is not about them."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _DISTRUSTED.get(
            error.verify_code, f"its certificate is not accepted: {error.verify_message}"
        )
    text = str(error).lower()
    return next((said for sign, said in _REFUSED.items() if sign in text), "")


# OpenSSL's X509_V_ERR_* codes
_OTHER_CLUSTER = (
    "its certificate is of another authority: it is not this context's cluster, or the cluster"
    " was made anew; import its admin.yaml"
)
_OTHER_NAME = (
    "its certificate is for other names and addresses; reach it under one of those, or start the"
    " manager with --advertise for this one; or the manager is locked: see `ctl unlock`"
)
_DISTRUSTED = {
    9: "its certificate is not valid yet; compare the clocks of both machines",
    10: "its certificate has expired; restart the manager to have a new one issued",
    18: _OTHER_CLUSTER,
    19: _OTHER_CLUSTER,
    20: _OTHER_CLUSTER,
    21: _OTHER_CLUSTER,
    7: _OTHER_CLUSTER,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
# TLS alerts, as OpenSSL words them
_REFUSED = {
    "alert unknown ca": "it does not know the authority of our certificate; is it our cluster?",
    "alert certificate expired": "our certificate has expired; import a new admin.yaml",
    "alert bad certificate": "it does not accept our certificate",
    "alert certificate unknown": "it does not accept our certificate",
    "alert certificate required": "it wants a certificate, and we have shown none",
    "alert protocol version": "it speaks no TLS 1.3",
    "wrong version number": "it does not speak TLS",
    "decrypt error": "it does not know the authority of our certificate; is it our cluster?",
}
