"""`ctl unlock`: bring a locked manager the key that it waits for."""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from api.ctl.errors import CtlError, Usage
from api.ctl.session import Session, unreachable, verb

if TYPE_CHECKING:
    from api.types.keys import UnlockRequest

_SECONDS = 10.0


@verb("unlock")
def command(session: Session) -> None:
    """Open locked managers, with the unlock key from stdin or from the terminal.

    \b
    All managers of the context that are locked are opened, or the one of --server. The key is
    never taken from the command line, where others could read it.
    \b
    Examples:
      ctl unlock
      ctl unlock < /media/safe/unlock-key
    """
    from api.types.keys import UnlockRequest

    servers = session.context.servers
    found = {server: locked(session, server) for server in servers}
    waiting = [server for server, is_locked in found.items() if is_locked]
    if not waiting:
        for server, is_locked in found.items():
            why = "is not locked" if is_locked is False else "does not answer"
            session.output.note(f"the manager at {server} {why}")
        if False in found.values():
            return
        raise unreachable(session.context.server, "it does not answer")
    wanted = UnlockRequest(key=_key())
    for server in waiting:
        _unlock(session, server, wanted)
        session.output.data(f"the manager at {server} is unlocked")


def locked(session: Session, server: str) -> bool | None:
    """Whether a locked manager listens there; None where nothing does. Raises PkiError."""
    try:
        code, _ = _ask(session, server, "GET", None)
    except ssl.SSLCertVerificationError:
        return False  # it shows what a manager shows that is not
    except (OSError, http.client.HTTPException):
        return None
    return code == 200


def _key() -> str:
    if sys.stdin.isatty():
        text: str = click.prompt("unlock key", hide_input=True, err=True)
    else:
        text = sys.stdin.read(4096)
    if not text.strip():
        raise Usage("no key was given", "type it when asked, or pipe it to stdin")
    return text.strip()


def _unlock(session: Session, server: str, wanted: UnlockRequest) -> None:
    import msgspec

    try:
        code, said = _ask(session, server, "POST", msgspec.json.encode(wanted))
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(server, str(error)) from error
    if code == 200:
        return
    try:
        message = str(msgspec.json.decode(said)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"it answered {code}"
    raise CtlError(f"the manager at {server} stays locked: {message}")


def _ask(session: Session, server: str, method: str, body: bytes | None) -> tuple[int, bytes]:
    """Raises OSError, HTTPException, PkiError."""
    from api.types.keys import UNLOCK_PATH

    parts = urlsplit(server)
    connection = _Connection(parts.hostname or "", parts.port or 443, timeout=_SECONDS)
    connection.tls = session.context.tls()
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, UNLOCK_PATH, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """To whoever has a locked manager's certificate, and to nobody else."""

    tls: ssl.SSLContext

    def connect(self) -> None:
        from api.types.keys import UNLOCK_NAME

        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self.tls.wrap_socket(plain, server_hostname=UNLOCK_NAME)
