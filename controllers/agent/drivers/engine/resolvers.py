"""What containers read as /etc/resolv.conf: the node's, but for name servers that no container
reaches: on the node's loopback, or under IPv6, which containers don't have.

One file serves all containers of a node, and is rewritten in place when the node's changes, so
those that run see it too. A container with name servers, search domains or options of its own
(dns) has a file of its own.
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


def render(host: str, dns: Dns) -> str:
    """The file, from the node's. What `dns` gives stands in place of the node's."""
    servers = dns.servers or _asked(_values(host, "nameserver")) or _PUBLIC
    search = dns.search or (_values(host, "search") or _values(host, "domain"))
    options = dns.options or _values(host, "options")
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

    def put(self, task_uid: str, dns: Dns) -> Path:
        """The file for this task's container; it is there when this returns. Raises DriverError."""
        own = dns != Dns()
        path = self._directory / (task_uid if own else _SHARED)
        text = render(node(), dns)
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
