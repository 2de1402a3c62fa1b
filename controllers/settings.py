"""What the daemons are told on the command line, one object each."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import click
import msgspec

from api.types import generic
from api.types.generic import Amount

HOME = Path("/var/lib/skep")  # where managers and agents keep their data if nobody says otherwise


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
    node_cert_life: timedelta = timedelta(days=90)
    sealing_key_life: timedelta = timedelta(days=30)  # until the next one is made
    audit_reads: bool = False  # the audit log says who read what, too
    kms: Path | None = None  # the socket of what has the key-encryption key; None: a file
    leave_kms: bool = False  # back from there to a file
    providers: Path | None = None  # where secrets' values may be fetched from; None: nowhere

    @property
    def hosts(self) -> list[str]:
        """What the server's certificate must be good for."""
        wildcard = self.host in ("0.0.0.0", "::")  # noqa: S104 — compared, not listened on
        found = own_address() if wildcard else self.host
        return [*self.advertise, *([found] if found else [])]

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
    token: str  # for a machine that is no member yet
    driver: str
    docker_host: str
    labels: dict[str, str]
    resources: dict[str, Amount]  # generic ones; they stand in place of the engine's of that kind
    engine_network: bool = False  # the engine makes all containers' networks


def own_address() -> str:
    """Under which other machines most probably reach this one; empty where it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of a network for examples; nothing is sent
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def duration(text: str) -> timedelta:
    """`90d`, `36h`, `90m`. Raises UsageError."""
    units = {"d": "days", "h": "hours", "m": "minutes"}
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in units:
        raise click.UsageError(f"{text!r} is not a time; write it like 90d, 36h or 90m")
    return timedelta(**{units[unit]: int(number)})


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


def resources(texts: Iterable[str]) -> dict[str, Amount]:
    """`gpu=2` or `gpu=GPU-1,GPU-2`. Raises UsageError."""
    try:
        return generic.parse(texts)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
