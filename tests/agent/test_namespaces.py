"""Network namespaces as the kernel makes them, on a bridge in a namespace of the test's own."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from controllers.agent.network.bridge import Bridge, own_address
from controllers.agent.network.namespaces import Namespaces, NetworkError

pytestmark = pytest.mark.engine  # for root; no engine is asked

PATIENCE = 30.0  # seconds; only a failure takes so long

BRIDGE = Bridge(
    name="br-test",
    network=IPv4Network("10.99.0.0/16"),
    gateway=IPv4Address("10.99.0.1"),
    mtu=1400,
)


@pytest.fixture
def place() -> Iterator[int]:
    """A process in a namespace with the bridge."""
    script = (
        "ip link set lo up && ip link add br-test type bridge"
        " && ip address add 10.99.0.1/16 dev br-test && ip link set br-test up"
        " && echo up && exec sleep 1000"
    )
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
async def namespaces(place: int, tmp_path: Path) -> AsyncIterator[Namespaces]:
    it = Namespaces(Path(f"/proc/{place}/ns/net"), tmp_path / "links")
    await it.open()
    try:
        yield it
    finally:
        await it.close()


def inside(namespace: Path, *command: str, stdin: str = "") -> str:
    """What a program in the namespace prints."""
    done = subprocess.run(
        ["nsenter", f"--net={namespace}", *command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ports(place: int) -> set[str]:
    """Names of the bridge's."""
    namespace = Path(f"/proc/{place}/ns/net")
    listed = inside(namespace, "ip", "-o", "link", "show", "master", "br-test")
    return {line.split(": ")[1].partition("@")[0] for line in listed.splitlines()}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def until_no_ports(place: int) -> None:
    """The kernel takes what nobody holds away a moment later."""
    end = time.monotonic() + PATIENCE
    while ports(place):
        assert time.monotonic() < end, ports(place)
        time.sleep(0.02)


async def test_a_namespace_is_furnished(namespaces: Namespaces, place: int, tmp_path: Path) -> None:
    link = tmp_path / "links" / "one"
    async with namespaces.wired("one", BRIDGE):
        shown = inside(link, "ip", "-o", "address")
        assert "inet 127.0.0.1/8" in shown
        address = own_address(inside(link, "cat", "/proc/net/fib_trie"), BRIDGE)
        assert f"inet {address}/16 brd 10.99.255.255" in shown
        assert "inet6" not in shown, "as the engine's own"
        assert "mtu 1400" in inside(link, "ip", "link", "show", "eth0")
        assert inside(link, "ip", "route").splitlines()[0].startswith("default via 10.99.0.1")
        gateway = inside(link, "busybox", "ping", "-c1", "-W5", "10.99.0.1")
        assert "1 packets received" in gateway
        shown = inside(Path(f"/proc/{place}/ns/net"), "ip", "link", "show", *ports(place))
        assert "alias one" in shown
    assert not link.is_symlink()
    until_no_ports(place)


