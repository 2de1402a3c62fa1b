"""`hack/up` and `hack/down`, as a new user runs them, beside whatever else this machine runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import BIN, ROOT, free_port
from tests.docs.markdown import blocks

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


class Machine:
    """Where this run of the scripts keeps its things."""

    def __init__(self, home: Path) -> None:
        self.home = home / "lib"
        self.run_dir = home / "run"
        self.config = home / "config.yaml"
        self.page = free_port()
        self.api = free_port()

    @property
    def environment(self) -> dict[str, str]:
        mine = {key: value for key, value in os.environ.items() if not key.startswith("SKEP_")}
        return mine | {
            "SKEP_HOME": str(self.home),
            "SKEP_RUN": str(self.run_dir),
            "SKEP_LISTEN": f"127.0.0.1:{self.api}",
            "SKEP_NODE": f"demo-{self.api}",
            "SKEP_WEB_PORT": str(self.page),
            "SKEP_CONFIG": str(self.config),
            "SKEP_VENV": sys.prefix,
        }

    def hack(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / "hack" / script)],
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def visit(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/", timeout=10) as page:
            counted = re.match(r"visit (\d+),", page.read().decode())
        assert counted
        return int(counted[1])

    def ctl(self, *words: str) -> str:
        return subprocess.run(
            [str(BIN / "ctl"), *words],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def processes(self) -> list[str]:
        """Command lines that name this run's home."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                try:
                    line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if str(self.home) in line:
                    found.append(line)
        return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Machine]:
    it = Machine(tmp_path_factory.mktemp("machine"))
    yield it
    it.hack("down")


def containers(node: str) -> list[str]:
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=dev.skep.node={node}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return listed.stdout.split()


def test_up_brings_the_demo_up_and_shows_that_it_works(machine: Machine) -> None:
    done = machine.hack("up")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "visit 1," in done.stdout
    assert "visit 2," in done.stdout
    assert "PONG" in done.stdout
    assert machine.visit() == 3


def test_the_readme_shows_what_up_says(machine: Machine) -> None:
    """Its transcript is of a real run: the steps are those of a run now, in their order."""
    done = machine.hack("up")
    ports = {"7443": machine.api, "8080": machine.page}

    def told(line: str) -> str:
        for shown, here in ports.items():
            line = line.replace(f":{shown}", f":{here}")
        return line.replace("node vm", f"node {machine.environment['SKEP_NODE']}")

    (transcript,) = [block for block in blocks(ROOT / "README.md") if block.language == "console"]
    steps = [told(line) for line in transcript.text.splitlines() if line.startswith("==> ")]
    assert steps == [line for line in done.stdout.splitlines() if line.startswith("==> ")]


def test_the_password_was_made_there_and_is_shown_nowhere(machine: Machine) -> None:
    tasks = json.loads(machine.ctl("get", "tasks", "-n", "demo", "-o", "json"))["items"]
    (redis,) = [task for task in tasks if task["spec"]["service"] == "redis"]
    container = redis["status"]["container"]["id"]
    cat = ["docker", "exec", container, "cat", "/run/secrets/redis-password"]
    password = subprocess.run(cat, check=True, capture_output=True, text=True).stdout.strip()
    assert len(password) == 32
    again = machine.hack("up")
    assert password not in again.stdout + again.stderr
    for form in ("yaml", "wide"):
        assert password not in machine.ctl("get", "secrets,services,tasks", "-A", "-o", form)


def test_up_again_keeps_what_runs(machine: Machine) -> None:
    node = machine.environment["SKEP_NODE"]
    before, counted = set(containers(node)), machine.visit()
    done = machine.hack("up")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert set(containers(node)) == before
    assert machine.visit() == counted + 3


def test_up_says_what_to_do_where_a_port_is_taken(machine: Machine, tmp_path: Path) -> None:
    other = Machine(tmp_path)
    try:
        done = other.hack("up", SKEP_WEB_PORT=str(machine.page))
        assert done.returncode == 1
        assert f"port {machine.page} is taken" in done.stderr
        assert "SKEP_WEB_PORT=" in done.stderr
        assert "hack/down" in done.stderr
    finally:
        assert other.hack("down").returncode == 0
    assert other.processes() == []


def test_up_touches_no_data_that_it_did_not_make(tmp_path: Path) -> None:
    other = Machine(tmp_path)
    (other.home / "manager").mkdir(parents=True)
    assert other.hack("up").returncode == 1
    assert other.hack("down").returncode == 0
    assert (other.home / "manager").exists()


def test_down_leaves_nothing(machine: Machine) -> None:
    done = machine.hack("down")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert containers(machine.environment["SKEP_NODE"]) == []
    assert machine.processes() == []
    assert not machine.home.exists()
    assert not machine.run_dir.exists()
    assert str(machine.run_dir) not in Path("/proc/mounts").read_text()
    assert "local" not in machine.config.read_text()
    again = machine.hack("down")
    assert again.returncode == 0
    assert "nothing is up" in again.stdout
