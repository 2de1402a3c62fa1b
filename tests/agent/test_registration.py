"""The runtime is registered and removed as a whole, or not at all; with a program in the engine's
place. tests/cluster/test_registration.py has a real one."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controllers.agent.drivers.registration import configuration, process
from controllers.agent.drivers.registration.errors import Malformed, RegistrationError
from controllers.agent.drivers.registration.fitness import listed, unfit
from controllers.agent.drivers.registration.process import CONFIGURATION, Flags
from controllers.agent.drivers.registration.registrar import Outcome, Places, Registrar

PROGRAM = "/opt/runtime"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root changes an engine's configuration")


class Machine:
    """With an engine on it, which is told what to be."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "s"
        self.places = Places(
            home=home / "libexec" / "skep",
            configuration=home / "etc" / "daemon.json",
            pidfile=home / "pid",
        )
        self.file = self.places.configuration
        self.program = self.places.home / "runtime"
        self._engines: list[subprocess.Popen[str]] = []

    def start(self, *words: str, opened: socket.socket | None = None, **facts: Any) -> int:
        """The pid of the engine, when it answers."""
        told = self.home / "facts.json"
        told.write_text(json.dumps({"configuration": str(self.file), **facts}))
        command = [sys.executable, str(Path(__file__).with_name("dockerd.py"))]
        where = f"fd:{opened.fileno()}" if opened else str(self.socket)
        engine = subprocess.Popen(
            [*command, where, str(told), *words],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[opened.fileno()] if opened else [],
        )
        self._engines.append(engine)
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        return engine.pid

    def stop(self) -> None:
        for engine in self._engines:
            engine.terminate()
            engine.communicate()
        self._engines.clear()

    def configure(self, text: str, mode: int = 0o644) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(text)
        self.file.chmod(mode)

    async def install(self, patience: float = 15) -> Outcome:
        return await self._with(patience, "install")

    async def remove(self, patience: float = 15) -> Outcome:
        return await self._with(patience, "remove")

    async def _with(self, patience: float, verb: str) -> Outcome:
        registrar = Registrar(f"unix://{self.socket}", self.places, patience)
        try:
            outcome: Outcome = await getattr(registrar, verb)()
            return outcome
        finally:
            await registrar.close()

    async def refused(self, verb: str = "install", patience: float = 15) -> str:
        """Why; and nothing has changed."""
        before = self.files()
        with pytest.raises(RegistrationError) as caught:
            await self._with(patience, verb)
        assert self.files() == before
        return str(caught.value)

    def files(self) -> dict[str, str]:
        found = [*self.home.glob("etc/*"), *self.home.glob("libexec/skep/*")]
        return {str(path): path.read_text() for path in found}

    def registered(self) -> Any:
        return json.loads(self.file.read_text())["runtimes"]["skep"]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="skep-") as home:  # a socket's path has to be short
        it = Machine(Path(home))
        try:
            yield it
        finally:
            it.stop()


# What the file says.


def test_all_else_in_the_file_stays_in_its_order_and_its_shape() -> None:
    text = (
        '{\n\t"hosts": [],\n\t"runtimes": {\n\t\t"a": {"path": "/a"}\n\t},\n\t"labels": ["ü"]\n}\n'
    )
    found = configuration.with_runtime(text, PROGRAM)
    assert list(json.loads(found)) == ["hosts", "runtimes", "labels"]
    assert json.loads(found)["runtimes"] == {"a": {"path": "/a"}, "skep": {"path": PROGRAM}}
    assert '\n\t"labels": [\n\t\t"ü"\n\t]\n}\n' in found
    assert configuration.with_runtime(found, PROGRAM) == found
    left = configuration.without_runtime(found, telling=False)
    assert json.loads(left) == json.loads(text)


@pytest.mark.parametrize("text", ["", " \n", "{}"])
def test_an_empty_file_is_one(text: str) -> None:
    found = configuration.with_runtime(text, PROGRAM)
    assert found == (
        f'{{\n  "runtimes": {{\n    "skep": {{\n      "path": "{PROGRAM}"\n    }}\n  }}\n}}\n'
    )
    assert configuration.names_runtime(found)
    assert configuration.is_empty(configuration.without_runtime(found, telling=False))


def test_a_running_engine_is_told_that_no_runtime_is_left() -> None:
    found = configuration.with_runtime('{"debug": true}', PROGRAM)
    told = configuration.without_runtime(found, telling=True)
    assert json.loads(told) == {"debug": True, "runtimes": {}}
    assert json.loads(configuration.without_runtime(told, telling=False)) == {"debug": True}