async def test_only_root_says_which_network_a_container_starts_in(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    links = (tmp_path / "links").stat()
    assert (stat.S_IMODE(links.st_mode), links.st_uid) == (0o700, 0)


async def test_one_container_has_one_namespace_however_often_it_is_started(
    namespaces: Namespaces, place: int, tmp_path: Path
) -> None:
    async def start() -> Path:
        async with namespaces.wired("one", BRIDGE):
            await asyncio.sleep(0)
            return (tmp_path / "links" / "one").readlink()

    assert len(set(await asyncio.gather(*(start() for _ in range(5))))) == 1
    until_no_ports(place)


async def test_many_at_once_have_addresses_of_their_own(
    namespaces: Namespaces, place: int, tmp_path: Path
) -> None:
    other = Namespaces(Path(f"/proc/{place}/ns/net"), tmp_path / "links")  # another agent's
    other._turn = namespaces._turn  # which tries the same addresses
    await other.open()
    go_on = asyncio.Event()

    async def hold(whose: Namespaces, name: str) -> str:
        async with whose.wired(name, BRIDGE):
            trie = inside(tmp_path / "links" / name, "cat", "/proc/net/fib_trie")
            await go_on.wait()
            return own_address(trie, BRIDGE)

    names = [
        (whose, f"{label}{n}")
        for label, whose in (("a", namespaces), ("b", other))
        for n in range(10)
    ]
    holders = [asyncio.create_task(hold(whose, name)) for whose, name in names]
    while len(ports(place)) < len(names):
        assert not any(holder.done() for holder in holders)
        await asyncio.sleep(0.02)
    go_on.set()
    addresses = await asyncio.gather(*holders)
    assert len(set(addresses)) == len(names)
    await other.close()
    until_no_ports(place)


async def test_a_process_inside_keeps_its_network_and_takes_it_along(
    namespaces: Namespaces, place: int, tmp_path: Path
) -> None:
    async with namespaces.wired("one", BRIDGE):
        process = await asyncio.create_subprocess_exec(
            *(
                "nsenter",
                f"--net={tmp_path / 'links' / 'one'}",
                "sh",
                "-c",
                "echo in; exec sleep 1000",
            ),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"in\n"
    trie = inside(Path(f"/proc/{process.pid}/ns/net"), "cat", "/proc/net/fib_trie")
    assert own_address(trie, BRIDGE)
    assert len(ports(place)) == 1
    process.kill()
    await process.wait()
    until_no_ports(place)


async def test_a_bridge_that_is_not_there(namespaces: Namespaces, tmp_path: Path) -> None:
    gone = Bridge(name="br-gone", network=BRIDGE.network, gateway=BRIDGE.gateway)
    with pytest.raises(NetworkError, match="on the bridge br-gone: no interface with this name"):
        async with namespaces.wired("one", gone):
            raise AssertionError("not to be started")
    assert list((tmp_path / "links").iterdir()) == []


async def test_a_full_bridge(namespaces: Namespaces, place: int) -> None:
    links = "".join(
        f"link add in{n} type veth peer name out{n}\nlink set in{n} master br-test\n"
        for n in range(1023)
    )
    inside(Path(f"/proc/{place}/ns/net"), "ip", "-batch", "-", stdin=links)
    with pytest.raises(NetworkError, match=r"has its most ports, 1,024.*maxReplicasPerNode"):
        async with namespaces.wired("one", BRIDGE):
            raise AssertionError("not to be started")


async def test_a_place_that_is_gone(tmp_path: Path) -> None:
    nowhere = Namespaces(tmp_path / "none", tmp_path / "links")
    with pytest.raises(NetworkError, match=r"namespaces can't be made \(No such file"):
        await nowhere.open()


async def test_a_link_that_an_agent_left_is_replaced(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    left = tmp_path / "links" / "one"
    left.symlink_to("/proc/1/fd/9999")
    async with namespaces.wired("one", BRIDGE):
        assert left.exists()


async def test_links_of_agents_that_are_gone_are_taken_away(place: int, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "gone").symlink_to("/proc/4194999/fd/9")
    (links / "other").symlink_to(f"/proc/{place}/fd/0")  # a number that was given again
    living = Namespaces(Path(f"/proc/{place}/ns/net"), links)
    await living.open()
    async with living.wired("living", BRIDGE):
        second = Namespaces(Path(f"/proc/{place}/ns/net"), links)
        await second.open()
        assert [link.name for link in links.iterdir()] == ["living"]
        await second.close()
    await living.close()


async def test_a_directory_of_links_that_was_tidied_away(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    (tmp_path / "links").rmdir()
    async with namespaces.wired("one", BRIDGE):
        assert (tmp_path / "links" / "one").exists()
    assert (tmp_path / "links").stat().st_mode & 0o777 == 0o700


async def test_what_was_given_up_is_finished_before_the_end(place: int, tmp_path: Path) -> None:
    namespaces = Namespaces(Path(f"/proc/{place}/ns/net"), tmp_path / "links")
    await namespaces.open()

    async def start(name: str) -> None:
        async with namespaces.wired(name, BRIDGE):
            await asyncio.sleep(PATIENCE)

    before = descriptors()
    starts = [asyncio.create_task(start(f"c{number}")) for number in range(5)]
    await asyncio.sleep(0)  # they have begun
    for each in starts:
        each.cancel()
    await asyncio.gather(*starts, return_exceptions=True)
    await namespaces.close()
    with pytest.raises(NetworkError, match="the next try"):
        await start("late")
    assert list((tmp_path / "links").iterdir()) == []
    assert descriptors() < before
    until_no_ports(place)
