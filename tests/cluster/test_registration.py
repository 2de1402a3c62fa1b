"""`skepd engine install` and `remove`, with a real engine.

tests/agent/test_registration.py has what can go wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.engine import Engine, of_its_own
from tests.cluster.harness import BIN, Cluster, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine]

IMAGE = "skep/busybox:test"


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    """Without the runtime, and with a configuration of its user's."""
    with of_its_own(configuration='{\n    "debug": true\n}\n') as it:
        yield it


def program(engine: Engine) -> Path:
    return engine.home / "libexec" / "runtime"


def skepd(engine: Engine, verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "skepd"), "engine", verb, "--runtime-dir", str(program(engine).parent)],
        env={**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"},
        capture_output=True,
        text=True,
        check=False,
    )


def done(engine: Engine, verb: str) -> str:
    result = skepd(engine, verb)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(engine: Engine, verb: str) -> str:
    result = skepd(engine, verb)
    assert result.returncode == 1
    assert result.stderr.startswith("skepd: ")
    return result.stderr


def docker(engine: Engine, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", "-H", f"unix://{engine.socket}", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def runtime(engine: Engine) -> Any:
    """As the engine lists it."""
    info = json.loads(docker(engine, "info", "--format", "{{json .}}").stdout)
    return info["Runtimes"].get("skep")


def test_a_running_engine_gets_the_runtime_and_loses_it_again(plain: Engine) -> None:
    before = json.loads(plain.configuration.read_text())
    assert "has the runtime skep now" in done(plain, "install")
    assert runtime(plain)["path"] == str(program(plain))
    assert json.loads(plain.configuration.read_text())["debug"] is True
    assert "nothing was changed" in done(plain, "install")
    plain.stop()
    plain.start()
    assert runtime(plain)["path"] == str(program(plain)), "it has it when it starts again"
    assert "no longer" in done(plain, "remove")
    assert runtime(plain) is None
    assert json.loads(plain.configuration.read_text()) == before
    assert not program(plain).parent.exists()
    assert "nothing was changed" in done(plain, "remove")


def test_whoever_starts_a_container_of_it_is_told_who_does(plain: Engine) -> None:
    done(plain, "install")
    name = "of-skep"
    docker(plain, "create", "--name", name, "--runtime", "skep", "--network", "none", IMAGE, "true")
    try:
        started = docker(plain, "start", name)
        assert started.returncode != 0
        assert "Only its node's agent starts it" in started.stderr
        assert "unable to retrieve" not in started.stderr
        assert f"have the runtime skep: {name};" in refused(plain, "remove")
        assert runtime(plain) is not None
    finally:
        docker(plain, "rm", name)
    done(plain, "remove")


def test_an_engine_that_can_not_read_its_file_keeps_what_it_had(plain: Engine) -> None:
    before = plain.configuration.read_text()
    plain.configuration.write_text('{\n    "debug": true,\n}\n')
    try:
        assert f"{plain.configuration}:3:1: not JSON" in refused(plain, "install")
    finally:
        plain.configuration.write_text(before)
    assert runtime(plain) is None
    assert not program(plain).exists()


def test_an_agent_that_runs_makes_networks_as_soon_as_it_may(plain: Engine, tmp_path: Path) -> None:
    """And leaves them to the engine again, when that no longer knows the runtime."""
    cluster = Cluster(tmp_path, socket=plain.socket)

    def networks() -> str:
        node = cluster.find("node", cluster.node)
        return str(node["status"]["engine"]["network"]) if node else ""

    def runtime_of(name: str) -> str:
        cluster.apply(service(name))
        (task,) = cluster.until_running(name, 1)
        found = docker(
            plain, "inspect", "-f", "{{.HostConfig.Runtime}}", task["status"]["container"]["id"]
        )
        cluster.ctl("delete", "service", name)
        until(lambda: not cluster.running_of(name, every=True), "its container is gone")
        return found.stdout.strip()

    cluster.start()
    try:
        assert "the engine does not know the runtime skep" in networks()
        assert runtime_of("before") == "runc"
        done(plain, "install")
        until(lambda: networks() == "skep's, on docker0", "the agent has heard of it")
        assert runtime_of("since") == "skep"
        program(plain).rename(program(plain).with_name("moved"))
        plain.reload()
        until(
            lambda: "is not there, or not this version's" in networks(), "the agent has seen that"
        )
        program(plain).with_name("moved").unlink()
        done(plain, "install")
        until(lambda: networks() == "skep's, on docker0", "the agent has seen that")
        done(plain, "remove")
        until(lambda: networks() != "skep's, on docker0", "the agent has heard of it")
        assert runtime_of("after") == "runc"
    finally:
        cluster.stop()
        done(plain, "remove")
