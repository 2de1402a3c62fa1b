"""What containers read as /etc/resolv.conf: the node's, but for name servers that no container
reaches: on the node's loopback, or under IPv6, which containers don't have. What the engine's
configuration says for all containers stands in place of it, and what a service says (dns) of both.

One file serves all containers of a node without a say of their own. It is rewritten in place when
one is made and the node's has changed, so that those that run see it, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from api.types.template import Dns
from controllers.agent.drivers.engine.seen import rewrite

_HOST = Path("/etc/resolv.conf")
_SYSTEMD = Path("/run/systemd/resolve/resolv.conf")  # what systemd's stub on loopback asks
# The engine's own choice for a node that has none a container could ask.
_PUBLIC = ["8.8.8.8", "8.8.4.4"]
_NONE = ["."]  # of search domains: the way to say that there are none
_SHARED = "node"
_UNSAID = Dns()


def render(host: str, dns: Dns, engine: Dns = _UNSAID) -> str:
    """The file, from the node's: what `dns` gives comes first, then what `engine` does."""
    known = _asked(_values(host, "nameserver")) or _PUBLIC
    servers = dns.servers or engine.servers or known
    search = dns.search or engine.search or _values(host, "search") or _values(host, "domain")
    options = dns.options or engine.options or _values(host, "options")
    lines = [f"nameserver {server}" for server in servers]
    if search and search != _NONE:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def node(host: Path = _HOST, behind: Path = _SYSTEMD) -> str:
    """The node's own file; what stands behind a stub of systemd's. Empty where there is none."""
    text = _read(host)
    return text if _asked(_values(text, "nameserver")) else _read(behind) or text


class Resolvers:
    """The files, in a directory of the agent's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[Path, str] = {}

    def put(self, task_uid: str, dns: Dns, engine: Dns = _UNSAID) -> Path:
        """The file for this task's container; it is there when this returns. Raises DriverError."""
        path = self._directory / (task_uid if dns != _UNSAID else _SHARED)
        text = render(node(), dns, engine)
        if self._written.get(path) != text or not path.exists():
            rewrite(str(path), text, "the file of the containers' name servers")
            self._written[path] = text
        return path

    def forget(self, task_uid: str) -> None:
        path = self._directory / task_uid
        path.unlink(missing_ok=True)
        self._written.pop(path, None)


def _values(text: str, keyword: str) -> list[str]:
    """Of the last line that has it, but all name servers count."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == keyword:
            found = [*found, *words[1:2]] if keyword == "nameserver" else words[1:]
    return found


def _asked(servers: Iterable[str]) -> list[str]:
    """Those that can be asked from a container."""
    return [server for server in servers if _reached(server)]


def _reached(server: str) -> bool:
    try:
        return not ipaddress.IPv4Address(server).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
