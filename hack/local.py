"""One manager and one agent on this machine, for benchmarks: real etcd, real TLS, free ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import Usage, children, say, usage

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
POLL = 0.05  # seconds


@dataclass
class Cluster:
    home: Path
    server: str
    processes: dict[str, subprocess.Popen[bytes]]

    @property
    def data(self) -> Path:
        return self.home / "manager"

    def pids(self) -> dict[str, list[int]]:
        """Of each part: its processes."""
        parts = {name: [process.pid] for name, process in self.processes.items()}
        return {**parts, "etcd": children(self.processes["manager"].pid, "etcd")}

    def usage(self) -> dict[str, Usage]:
        return {name: usage(pids) for name, pids in self.pids().items()}

    def ctl(self, *words: str, stdin: str = "") -> str:
        """What a user would type. Raises CalledProcessError."""
        done = subprocess.run(
            [str(BIN / "ctl"), *words],
            env={**os.environ, "SKEP_CONFIG": str(self.data / "admin.yaml")},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            say(f"ctl {' '.join(words)}: {done.stderr.strip()}")
            done.check_returncode()
        return done.stdout

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        self.processes[name] = process
        return process


@contextlib.contextmanager
def manager() -> Iterator[Cluster]:
    """A manager that answers, with an etcd of its own; all of it is gone afterwards. Programs run
    from bytecode, as installed ones do, also where this shell has Python write none."""
    compiled = [sys.executable, "-m", "compileall", "-q", "api", "controllers"]
    subprocess.run(compiled, cwd=ROOT, check=True)
    home = Path(tempfile.mkdtemp(prefix="skep-bench-"))
    port = free_port()
    it = Cluster(home, f"https://127.0.0.1:{port}", {})
    try:
        it.start(
            "manager",
            *(str(BIN / "skepd"), "manager", "--data-dir", str(it.data)),
            *("--listen", f"127.0.0.1:{port}"),
        )
        until(lambda: (it.data / "admin.yaml").exists(), "the manager's context file")
        yield it
    except BaseException:
        for log in sorted(home.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-20:]
            say(f"last lines of {log.name}:\n" + "\n".join(lines))
        raise
    finally:
        for process in reversed(it.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in it.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
        shutil.rmtree(home, ignore_errors=True)


def add_agent(it: Cluster, node: str = "node-1", driver: str = "docker") -> None:
    """An agent with the machine's engine, ready for tasks."""
    token = it.ctl("token", "show", "worker", "--quiet").strip()
    it.start(
        "agent",
        *(str(BIN / "skepd"), "agent", "--data-dir", str(it.home / "agent")),
        *("--server", it.server, "--node", node, "--driver", driver),
        *("--token", token, "--run-dir", str(it.home / "run")),
    )
    for wanted in ("create", "condition=Ready"):
        it.ctl("wait", "node", node, f"--for={wanted}", "--timeout=60s")


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """A Docker Engine that answers; ended afterwards if it was started here."""
    ours = not engine_answers()
    if ours:
        subprocess.run([str(ROOT / "hack/engine"), "start"], check=True, stdout=sys.stderr)
    try:
        yield
    finally:
        if ours:
            subprocess.run([str(ROOT / "hack/engine"), "stop"], check=True, stdout=sys.stderr)


def engine_answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def image(name: str) -> None:
    """Build `skep/<name>:test` from packages of the distribution."""
    subprocess.run([str(ROOT / "hack/images/build"), name], check=True, stdout=sys.stderr)


def until(reached: Callable[[], bool], what: str, limit: float = 60.0) -> float:
    """Seconds it took. Raises TimeoutError."""
    start = time.monotonic()
    while not reached():
        if time.monotonic() - start > limit:
            raise TimeoutError(f"{what}: not there after {limit:.0f} s")
        time.sleep(POLL)
    return time.monotonic() - start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