def test_an_entry_with_another_program_is_replaced() -> None:
    found = configuration.with_runtime('{"runtimes": {"skep": {"path": "/old"}}}', PROGRAM)
    assert json.loads(found) == {"runtimes": {"skep": {"path": PROGRAM}}}


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ('{\n  "debug": true,\n}', "not JSON", 3),
        ("[]", "not a JSON object", 0),
        ('{"runtimes": []}', "runtimes is not a JSON object", 0),
        ('{"debug": true, "debug": false}', "debug is there twice", 0),
        ('{"mtu": NaN}', "NaN", 0),
    ],
)
def test_what_no_engine_reads_is_refused(text: str, words: str, line: int) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        configuration.with_runtime(text, PROGRAM)
    assert caught.value.line == line


# What engines are fit.


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default"]}, ""),
        ({"SecurityOptions": None}, ""),
        ({"SecurityOptions": ["name=userns"]}, "userns-remap"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "without root"),
        ({"DefaultRuntime": "kata"}, "run by kata"),
    ],
)
def test_an_engine_is_fit_or_it_is_said_why_not(info: dict[str, Any], words: str) -> None:
    reason = unfit({"DefaultRuntime": "runc", **info})
    assert (words in reason) if words else (reason == "")


def test_an_engine_without_runtimes_lists_none() -> None:
    assert listed({"Runtimes": None}) == ""
    assert listed({"Runtimes": {"skep": {"path": PROGRAM}}}) == PROGRAM


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("dockerd -H fd://", Flags(CONFIGURATION)),
        ("dockerd --config-file /a.json", Flags(Path("/a.json"), configured=True)),
        ("dockerd --config-file=a.json -D", Flags(Path("a.json"), configured=True)),
        ("dockerd --add-runtime a=/a", Flags(CONFIGURATION, runtimes=True)),
        (
            "dockerd --add-runtime=a=/a --config-file /b",
            Flags(Path("/b"), configured=True, runtimes=True),
        ),
    ],
)
def test_a_command_line_is_understood(words: str, flags: Flags) -> None:
    assert Flags.of(words.split()) == flags


# Which process is the engine.


@needs_root
def test_the_process_that_listens_is_the_engine(machine: Machine) -> None:
    pid = machine.start()
    found = process.find(machine.socket, machine.places.pidfile)
    assert (found.pid, found.flags) == (pid, Flags(CONFIGURATION))


@needs_root
def test_where_another_process_opened_the_socket_the_pid_file_says_it(machine: Machine) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(machine.socket))
        opened.listen()
        pid = machine.start("--config-file", str(machine.file), opened=opened)
        opened.listen()  # the kernel names the last who did; an engine leaves it to systemd
        with pytest.raises(RegistrationError, match=r"listens at .* is .*, not dockerd"):
            process.find(machine.socket, machine.places.pidfile)
        with pytest.raises(RegistrationError, match="names no process"):
            process.find(machine.socket, machine.places.pidfile, opener=os.getpid())
        machine.places.pidfile.write_text(f"{pid}\n")
        found = process.find(machine.socket, machine.places.pidfile, opener=os.getpid())
    assert (found.pid, found.flags) == (pid, Flags(machine.file, configured=True))


@needs_root
def test_another_program_is_not_taken_for_an_engine(machine: Machine) -> None:
    pid = machine.start(comm="podman")
    with pytest.raises(RegistrationError, match=rf"is podman \(process {pid}\), not dockerd"):
        process.find(machine.socket)


def test_no_engine_is_said(machine: Machine) -> None:
    with pytest.raises(RegistrationError, match=r"no engine answers at .*: No such file"):
        process.find(machine.socket)


# The whole.


@needs_root
async def test_it_is_registered_once_and_removed_without_a_trace(machine: Machine) -> None:
    machine.start()
    outcome = await machine.install()
    assert outcome == Outcome(
        program=machine.program, configuration=machine.file, changed=True, by_flag=False
    )
    assert machine.registered() == {"path": str(machine.program)}
    assert stat.S_IMODE(machine.program.stat().st_mode) == 0o755
    assert machine.program.read_text().startswith("#!/bin/sh\n")
    before = machine.files()
    assert not (await machine.install()).changed
    assert machine.files() == before
    assert (await machine.remove()).changed
    assert machine.files() == {}
    assert not machine.program.parent.exists()
    assert not (await machine.remove()).changed


@needs_root
async def test_a_file_that_was_there_stays_with_its_mode_and_its_link(machine: Machine) -> None:
    machine.configure('{"debug": true}', mode=0o640)
    real = machine.file.rename(machine.file.with_name("real.json"))
    machine.file.symlink_to(real.name)
    machine.start()
    await machine.install()
    assert json.loads(real.read_text())["debug"] is True
    await machine.remove()
    assert machine.file.is_symlink()
    assert json.loads(real.read_text()) == {"debug": True}
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@needs_root
async def test_an_empty_file_that_was_there_stays(machine: Machine) -> None:
    machine.configure("{}")
    machine.start()
    await machine.install()
    await machine.remove()
    assert json.loads(machine.file.read_text()) == {}


