"""A real etcd for the tests, on free ports of loopback, with TLS and client certificates."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import trustme

from api.store.channel import TLSFiles

START_SECONDS = 30


def certificates(directory: Path) -> TLSFiles:
    """One authority and one certificate, for server and client."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
    tls = TLSFiles(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    authority.cert_pem.write_to_path(str(tls.ca))
    issued.private_key_pem.write_to_path(str(tls.key))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(tls.cert), append=True)
    return tls


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
        return found


class _Place(NamedTuple):
    """Where a member is among its peers."""

    name: str
    client: int
    peer: int

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer}"


class Etcd:
    """One member that can be killed, paused and started again on its data."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        tls: TLSFiles | None = None,
        place: _Place | None = None,
        places: Sequence[_Place] = (),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.tls = tls or certificates(directory)
        place = place or _Place("test", *free_ports(2))
        cluster = ",".join(f"{one.name}={one.peer_url}" for one in places or [place])
        self.endpoint = f"https://127.0.0.1:{place.client}"
        self._address = ("127.0.0.1", place.client)
        ca, cert, key = self.tls
        self._command = [
            "etcd", f"--name={place.name}", f"--data-dir={directory / 'data'}",
            f"--listen-client-urls={self.endpoint}", f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={place.peer_url}",
            f"--initial-advertise-peer-urls={place.peer_url}", f"--initial-cluster={cluster}",
            f"--trusted-ca-file={ca}", "--client-cert-auth", f"--cert-file={cert}",
            f"--key-file={key}", "--max-txn-ops=512", "--logger=zap", "--log-outputs=stderr",
            "--log-level=warn", *flags,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def cluster(cls, directory: Path, size: int) -> list[Self]:
        """Started members of one cluster."""
        ports = free_ports(2 * size)
        places = [_Place(f"m{n}", ports[2 * n], ports[2 * n + 1]) for n in range(size)]
        tls = certificates(directory)
        members = [
            cls(directory / place.name, tls=tls, place=place, places=places) for place in places
        ]
        for member in members:
            member.launch()
        for member in members:
            member.wait()
        return members

    def start(self) -> None:
        self.launch()
        self.wait()

    def launch(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, stdout=log)

    def wait(self) -> None:
        """Until it listens."""
        deadline = time.monotonic() + START_SECONDS
        while self._process is not None:
            with contextlib.suppress(OSError):
                socket.create_connection(self._address, timeout=1).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """A pause is complete when this returns."""
        if self._process is None:
            return
        os.kill(self._process.pid, number)
        deadline = time.monotonic() + START_SECONDS
        while number == signal.SIGSTOP and not _stopped(self._process.pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"etcd (pid {self._process.pid}) does not stop")
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _stopped(pid: int) -> bool:
    """Whether every thread stands still: on a busy machine some run on for a moment."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all(
        (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads
    )
