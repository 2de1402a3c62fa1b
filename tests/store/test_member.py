"""The manager's own etcd: it starts, comes back, keeps its data, and ends with its manager."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from api.store.channel import TLSFiles
from api.store.contract import Full, Unavailable, Write
from api.store.etcd import EtcdStore
from api.store.member import Member, MemberError, MemberSettings
from tests.store.etcd import certificates

pytestmark = pytest.mark.etcd

QUICK = MemberSettings(unsafe_no_fsync=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def member(tmp_path: Path, files: TLSFiles) -> AsyncIterator[Member]:
    async with Member(tmp_path / "etcd", files, settings=QUICK) as running:
        yield running


async def answered(store: EtcdStore) -> int:
    """The store's revision, as soon as it answers."""
    async with asyncio.timeout(30):
        while True:
            with suppress(Unavailable):
                return await store.revision()


async def test_it_keeps_data_and_address_over_a_restart(tmp_path: Path, files: TLSFiles) -> None:
    async with Member(tmp_path / "etcd", files, settings=QUICK) as member:
        endpoints = member.endpoints
        store = EtcdStore(member.endpoints, member.tls)
        await store.commit([Write("/t/a", b"1")])
        await store.close()
        assert member.problem == ""
        pid = member.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    async with Member(tmp_path / "etcd", files, settings=QUICK) as member:
        assert member.endpoints == endpoints
        store = EtcdStore(member.endpoints, member.tls)
        found = await store.get("/t/a")
        assert found is not None
        assert found.value == b"1"
        await store.close()


async def test_only_certificates_of_its_authority_open_it(member: Member, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    foreign = certificates(tmp_path / "other")._replace(ca=member.tls.ca)
    store = EtcdStore(member.endpoints, foreign, timeout=1)
    with pytest.raises(Unavailable):
        await store.get("/t/a")
    await store.close()


async def test_it_is_started_again_when_it_dies(member: Member) -> None:
    store = EtcdStore(member.endpoints, member.tls)
    at = await store.commit([Write("/t/a", b"1")])
    watch = store.watch("/t/", after=at)
    first = member.pid
    os.kill(first, signal.SIGKILL)
    coming = asyncio.ensure_future(anext(watch))
    await answered(store)
    await store.commit([Write("/t/b", b"2")])
    async with asyncio.timeout(30):
        assert [change.key for change in await coming] == ["/t/b"]
    assert member.pid != first
    assert member.restarts == 1
    await watch.aclose()
    await store.close()


async def test_one_directory_has_one_manager(member: Member, tmp_path: Path) -> None:
    with pytest.raises(MemberError, match="another manager"):
        async with Member(tmp_path / "etcd", member.tls):
            pass
    assert member.problem == ""


async def test_ports_that_others_took_are_changed(tmp_path: Path, files: TLSFiles) -> None:
    async with Member(tmp_path / "etcd", files, settings=QUICK) as member:
        before = member.endpoints
    port = int(before[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        async with Member(tmp_path / "etcd", files, settings=QUICK) as member:
            assert member.endpoints != before
        given = msgspec.structs.replace(QUICK, client_port=port)
        with pytest.raises(MemberError, match="taken by another program"):
            async with Member(tmp_path / "etcd", files, settings=given):
                pass


async def test_it_says_what_is_missing(
    tmp_path: Path, files: TLSFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MemberError, match="can't be written"):
        async with Member(tmp_path / "file" / "etcd", files):
            pass
    with pytest.raises(MemberError, match="certificate file"):
        async with Member(tmp_path / "etcd", files._replace(key=tmp_path / "none")):
            pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MemberError, match="apt-get install etcd-server"):
        async with Member(tmp_path / "etcd", files):
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "skep-test", where], check=True)
    yield where
    subprocess.run(["umount", where], check=True)


async def test_it_says_that_the_disk_is_full(small_disk: Path, files: TLSFiles) -> None:
    with pytest.raises(MemberError, match=r"full: 3[12] MiB are free"):
        async with Member(small_disk / "etcd", files):
            pass


async def test_it_says_why_etcd_does_not_start(tmp_path: Path, files: TLSFiles) -> None:
    (tmp_path / "etcd" / "data" / "member").mkdir(parents=True)
    (tmp_path / "etcd" / "data" / "member" / "snap").write_text("not a directory")
    with pytest.raises(MemberError, match="ended with status") as caught:
        async with Member(tmp_path / "etcd", files, settings=QUICK):
            pass
    assert "snap" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert str(tmp_path / "etcd" / "log") in str(caught.value)


async def test_a_store_over_its_quota_says_so_and_recovers(tmp_path: Path, files: TLSFiles) -> None:
    small = msgspec.structs.replace(QUICK, quota_bytes=16 << 20)
    async with Member(tmp_path / "etcd", files, settings=small) as member:
        store = EtcdStore(member.endpoints, member.tls)
        with pytest.raises(Full, match="quota"):
            for _ in range(100):
                await store.commit([Write("/t/a", bytes(1_000_000))])
        assert await store.get("/t/a") is not None
        assert any("NOSPACE" in error for error in (await store.status()).errors)
        await store.reclaim()
        await store.commit([Write("/t/a", b"1")])
        assert (await store.status()).errors == ()
        await store.close()


MANAGER = """
import asyncio, sys
from pathlib import Path
from api.store.channel import TLSFiles
from api.store.member import Member, MemberSettings

async def main():
    files = TLSFiles(*(Path(path) for path in sys.argv[2:5]))
    settings = MemberSettings(unsafe_no_fsync=True)
    async with Member(Path(sys.argv[1]), files, settings=settings) as member:
        print(member.pid, flush=True)
        await asyncio.Event().wait()

{run}
"""


@pytest.mark.parametrize(
    "run", ["asyncio.run(main())", "import uvloop; uvloop.run(main())"], ids=["asyncio", "uvloop"]
)
async def test_it_never_outlives_its_manager(tmp_path: Path, files: TLSFiles, run: str) -> None:
    where = tmp_path / "etcd"
    manager = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MANAGER.format(run=run), where, *files, stdout=subprocess.PIPE
    )  # fmt: skip
    assert manager.stdout is not None
    pid = int(await manager.stdout.readline())
    handle = os.pidfd_open(pid)
    manager.kill()
    async with asyncio.timeout(30):
        await manager.wait()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, ended.set)
        await ended.wait()
    asyncio.get_running_loop().remove_reader(handle)
    os.close(handle)
    async with Member(where, files, settings=QUICK) as member:
        assert member.pid != pid


async def test_an_etcd_left_behind_is_replaced(tmp_path: Path, files: TLSFiles) -> None:
    # As after a manager whose child had escaped: the same command line, and its pid noted.
    where = tmp_path / "etcd"
    async with Member(where, files, settings=QUICK) as member:
        line = command_line(member.pid)
    stale = await asyncio.create_subprocess_exec(*line, stderr=subprocess.DEVNULL)
    (where / "etcd.pid").write_text(str(stale.pid))
    async with Member(where, files, settings=QUICK) as member:
        assert member.pid != stale.pid
    async with asyncio.timeout(30):
        await stale.wait()


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