@needs_root
async def test_a_file_that_the_command_line_names_stays(machine: Machine) -> None:
    machine.start("--config-file", str(machine.file))
    await machine.install()
    await machine.remove()
    assert json.loads(machine.file.read_text()) == {}


@needs_root
async def test_the_program_of_another_skep_is_replaced(machine: Machine) -> None:
    machine.start()
    await machine.install()
    text = machine.program.read_text()
    machine.program.write_text("#!/bin/sh\nexec runc\n")
    assert (await machine.install()).changed
    assert machine.program.read_text() == text


@needs_root
async def test_an_engine_that_had_missed_it_is_told(machine: Machine) -> None:
    """As where an earlier run was broken off between the file and the engine."""
    machine.start()
    machine.configure(configuration.with_runtime("", str(machine.program)))
    assert (await machine.install()).changed
    assert (await machine.remove()).changed


@needs_root
async def test_an_engine_that_does_not_take_it_leaves_all_as_it_was(machine: Machine) -> None:
    machine.start(deaf=True)
    assert "did not take what is new" in await machine.refused(patience=0.2)
    machine.configure('{"debug": true}')
    assert "journalctl -u docker" in await machine.refused(patience=0.2)


@needs_root
async def test_a_broken_file_is_refused_with_its_place(machine: Machine) -> None:
    machine.configure('{\n  "debug": true,\n}\n')
    machine.start()
    for verb in ("install", "remove"):
        reason = await machine.refused(verb)
        assert f"{machine.file}:3:1: not JSON" in reason
        assert "nothing was changed" in reason


@needs_root
async def test_an_unfit_engine_is_refused(machine: Machine) -> None:
    machine.start(info={"SecurityOptions": ["name=userns"]})
    assert "userns-remap" in await machine.refused()


@needs_root
async def test_runtimes_on_the_command_line_and_in_the_file_do_not_go_together(
    machine: Machine,
) -> None:
    machine.start("--add-runtime", "kata=/kata")
    assert "would not start again" in await machine.refused()


@needs_root
async def test_a_runtime_from_the_command_line_is_one(machine: Machine) -> None:
    program = machine.home / "runtime"
    machine.start("--add-runtime", f"skep={program}", flags={"skep": {"path": str(program)}})
    assert f"{program} is not there" in await machine.refused()
    program.touch(0o755)
    outcome = await machine.install()
    assert (outcome.program, outcome.changed, outcome.by_flag) == (program, False, True)
    assert machine.files() == {}
    assert "start it without" in await machine.refused("remove")


@needs_root
async def test_it_stays_while_containers_need_it(machine: Machine) -> None:
    names = {f"web-{number}": ("skep", "running") for number in range(6)}
    names |= {"web-6": ("skep", "created"), "ended": ("skep", "exited")}
    machine.start(containers={"other": ("runc", "running"), **names})
    await machine.install()
    reason = await machine.refused("remove")
    assert "skep: web-0, web-1, web-2, web-3, web-4 and 2 more;" in reason


@needs_root
async def test_containers_that_have_ended_do_not_need_it(machine: Machine) -> None:
    """skep keeps some, for their logs."""
    machine.start(containers={"ended": ("skep", "exited")})
    await machine.install()
    assert (await machine.remove()).changed


@needs_root
async def test_a_directory_where_others_write_is_refused(machine: Machine) -> None:
    machine.start()
    machine.places.home.mkdir(parents=True)
    machine.places.home.chmod(0o777)
    assert "others than root can write" in await machine.refused()


@needs_root
async def test_an_engine_elsewhere_is_refused(machine: Machine) -> None:
    registrar = Registrar("tcp://10.0.0.1:2376", machine.places)
    with pytest.raises(RegistrationError, match="may be on another machine"):
        await registrar.install()
    await registrar.close()


@pytest.fixture
def nothing_runs(machine: Machine) -> Iterator[Machine]:
    """Where the runtime's program is put."""
    mounted = machine.places.home.parent
    mounted.mkdir()
    options = ["-t", "tmpfs", "-o", "noexec,mode=755"]
    subprocess.run(["mount", *options, "none", str(mounted)], check=True)
    yield machine
    subprocess.run(["umount", str(mounted)], check=True)


@needs_root
async def test_a_directory_where_nothing_can_be_run_is_refused(nothing_runs: Machine) -> None:
    nothing_runs.start()
    assert "programs can't be run in" in await nothing_runs.refused()
