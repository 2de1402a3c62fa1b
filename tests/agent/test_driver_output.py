"""What containers print, and processes started inside them by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from controllers.agent.drivers.contract import Driver, LogLine, Phase, Refused, Terminal
from controllers.agent.drivers.engine.processes import kill
from tests.agent.ground import ABSENT_COMMAND, FOREVER, PATIENCE, Ground, docker, everything


async def logs(
    driver: Driver,
    uid: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: datetime | None = None,
    timestamps: bool = False,
) -> dict[int, bytes]:
    return await everything(
        driver.logs(uid, follow=follow, tail=tail, since=since, timestamps=timestamps)
    )


async def test_stdout_and_stderr_come_apart(ground: Ground) -> None:
    uid = await ground.start("echo out; echo bad >&2; echo more")
    await ground.until_over(uid)
    assert await logs(ground.driver, uid) == {1: b"out\nmore\n", 2: b"bad\n"}


@pytest.mark.parametrize(
    ("tail", "expected"), [(0, {}), (1, {1: b"3\n"}), (2, {1: b"2\n3\n"}), (99, {1: b"1\n2\n3\n"})]
)
async def test_tail(ground: Ground, tail: int, expected: dict[int, bytes]) -> None:
    uid = await ground.start("echo 1; echo 2; echo 3")
    await ground.until_over(uid)
    assert await logs(ground.driver, uid, tail=tail) == expected


async def test_what_was_never_started_has_printed_nothing(ground: Ground) -> None:
    spec = ground.spec("echo no")
    await ground.driver.create(spec)
    assert await logs(ground.driver, spec.task_uid) == {}


async def test_following_goes_on_until_the_end(ground: Ground) -> None:
    uid = await ground.start("echo early; sleep 1; echo late; exit 4")
    lines = ground.driver.logs(uid, follow=True, tail=None, since=None, timestamps=False)
    async with asyncio.timeout(PATIENCE):
        assert await anext(lines) == LogLine(1, b"early\n")
        assert (await ground.driver.inspect(uid)).phase is Phase.RUNNING
        assert await anext(lines) == LogLine(1, b"late\n")
        with pytest.raises(StopAsyncIteration):
            await anext(lines)
    assert (await ground.until_over(uid)).exit_code == 4


async def test_following_can_be_given_up(ground: Ground) -> None:
    uid = await ground.start(f"echo early; {FOREVER}")
    lines = ground.driver.logs(uid, follow=True, tail=None, since=None, timestamps=False)
    assert (await anext(lines)).data == b"early\n"
    await lines.aclose()
    assert (await ground.driver.inspect(uid)).phase is Phase.RUNNING


async def test_following_ends_with_the_container_s_removal(ground: Ground) -> None:
    uid = await ground.start(f"echo early; {FOREVER}")
    lines = ground.driver.logs(uid, follow=True, tail=None, since=None, timestamps=False)
    assert (await anext(lines)).data == b"early\n"
    await ground.driver.remove(uid)
    assert await everything(lines) == {}


async def test_timestamps_are_rfc_3339_in_utc(ground: Ground) -> None:
    before = datetime.now(UTC)
    uid = await ground.start("echo one; sleep 0.5; echo two")
    await ground.until_over(uid)
    lines = (await logs(ground.driver, uid, timestamps=True))[1].decode().splitlines()
    stamps = [line.split(" ", 1)[0] for line in lines]
    assert [line.split(" ", 1)[1] for line in lines] == ["one", "two"]
    assert all(stamp.endswith("Z") for stamp in stamps)
    first, second = (datetime.fromisoformat(stamp) for stamp in stamps)
    assert before - timedelta(seconds=1) < first < second
    assert second - first >= timedelta(seconds=0.4)


async def test_since_a_moment(ground: Ground) -> None:
    uid = await ground.start("echo one; sleep 0.5; echo two")
    await ground.until_over(uid)
    stamped = (await logs(ground.driver, uid, timestamps=True))[1].decode().splitlines()
    first, second = (datetime.fromisoformat(line.split(" ")[0]) for line in stamped)
    middle = first + (second - first) / 2
    assert await logs(ground.driver, uid, since=middle) == {1: b"two\n"}
    assert await logs(ground.driver, uid, since=first - timedelta(seconds=5)) == {1: b"one\ntwo\n"}
    assert await logs(ground.driver, uid, since=second + timedelta(seconds=5)) == {}


# Processes inside.


async def finish(terminal: Terminal) -> tuple[dict[int, bytes], int]:
    printed = await everything(terminal.output())
    return printed, await terminal.exit_code()


async def test_exec_prints_and_has_an_exit_code(ground: Ground) -> None:
    uid = await ground.start()
    command = ["sh", "-c", "echo out; echo bad >&2; exit 3"]
    terminal = await ground.driver.exec(uid, command, tty=False, stdin=False)
    assert await finish(terminal) == ({1: b"out\n", 2: b"bad\n"}, 3)


async def test_exec_without_stdin_finds_it_at_its_end(ground: Ground) -> None:
    uid = await ground.start()
    terminal = await ground.driver.exec(uid, ["cat"], tty=False, stdin=False)
    assert await finish(terminal) == ({}, 0)


async def test_exec_reads_until_its_input_ends(ground: Ground) -> None:
    uid = await ground.start()
    terminal = await ground.driver.exec(uid, ["sh", "-c", "cat; echo over"], tty=False, stdin=True)
    data = bytes(range(256)) * 400  # more than a pipe holds, and no text
    await terminal.send(data[:1000])
    await terminal.send(data[1000:])
    await terminal.end_input()
    printed, code = await finish(terminal)
    assert (printed[1], code) == (data + b"over\n", 0)


async def test_a_terminal_has_a_size_and_one_stream(ground: Ground) -> None:
    uid = await ground.start()
    command = ["sh", "-c", "read line; stty size; echo bad >&2"]
    terminal = await ground.driver.exec(uid, command, tty=True, stdin=True)
    await terminal.resize(133, 44)
    await terminal.send(b"go\n")
    printed, code = await finish(terminal)
    assert printed[1].splitlines() == [b"go", b"44 133", b"bad"], "with what was typed"
    assert b"\r\n" in printed[1]
    assert (set(printed), code) == ({1}, 0)


@pytest.mark.parametrize("how", ["typed", "closed"])
async def test_a_terminal_s_input_ends(ground: Ground, how: str) -> None:
    """Who closes the window of a shell must not leave it running in the container."""
    uid = await ground.start()
    terminal = await ground.driver.exec(uid, ["cat"], tty=True, stdin=True)
    await terminal.send(b"hello\n")
    output = terminal.output()
    seen = b""
    async with asyncio.timeout(PATIENCE):
        async for line in output:
            seen += line.data
            if seen.count(b"hello") == 2:  # the echo, and cat's
                await (terminal.send(b"\x04") if how == "typed" else terminal.end_input())
    assert seen.splitlines() == [b"hello", b"hello"]
    assert await terminal.exit_code() == 0


async def test_a_process_inside_ends_with_its_container(ground: Ground) -> None:
    uid = await ground.start()
    terminal = await ground.driver.exec(
        uid, ["sh", "-c", "echo here; sleep 100000"], tty=False, stdin=False
    )
    output = terminal.output()
    assert (await anext(output)).data == b"here\n"
    await ground.driver.stop(uid, grace=1)
    assert await everything(output) == {}
    assert await terminal.exit_code() == 137


async def test_what_is_sent_to_a_process_that_has_ended_is_nothing(ground: Ground) -> None:
    uid = await ground.start()
    terminal = await ground.driver.exec(uid, ["true"], tty=False, stdin=True)
    assert (await finish(terminal))[1] == 0
    await terminal.send(b"too late")
    await terminal.end_input()
    assert await terminal.exit_code() == 0


async def test_exec_of_a_command_that_is_not_there(ground: Ground) -> None:
    uid = await ground.start()
    terminal = await ground.driver.exec(uid, [ABSENT_COMMAND], tty=False, stdin=False)
    printed, code = await finish(terminal)
    assert code in (126, 127)
    assert ABSENT_COMMAND.encode() in b"".join(printed.values())


async def test_exec_in_what_does_not_run_is_refused(ground: Ground) -> None:
    uid = await ground.start()
    await ground.driver.stop(uid, grace=1)
    with pytest.raises(Refused, match="not running"):
        await ground.driver.exec(uid, ["true"], tty=False, stdin=False)


async def test_a_process_can_be_ended_with_what_it_started(ground: Ground) -> None:
    uid = await ground.start()
    script = "echo begun; sleep 7654 & sleep 7655"
    terminal = await ground.driver.exec(uid, ["sh", "-c", script], tty=False, stdin=False)
    async with asyncio.timeout(PATIENCE):
        async for line in terminal.output():
            assert line.data == b"begun\n"
            await terminal.kill()
    await terminal.kill()
    assert await terminal.exit_code() == 137
    if ground.kind == "docker":
        (pid,) = docker("inspect", "-f", "{{.State.Pid}}", *_ids(ground)).split()
        left = docker("top", *_ids(ground), "-o", "pid,args")
        assert pid in left
        assert "sleep 765" not in left


def _ids(ground: Ground) -> list[str]:
    return docker("ps", "-q", "--filter", f"label=dev.skep.cluster={ground.cluster}").split()


async def test_only_processes_of_the_container_are_ended(ground: Ground) -> None:
    uid = await ground.start()
    other = await asyncio.create_subprocess_exec("sleep", "100")
    try:
        assert not kill(other.pid, uid), "it is in no container"
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()
    assert not kill(other.pid, uid), "and is no more"
