"""`ctl exec` into a real container: its shell has this terminal, its size and its exit code."""

from __future__ import annotations

import pytest

from tests.cluster.harness import Cluster, service, until
from tests.ctl.runner import Ctl, at_end

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


@pytest.fixture(scope="module")
def ctl(cluster: Cluster) -> Ctl:
    cluster.apply(service("web"))
    cluster.until_running("web", 1)
    return Ctl(cluster.environment())


def test_a_shell_at_a_terminal(ctl: Ctl) -> None:
    with ctl.terminal("exec", "-it", "service/web", "--", "sh", size=(40, 120)) as shell:
        shell.expect("# ")
        shell.sendline("echo $((40 + 2))")
        shell.expect("42\r\n")

        def has_size(rows: int, columns: int) -> bool:
            shell.sendline("stty size")
            shell.expect(r"\d+ \d+\r\n")
            return str(shell.after).strip() == f"{rows} {columns}"

        # The engine takes the size only of a process that runs: the shell may be a moment ahead.
        until(lambda: has_size(40, 120), "the container's terminal has our size", 10)
        shell.setwinsize(30, 100)
        until(lambda: has_size(30, 100), "the container's terminal has the new size", 10)
        shell.sendline("exit 5")
        assert at_end(shell)[0] == 5


def test_bytes_in_and_out(ctl: Ctl) -> None:
    given = "x" * 200_000 + "\n"
    assert ctl.program("exec", "-i", "service/web", "--", "cat", stdin=given).out == given
    done = ctl.program("exec", "service/web", "--", "sh", "-c", "echo out; echo err >&2; exit 4",
                       code=4)  # fmt: skip
    assert (done.out, done.err) == ("out\n", "err\n")
