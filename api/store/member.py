"""A manager's own etcd member, as its child.

The model:

- `async with Member(...)` takes the directory's lock, ends what an earlier run left behind,
  starts etcd and returns when it answers a read through the quorum.
- From then on two tasks look after it. One waits for the process to end and starts it again,
  later each time. The other, every few seconds, keeps the log within its bounds and mends a
  database that ran over its quota.
- Ports are chosen once and kept in `member.json`, so that a restart is found where it was.
- It listens on loopback only, with TLS and client certificates. Any certificate of the authority
  in `files.ca` opens it: give it an authority that signs nothing but managers' certificates.
- It cannot outlive this process: see `api.store.child`.

Directory:

    data/         etcd's own
    log, log.1    what it says, the newest 2 × `log_bytes`
    member.json   its ports
    lock          held by the manager that runs it; etcd.pid: the process
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec
import structlog

from api.store import child
from api.store.channel import TLSFiles
from api.store.contract import StoreError, Unavailable
from api.store.etcd import MAX_OPS, EtcdStore

_log = structlog.get_logger(__name__)

_HOST = "127.0.0.1"
_NAME = "skep"
_GRACE = 5.0  # seconds to end in
_RETRY_FIRST = 0.2  # seconds until it is started again
_RETRY_LAST = 10.0
_STEADY = 30.0  # seconds it must run to count as well again
_TEND = 10.0  # seconds between looks at its log and its alarms
_PROBE = 0.05  # seconds between probes while it starts
_PORT_TRIES = 3
_ROOM = 192 << 20  # bytes of disk to start with: two of etcd's 64 MB log segments, and data


class MemberError(Exception):
    """etcd cannot be run here; the message says why and what to do."""


class MemberSettings(msgspec.Struct, frozen=True, kw_only=True):
    client_port: int = 0  # 0: chosen when it first starts, and kept
    peer_port: int = 0
    quota_bytes: int = 8 << 30  # etcd's advice for the most
    history: str = "2m"  # what a watch can catch up on
    # Transactions until its log is cut. They are a few 100 kB each when busy, and in memory.
    snapshot_count: int = 5_000
    start_timeout: float = 60.0  # seconds
    log_bytes: int = 8 << 20
    unsafe_no_fsync: bool = False  # loses data when the machine stops; for tests and benchmarks


class _Ports(msgspec.Struct):
    client: int
    peer: int


class Member:
    """`files`: certificate and key for etcd's listeners and for this client, PEM."""

    def __init__(
        self, directory: Path, files: TLSFiles, *, settings: MemberSettings | None = None
    ) -> None:
        self.tls = files
        self.endpoints: list[str] = []
        self.restarts = 0
        self.problem = "not started"  # "" while it runs
        self._directory = directory.absolute()
        self._settings = settings or MemberSettings()
        self._process: asyncio.subprocess.Process | None = None
        self._lock: IO[bytes] | None = None
        self._store: EtcdStore | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def __aenter__(self) -> Self:
        program = _program()
        try:
            await asyncio.to_thread(self._prepare)
            await self._first_start(program)
        except OSError as error:
            await self._end()
            raise MemberError(f"etcd can't be run on {self._directory}: {error}") from error
        except BaseException:
            await self._end()
            raise
        self.problem = ""
        self._tasks = [
            asyncio.create_task(self._restart_for_ever(program)),
            asyncio.create_task(self._tend_for_ever()),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._end()

    def reconnect(self) -> None:
        """The certificate's files have changed: use them from now on."""
        if self._store is not None:
            self._store.reconnect()

    async def _end(self) -> None:
        self.problem = "stopped"
        if self._store is not None:
            await self._store.close()
            self._store = None
        if self._process is not None:
            await child.stop(self._process, grace=_GRACE)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # Before the first start

    def _prepare(self) -> None:
        """Have the directory to ourselves, with room in it. Raises MemberError."""
        where = self._directory
        try:
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
            (where / "data").mkdir(mode=0o700, exist_ok=True)
            self._lock = (where / "lock").open("ab")
        except OSError as error:
            raise MemberError(
                f"etcd's directory {where} can't be written: {error.strerror}; "
                "run as its owner or give another --data-dir"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MemberError(
                f"another manager runs on {where}; stop it first or give another --data-dir"
            ) from None
        free = shutil.disk_usage(where).free
        if free < _ROOM:
            raise MemberError(
                f"the disk of {where} is full: {free >> 20} MiB are free and etcd needs "
                f"{_ROOM >> 20} MiB; make room or give another --data-dir"
            )
        for path in self.tls:
            if not os.access(path, os.R_OK):
                raise MemberError(f"etcd's certificate file {path} can't be read")
        stale = child.end_stale(where / "etcd.pid", f"--data-dir={where / 'data'}", grace=_GRACE)
        if stale:
            _log.warning("ended the etcd that an earlier run left behind", pid=stale)

    async def _first_start(self, program: str) -> None:
        for tries_left in range(_PORT_TRIES - 1, -1, -1):
            ports = self._ports()
            self.endpoints = [f"https://{_HOST}:{ports.client}"]
            self._store = EtcdStore(self.endpoints, self.tls, timeout=1.0)
            try:
                await self._start(program, ports)
                return
            except _PortTaken as error:
                await self._store.close()
                if self._settings.client_port or self._settings.peer_port or not tries_left:
                    raise MemberError(
                        f"etcd's port is taken by another program: {error}; "
                        "stop that or choose another port"
                    ) from None
                _log.warning("a port of etcd's is taken; choosing others", error=str(error))
                (self._directory / "member.json").unlink(missing_ok=True)

    def _ports(self) -> _Ports:
        """Those given, else those kept, else free ones, which are kept from now on."""
        kept = self._directory / "member.json"
        try:
            ports = msgspec.json.decode(kept.read_bytes(), type=_Ports)
        except (OSError, msgspec.MsgspecError):
            ports = _Ports(*_free_ports(2))
        ports.client = self._settings.client_port or ports.client
        ports.peer = self._settings.peer_port or ports.peer
        kept.write_bytes(msgspec.json.encode(ports))
        return ports

    # Running

    async def _start(self, program: str, ports: _Ports) -> None:
        """Start it and wait until it answers. Raises MemberError, and _PortTaken."""
        path = self._directory / "log"
        with path.open("ab") as log:
            before = log.tell()
            self._process = await child.start(
                [program, *self._flags(ports)],
                output=log,
                env=_environment(),
                pid_file=self._directory / "etcd.pid",
            )
        ended = asyncio.ensure_future(self._process.wait())
        try:
            async with asyncio.timeout(self._settings.start_timeout):
                while not ended.done():
                    if await self._answers():
                        return
                    await asyncio.wait([ended], timeout=_PROBE)
        except TimeoutError:
            await child.stop(self._process, grace=_GRACE)
            raise MemberError(
                f"etcd did not answer within {self._settings.start_timeout:g} s; its log is {path}"
            ) from None
        finally:
            ended.cancel()
        raise await asyncio.to_thread(_reason, path, before, self._process.returncode)

    async def _answers(self) -> bool:
        if self._store is None:
            return False
        try:
            await self._store.revision()
        except Unavailable:
            return False
        except StoreError as error:
            raise MemberError(f"etcd runs but does not take our certificate: {error}") from error
        return True

    async def _restart_for_ever(self, program: str) -> None:
        loop = asyncio.get_running_loop()
        delay, started = _RETRY_FIRST, loop.time()
        while self._process is not None:
            status = await self._process.wait()
            if loop.time() - started > _STEADY:
                delay = _RETRY_FIRST
            if not self.problem:
                self.problem = f"etcd ended with {_status(status)}"
            _log.error("etcd is down; starting it again", problem=self.problem, delay=delay)
            await asyncio.sleep(delay)
            delay, started = min(2 * delay, _RETRY_LAST), loop.time()
            self.restarts += 1
            try:
                await self._start(program, self._ports())
                self.problem = ""
                _log.info("etcd is up again", pid=self.pid, restarts=self.restarts)
            except (MemberError, _PortTaken, OSError) as error:
                self.problem = str(error)

    async def _tend_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TEND)
            try:
                await self._tend()
            except (StoreError, OSError) as error:
                _log.warning("etcd can't be looked after now", error=str(error))

    async def _tend(self) -> None:
        await asyncio.to_thread(_rotate, self._directory / "log", self._settings.log_bytes)
        if self._store is None or self.problem:
            return
        status = await self._store.status()
        if any("NOSPACE" in error for error in status.errors):
            _log.error("etcd is over its quota; making room", size=status.size)
            await self._store.reclaim()
            _log.info("etcd takes writes again", size=(await self._store.status()).size)

    def _flags(self, ports: _Ports) -> list[str]:
        settings = self._settings
        ca, cert, key = self.tls
        client = f"https://{_HOST}:{ports.client}"
        peer = f"https://{_HOST}:{ports.peer}"
        flags = {
            "name": _NAME,
            "data-dir": self._directory / "data",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"{_NAME}={peer}",
            "client-cert-auth": "true",
            "trusted-ca-file": ca,
            "cert-file": cert,
            "key-file": key,
            "peer-client-cert-auth": "true",
            "peer-trusted-ca-file": ca,
            "peer-cert-file": cert,
            "peer-key-file": key,
            "enable-grpc-gateway": "false",
            "max-txn-ops": 2 * MAX_OPS,
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": settings.history,
            "quota-backend-bytes": settings.quota_bytes,
            "snapshot-count": settings.snapshot_count,
            "max-snapshots": 2,
            "max-wals": 2,
            "logger": "zap",
            "log-outputs": "stderr",
            "log-level": "info",
        }
        lines = [f"--{flag}={value}" for flag, value in flags.items()]
        return lines + (["--unsafe-no-fsync"] if settings.unsafe_no_fsync else [])


class _PortTaken(Exception):
    """Another program listens where etcd should."""


def _program() -> str:
    found = shutil.which("etcd")
    if found is None:
        raise MemberError(
            "etcd is not installed: apt-get install etcd-server, or name an etcd that runs "
            "with --etcd-endpoints"
        )
    return found


def _environment() -> dict[str, str]:
    """Ours without ETCD_*, which etcd would take for flags."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    if platform.machine() == "aarch64":
        env["ETCD_UNSUPPORTED_ARCH"] = "arm64"  # 3.4 wants to be asked
    return env


def _free_ports(count: int) -> Iterator[int]:
    with ExitStack() as stack:
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind((_HOST, 0))
            yield listener.getsockname()[1]


def _status(status: int | None) -> str:
    if status is not None and status < 0:
        return f"signal {-status}"
    return f"status {status}"


def _reason(log: Path, start: int, status: int | None) -> MemberError | _PortTaken:
    """Why etcd ended, by what it logged from byte `start` on."""
    with log.open("rb") as file:
        file.seek(start)
        said = file.read(256 << 10).decode(errors="replace")
    worst = [line for line in said.splitlines() if _is_fatal(line)]
    last = (worst or said.splitlines() or [""])[-1]
    message = f"etcd ended with {_status(status)}: {_message(last)} (its log is {log})"
    if "address already in use" in said:
        return _PortTaken(_message(last))
    if "no space left on device" in said:
        return MemberError(f"the disk of {log.parent} is full: make room. {message}")
    return MemberError(message)


def _is_fatal(line: str) -> bool:
    return any(f'"level":"{level}"' in line for level in ("fatal", "panic", "error"))


def _message(line: str) -> str:
    """What a line of etcd's JSON log says to a person."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return line.strip()[-500:] or "it said nothing"
    said = [str(fields[name]) for name in ("msg", "error") if fields.get(name)]
    return ": ".join(said)[:500]


def _rotate(log: Path, limit: int) -> None:
    """Copy and cut, as etcd has the file open: it appends, so it goes on at the new end."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)
