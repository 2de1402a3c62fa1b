"""`hack/engine` on a machine where no engine runs: its files, network and processes are the test's
own, so that neither the machine's engine nor its configuration is met."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cluster.harness import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.engine]

MACHINE = """
mount -t tmpfs run /run
mkdir /run/over /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/over,workdir=/run/work etc /etc
rm -f /etc/docker/daemon.json
for each in /var/lib /var/log; do mount -t tmpfs own "$each"; done
ip link set lo up
"""
START = """
hack/engine start >&2
docker info --format '{{json .Runtimes}}'
hack/engine stop >&2
"""


def on_machine(script: str) -> str:
    """What it prints. All that it starts ends with it."""
    done = subprocess.run(
        [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("env", "-u", "DOCKER_HOST", "bash", "-euxc", MACHINE + script),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_engine_that_it_starts_has_the_runtime() -> None:
    runtimes = json.loads(on_machine(START))
    assert runtimes["skep"] == {"path": "/run/skep-engine/runtime"}


def test_an_engine_with_runtimes_in_its_file_starts_as_it_is_configured() -> None:
    configured = "mkdir -p /etc/docker; echo '{\"runtimes\": {}}' >/etc/docker/daemon.json"
    runtimes = json.loads(on_machine(f"{configured}\n{START}"))
    assert "skep" not in runtimes


def test_a_runtime_that_can_not_be_run_there_is_left_out() -> None:
    """As on a machine whose /run is mounted noexec."""
    runtimes = json.loads(on_machine(f"mount -o remount,noexec /run\n{START}"))
    assert "skep" not in runtimes
