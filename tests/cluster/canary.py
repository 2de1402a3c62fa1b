"""Where a secret's bytes might turn up, beside the file that is mounted for its tasks."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from aetcd import rpc

from tests.cluster.harness import Cluster


@dataclass(frozen=True)
class Canary:
    """Bytes that are nowhere else in the world."""

    text: str

    @property
    def forms(self) -> list[bytes]:
        """As it may be written: plain, base64 at each of the three alignments, hex."""
        plain = self.text.encode()
        shifted = [base64.b64encode(b"x" * lead + plain)[4:-4] for lead in range(3)]
        urls = [base64.urlsafe_b64encode(b"x" * lead + plain)[4:-4] for lead in range(3)]
        hexed = plain.hex().encode()
        return [plain, plain[::-1], hexed, hexed.upper(), *shifted, *urls]

    def inside(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)

    def inside_file(self, path: Path) -> bool:
        try:
            return self.inside(path.read_bytes())
        except FileNotFoundError:  # it has gone since
            return False


def etcd_snapshot(cluster: Cluster) -> bytes:
    """What `etcdctl snapshot save` writes: a backup of all that etcd holds."""
    keys = cluster.home / "manager" / "pki" / "etcd"
    ports = json.loads((cluster.home / "manager" / "etcd" / "member.json").read_bytes())
    ca, cert, key = ((keys / name).read_bytes() for name in ("ca.crt", "etcd.crt", "etcd.key"))
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    with grpc.secure_channel(f"127.0.0.1:{ports['client']}", credentials) as channel:
        pieces = rpc.MaintenanceStub(channel).Snapshot(rpc.SnapshotRequest())
        return b"".join(piece.blob for piece in pieces)


def dumped(pid: int, where: Path, *, by: list[str]) -> list[Path]:
    """The core files that gcore makes of a process, run `by` somebody."""
    where.mkdir(exist_ok=True)
    where.chmod(0o777)
    subprocess.run(
        [*by, "gcore", "-o", str(where / "core"), str(pid)], capture_output=True, check=False
    )
    return list(where.iterdir())


def swapped_out() -> list[str]:
    """The machine's swap areas."""
    return Path("/proc/swaps").read_text().splitlines()[1:]


def super_options(place: Path) -> set[str]:
    """Of the file system that is mounted there."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == str(place):
            return set(after.split()[2].split(","))
    raise AssertionError(f"nothing is mounted at {place}")


def files_below(*roots: Path) -> Iterator[Path]:
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path
