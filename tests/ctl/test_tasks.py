"""`ctl logs` and `ctl exec`: what tasks print, and commands in their containers."""

from __future__ import annotations

import re
import signal

import pytest

from tests.ctl.objects import service, text
from tests.ctl.runner import Ctl, at_end

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


@pytest.fixture
def web(ctl: Ctl) -> Ctl:
    """With a service of two tasks, which have said two lines and go on."""
    wish = service("web", "echo one; echo two; serve", replicas=2)
    ctl("apply", "-f", "-", "--wait", stdin=text(wish))
    return ctl


def a_task(ctl: Ctl) -> str:
    return ctl("get", "tasks", "-o", "jsonpath={.items[0].metadata.name}").out


def test_a_tasks_output(web: Ctl) -> None:
    task = a_task(web)
    assert web.program("logs", task).out == "one\ntwo\n"
    assert web("logs", f"task/{task}").out == "one\ntwo\n"
    assert web("logs", task, "--tail", "1").out == "two\n"
    assert web("logs", task, "--tail", "0").out == ""
    assert web("logs", task, "--prefix").out == f"{task} | one\n{task} | two\n"
    stamped = web("logs", task, "--timestamps").lines
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* (one|two)$", line) for line in stamped)


def test_since_is_a_duration_or_a_time(web: Ctl) -> None:
    task = a_task(web)
    assert web("logs", task, "--since", "1h").out == "one\ntwo\n"
    assert web("logs", task, "--since", "1ms").out == ""
    assert web("logs", task, "--since", "2020-01-31T09:30:00+01:00").out == "one\ntwo\n"
    assert web("logs", task, "--since", "2120-01-31T09:30:00Z").out == ""
    for wrong in ("soon", "2020-01-31T09:30:00"):
        said = web("logs", task, "--since", wrong, code=2).err
        assert wrong in said
        assert "a time with its zone such as" in said


def test_a_service_is_all_its_tasks(web: Ctl) -> None:
    done = web.program("logs", "service/web", "--tail", "1")
    assert len(done.lines) == 2
    assert all(re.fullmatch(r"web-[12]-\w+ \| two", line) for line in done.lines)
    assert web("logs", "service/web", "--no-prefix").lines == ["one", "two"] * 2


def test_following_a_service_takes_in_new_tasks(web: Ctl) -> None:
    with web.started("logs", "-f", "service/web", "--tail", "1") as process:
        assert process.stdout is not None
        seen = {process.stdout.readline().partition(" | ")[0] for _ in range(2)}
        web("scale", "web=3")
        name, _, said = process.stdout.readline().partition(" | ")
        assert (name.startswith("web-3"), said) == (True, "two\n")
        assert name not in seen
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_following_a_task_ends_when_it_does(ctl: Ctl) -> None:
    wish = service("job", "echo done; sleep 1")
    wish["spec"]["restart"] = {"condition": "none"}
    ctl("apply", "-f", "-", stdin=text(wish))
    ctl("wait", "service", "job", "--for=jsonpath={.status.revision}", "--timeout=20s")
    task = a_task(ctl)
    ctl("wait", "task", task, "--for=jsonpath={.status.state}=Running", "--timeout=20s")
    assert ctl.program("logs", "-f", task).out == "done\n"


def test_what_has_no_output(ctl: Ctl) -> None:
    assert "does not exist" in ctl("logs", "none", code=3).err
    assert "does not exist" in ctl("logs", "service/none", code=3).err
    assert "neither a task nor a service" in ctl("logs", "node/worker-1", code=2).err


def test_fewer_lines_than_none(ctl: Ctl) -> None:
    assert "-5" in ctl("logs", "service/web", "--tail", "-5", code=2).err


def test_a_service_named_as_a_task(web: Ctl) -> None:
    assert "did you mean service/web?" in web("logs", "web", code=3).err
    assert "did you mean service/web?" in web("exec", "web", "--", "true", code=3).err


def test_a_task_that_has_not_begun(ctl: Ctl) -> None:
    wish = service("web")
    wish["spec"]["placement"] = {"constraints": ["node.labels.disk == ssd"]}
    ctl("apply", "-f", "-", stdin=text(wish))
    ctl("wait", "service", "web", "--for=jsonpath={.status.revision}", "--timeout=20s")
    done = ctl("logs", a_task(ctl), code=None)
    assert done.code == 1
    assert f"{ctl.namespace}/web" in done.err
    assert "it is Pending (" in done.err, "it says why there is no output"
    service_logs = ctl("logs", "service/web")
    assert service_logs.err.startswith(f"no task of service {ctl.namespace}/web has begun yet: web")
    done = ctl("exec", "service/web", "--", "true", code=1)
    assert "has no running task" in done.err


def test_a_commands_exit_code_is_ours(web: Ctl) -> None:
    task = a_task(web)
    assert web.program("exec", task, "--", "true").out == ""
    assert web.program("exec", task, "--", "sh", "-c", "echo hi; exit 7", code=7).out == "hi\n"
    assert web.program("exec", "service/web", "--", "echo", "hi").out == "hi\n"
    # From the command on, nothing is an option of ours.
    assert web.program("exec", "service/web", "echo", "-n", "x", "--tty").out == "-n x --tty\n"
    assert web.program("exec", "service/web", "-i", "--", "cat", stdin="y").out == "y"


def test_stdin_reaches_the_command(web: Ctl) -> None:
    assert web.program("exec", "-i", "service/web", "--", "cat", stdin="a\nb").out == "a\nb"
    big = "x" * 300_000
    assert web.program("exec", "-i", "service/web", "--", "cat", stdin=big).out == big
    assert web.program("exec", "-i", "service/web", "--", "cat", stdin="").out == ""


def test_a_terminal_is_passed_on_and_left_as_it_was(web: Ctl) -> None:
    with web.terminal("exec", "-it", "service/web", "--", "cat") as child:
        child.waitnoecho(10)
        child.send("ping\x01")
        child.expect("ping\x01")
        child.send("\x03pong")  # Ctrl-C goes to the container, as every key does
        child.expect("\x03pong")
        child.send("\x04")
        assert at_end(child)[0] == 0
    with web.terminal("exec", "-it", "service/web", "--", "sh", "-c", "echo hi; exit 3") as child:
        assert at_end(child) == (3, "hi\n")


def test_a_terminal_needs_one(web: Ctl) -> None:
    assert "-t needs a terminal" in web.program("exec", "-t", "service/web", "sh", code=2).err


def test_what_cannot_be_entered(ctl: Ctl) -> None:
    assert "does not exist" in ctl("exec", "service/none", "--", "true", code=3).err
    assert "does not exist" in ctl("exec", "none", "--", "true", code=3).err
    assert "Missing argument" in ctl("exec", "none", code=2).err
