"""The OCI runtime `skep`: what it does to a container's config, and what it hands to runc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "controllers/agent/network/runtime"
ID = "0123456789abcdef" * 4
FAKE_RUNC = """#!/bin/sh
printf '%s\\n' "$@" >"$RUNC_SAW"
exit 7
"""
SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"]]


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"{request.param[0]} is not installed")
    return Machine(tmp_path, request.param)


class Machine:
    """A runc that says what it was called with, and a bundle as containerd makes it."""

    def __init__(self, home: Path, shell: list[str]) -> None:
        self.home = home
        self.namespaces = home / "netns"
        self.bundle = home / "bundle of one"
        self.config = self.bundle / "config.json"
        self.log = home / "log.json"
        self._shell = shell
        self._saw = home / "saw"
        self.namespaces.mkdir()
        self.bundle.mkdir()
        self.write({"type": "mount"}, {"type": "network"}, {"type": "uts"})
        self._script = home / "runtime"
        here = f"namespaces={self.namespaces}"
        text = RUNTIME.read_text()
        assert text.count("namespaces=/run/skep/netns\n") == 1
        self._script.write_text(text.replace("namespaces=/run/skep/netns", here))
        runc = home / "bin" / "runc"
        runc.parent.mkdir()
        runc.write_text(FAKE_RUNC)
        runc.chmod(0o755)

    def write(self, *namespaces: dict[str, str], env: str = "A=b") -> None:
        config = {"process": {"env": [env]}, "linux": {"namespaces": namespaces}}
        self.config.write_text(json.dumps(config, separators=(",", ":")))

    def made(self) -> Path:
        """The agent's link to a namespace that it has made."""
        link = self.namespaces / ID
        namespace = self.home / "namespace"
        namespace.touch()
        link.symlink_to(namespace)
        return link

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.home / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            [*self._shell, str(self._script), *words],
            env={"PATH": path, "RUNC_SAW": str(self._saw)},
            capture_output=True,
            text=True,
            check=False,
        )

    def create(self, *bundle: str) -> subprocess.CompletedProcess[str]:
        """As the shim of containerd calls it."""
        return self.call(*self.words(*(bundle or ("--bundle", str(self.bundle)))))

    def words(self, *bundle: str) -> list[str]:
        return [
            *("--root", "/run/moby", "--log", str(self.log), "--log-format", "json"),
            *("create", *bundle, "--pid-file", "/run/init.pid", ID),
        ]

    @property
    def saw(self) -> list[str] | None:
        """The words that runc was called with."""
        return self._saw.read_text().splitlines() if self._saw.exists() else None

    def network(self) -> list[str | None]:
        """The paths of the network namespaces in the config."""
        found = json.loads(self.config.read_text())["linux"]["namespaces"]
        return [each.get("path") for each in found if each["type"] == "network"]


@pytest.mark.parametrize(
    "words",
    [
        ["--root", "/run/moby", "state", ID],
        ["--log", "create", "start", ID],
        ["--root", "create", "--systemd-cgroup", "delete", "--force", ID],
        ["--log-format=json", "exec", "--process", "a b.json", ID],
        ["exec", ID, "create", "--bundle", "*"],
        ["--version"],
        [],
    ],
    ids=lambda words: " ".join(words)[:30] or "none",
)
def test_other_verbs_are_runc_s_word_for_word(machine: Machine, words: list[str]) -> None:
    before = machine.config.read_text()
    done = machine.call(*words)
    assert done.returncode == 7
    assert machine.saw == (words or [""])
    assert machine.config.read_text() == before


def test_a_container_gets_the_namespace_that_was_made_for_it(machine: Machine) -> None:
    link = machine.made()
    before = json.loads(machine.config.read_text())
    done = machine.create()
    assert (done.returncode, done.stderr) == (7, "")
    assert machine.saw == machine.words("--bundle", str(machine.bundle))
    before["linux"]["namespaces"][1]["path"] = str(link)
    assert json.loads(machine.config.read_text()) == before


@pytest.mark.parametrize("form", ["--bundle {}", "--bundle={}", "-b {}", "-b={}"])
def test_the_bundle_is_found_however_it_is_said(machine: Machine, form: str) -> None:
    link = machine.made()
    bundle = [word.format(machine.bundle) for word in form.split()]
    assert machine.create(*bundle).returncode == 7
    assert machine.network() == [str(link)]
    assert machine.saw == machine.words(*bundle)


def test_a_variable_that_says_the_same_is_left_alone(machine: Machine) -> None:
    link = machine.made()
    env = 'A={"type":"network"}'
    machine.write({"type": "network"}, env=env)
    assert machine.create().returncode == 7
    assert machine.network() == [str(link)]
    assert json.loads(machine.config.read_text())["process"]["env"] == [env]


def _refused(machine: Machine, done: subprocess.CompletedProcess[str]) -> str:
    """The reason, which stands in runc's log too: an engine shows its user that one."""
    assert done.returncode == 1
    assert machine.saw is None, "runc was called"
    logged = json.loads(machine.log.read_text())
    assert logged["level"] == "error"
    assert done.stderr.splitlines()[-1] == f"skep runtime: {logged['msg']}"
    return str(logged["msg"])


def test_without_a_namespace_nothing_runs(machine: Machine) -> None:
    assert "Only its node's agent starts it; ctl restart" in _refused(machine, machine.create())


def test_a_link_to_a_namespace_that_is_gone_is_none(machine: Machine) -> None:
    (machine.namespaces / ID).symlink_to("/proc/1/fd/none")
    assert "has made no network" in _refused(machine, machine.create())


@pytest.mark.parametrize(
    "namespaces",
    [[], [{"type": "network", "path": "/var/run/docker/netns/default"}]],
    ids=["the host's", "the engine's"],
)
def test_another_network_is_refused(machine: Machine, namespaces: list[dict[str, str]]) -> None:
    machine.made()
    machine.write(*namespaces, env='A={"type":"network"}')
    before = machine.config.read_text()
    assert "NetworkDisabled" in _refused(machine, machine.create())
    assert machine.config.read_text() == before


def test_two_networks_are_refused(machine: Machine) -> None:
    machine.made()
    machine.write({"type": "network"}, {"type": "network"})
    assert "two network namespaces" in _refused(machine, machine.create())


def test_a_bundle_without_a_config_is_refused(machine: Machine) -> None:
    machine.made()
    machine.config.unlink()
    assert "can't read the config.json" in _refused(machine, machine.create())


@pytest.mark.parametrize("name", ["..", "../x", "a|b", "a&b", "--pid-file"])
def test_what_is_no_id_is_refused(machine: Machine, name: str) -> None:
    done = machine.call("--log", str(machine.log), "create", "--bundle", str(machine.bundle), name)
    assert "not a container's id" in _refused(machine, done)


def test_the_machine_s_own_namespace_is_no_container_s(machine: Machine) -> None:
    """A killed agent's link may lead there, when its process's number is another's."""
    link = machine.made()
    link.unlink()
    link.symlink_to("/proc/self/ns/net")
    done = machine.create()
    assert done.returncode == 1
    assert machine.saw is None
    assert "leads to the machine's own: rm" in done.stderr


@pytest.mark.parametrize("verb", ["run", "restore"])
def test_verbs_that_would_pass_the_network_by_are_refused(machine: Machine, verb: str) -> None:
    machine.made()
    done = machine.call("--log", str(machine.log), verb, "--bundle", str(machine.bundle), ID)
    assert done.returncode == 1
    assert machine.saw is None
    assert "only create and start" in machine.log.read_text()
