"""A Docker Engine of a test's own, which it may stop: in a network namespace of its own.

It shares nothing with the machine's engine: neither configuration, images, nor sockets, nor
bridges, nor rules.
Its directory must have a short path: a socket's path has 107 characters at most.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controllers.agent.drivers.registration.files import RUNTIME
from tests.cluster.harness import GRACE, ROOT, Cluster, Document, until


class Engine:
    """`runtime`: it has the runtime skep, so that agents make containers' networks."""

    def __init__(self, home: Path, *, runtime: bool = True) -> None:
        self.home = home
        self.socket = str(home / "docker.sock")
        self.configuration = home / "daemon.json"
        self._process: subprocess.Popen[bytes] | None = None
        runtimes = {"runtimes": {"skep": {"path": str(RUNTIME)}}}
        home.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(json.dumps(runtimes if runtime else {}))

    def start(self) -> None:
        """Returns when it answers."""
        dockerd = [
            *("dockerd", "--config-file", str(self.configuration)),
            *("--host", f"unix://{self.socket}", "--data-root", str(self.home / "data")),
            *("--exec-root", str(self.home / "exec"), "--pidfile", str(self.home / "pid")),
        ]
        inside = 'ip link set lo up && exec "$@"'
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", inside, "sh", *dockerd],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={key: value for key, value in os.environ.items() if key != "DOCKER_HOST"},
            )
        until(self.answers, f"dockerd answers at {self.socket}", GRACE)

    @property
    def pid(self) -> int:
        """Of its process, which is in its network namespace."""
        assert self._process is not None
        return self._process.pid

    def answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"dockerd has ended:\n{(self.home / 'log').read_text()[-2000:]}")
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", "version"], capture_output=True, check=False
        )
        return done.returncode == 0

    def build(self, image: str) -> None:
        subprocess.run(
            [str(ROOT / "hack/images/build"), image],
            env={**os.environ, "DOCKER_HOST": f"unix://{self.socket}"},
            check=True,
            capture_output=True,
        )

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(GRACE)
            self._process = None
            self._end_containerd()

    def reload(self) -> None:
        """It reads its configuration again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def pause(self) -> None:
        """It hangs: takes connections, and answers none."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end_containerd(self) -> None:
        """It outlives a dockerd that was killed; the next dockerd would take it over."""
        pidfile = self.home / "exec" / "containerd" / "containerd.pid"
        if pidfile.exists():
            pid = int(pidfile.read_text())
            end = time.monotonic() + GRACE
            while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
                os.kill(pid, signal.SIGTERM)
                time.sleep(0.1)

    def clear(self) -> None:
        """Take its mounts down, so that its directory can be removed."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted(mounts, reverse=True):
            if mount.startswith(f"{self.home}/"):
                subprocess.run(["umount", "-l", mount], check=True)


# For the tests of a file: an engine that they may stop, and a cluster on it.


@contextmanager
def of_its_own(*, runtime: bool = True, configuration: str = "") -> Iterator[Engine]:
    """An engine that runs, with the image of the tests. `configuration`: in place of ours."""
    it = Engine(Path(tempfile.mkdtemp(prefix="skep-engine-")), runtime=runtime)
    if configuration:
        it.configuration.write_text(configuration)
    try:
        it.start()
        it.build("busybox")
        yield it
    finally:
        it.stop()
        it.clear()
        shutil.rmtree(it.home)


@contextmanager
def cluster_on(engine: Engine, directory: Path) -> Iterator[Cluster]:
    it = Cluster(directory, socket=engine.socket)
    try:
        it.start()
        yield it
    finally:
        it.stop()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with of_its_own() as it:
        yield it


@pytest.fixture(scope="module")
def cluster(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster_on(engine, tmp_path_factory.mktemp("cluster")) as it:
        yield it


def ready_condition(cluster: Cluster) -> Document:
    """Of the cluster's node."""
    node = cluster.find("node", cluster.node)
    conditions = node["status"]["conditions"] if node else []
    return next((each for each in conditions if each["type"] == "Ready"), {})
