"""What the daemons are told on the command line, one object each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec


class Fatal(Exception):
    """A daemon can't go on; the text says what happened and what to do."""


class ManagerSettings(msgspec.Struct, frozen=True, kw_only=True):
    data_dir: Path
    host: str
    port: int
    advertise: list[str]
    etcd_endpoints: list[str]  # empty: an etcd member of our own
    etcd_files: tuple[Path, Path, Path] | None  # authority, certificate, key
    heartbeat: float  # seconds
    audit_reads: bool = False  # the audit log says who read what, too

    @property
    def hosts(self) -> list[str]:
        """What the server's certificate must be good for."""
        wildcard = self.host in ("0.0.0.0", "::")  # noqa: S104 — compared, not listened on
        return [*([] if wildcard else [self.host]), *self.advertise]

    @property
    def url(self) -> str:
        """Where a client on this machine finds the API."""
        name = (self.hosts or ["127.0.0.1"])[0]
        return f"https://{f'[{name}]' if ':' in name else name}:{self.port}"


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    data_dir: Path
    run_dir: Path
    servers: list[str]
    node: str
    ca: Path
    cert: Path
    key: Path
    driver: str
    docker_host: str
    labels: dict[str, str]


def address(text: str) -> tuple[str, int]:
    """`127.0.0.1:7443`, `[::1]:7443` or `:7443` in two. Raises UsageError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise click.UsageError(f"{text!r} is not an address with a port, like 127.0.0.1:7443")
    return host or "0.0.0.0", int(port)  # noqa: S104 — that is what leaving it out asks for


def labels(texts: Iterable[str]) -> dict[str, str]:
    """`zone=east` and so on. Raises UsageError."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{text!r} is not a label; write it like zone=east")
        found[key] = value
    return found
