"""kubectl reaches into real containers, on a terminal too."""

from __future__ import annotations

import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import busybox
from tests.cluster.harness import IMAGE, Cluster
from tests.kubectl.harness import PROGRAM, Kubectl, service

pytestmark = pytest.mark.engine

__all__ = ["busybox"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Cluster]:
    it = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        it.start()
        yield it
    finally:
        it.stop()


@pytest.fixture(scope="module")
def pod(cluster: Cluster, kubectl: Kubectl) -> str:
    script = "echo begun; while read line; do echo $line; done < /tmp/in; sleep 1000"
    document = service("real", command=["sh", "-c", f"mkfifo /tmp/in; {script}"], init=True)
    document["spec"]["template"] |= {"image": IMAGE, "stopGracePeriod": "1s"}
    kubectl.apply(document)
    cluster.until_running("real", 1)
    return kubectl("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")


def test_logs_follow_what_is_written(kubectl: Kubectl, pod: str) -> None:
    following = kubectl.start("logs", "-f", pod)
    try:
        assert following.stdout is not None
        assert following.stdout.readline() == "begun\n"
        kubectl("exec", pod, "--", "sh", "-c", "echo later > /tmp/in")
        assert following.stdout.readline() == "later\n"
    finally:
        following.terminate()
        following.communicate(timeout=10)


def test_exec_with_stdin_and_an_exit_code(kubectl: Kubectl, pod: str) -> None:
    assert kubectl("exec", "-i", pod, "--", "wc", "-c", stdin="x" * 100_000) == "100000\n"
    done = kubectl.run("exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert done.stderr.startswith("err\n")


def test_exec_on_a_terminal(kubectl: Kubectl, pod: str) -> None:
    """A shell with a prompt, which echoes what is typed."""
    mine, theirs = pty.openpty()
    shell = subprocess.Popen(
        [PROGRAM, "exec", "-it", pod, "--", "sh"],
        env=kubectl.environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    )
    os.close(theirs)
    said: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                part = os.read(mine, 4096)
            except OSError:  # the other end is closed
                return
            if not part:
                return
            said.append(part)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        os.write(mine, b"tty; echo $((40 + 2)); exit 5\n")
        assert shell.wait(30) == 5
    finally:
        if shell.poll() is None:
            shell.kill()
            shell.wait()
        listener.join(10)
        os.close(mine)
    text = b"".join(said).decode()
    assert "/dev/pts/" in text
    assert "\n42" in text.replace("\r", "\n")


def test_cp(kubectl: Kubectl, pod: str, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_text("carried\n")
    kubectl("cp", str(there), f"{pod}:/tmp/there")
    kubectl("cp", f"{pod}:/tmp/there", str(back))
    assert back.read_text() == "carried\n"
