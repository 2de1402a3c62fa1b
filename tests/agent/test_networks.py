"""Containers' networks on a real engine: those that the agent makes, and the engine's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from controllers.agent.drivers.contract import Container, Phase
from controllers.agent.network.bridge import link_name
from tests.agent.ground import FOREVER, PATIENCE, Ground, docker, everything
from tests.cluster.harness import until

pytestmark = pytest.mark.engine

SERVE = "while :; do echo hello | nc -l -p 8000 >/dev/null; done & " + FOREVER


@pytest.fixture
async def ground(busybox: None, tmp_path: Path) -> AsyncIterator[Ground]:
    it = Ground("docker", tmp_path)
    try:
        yield it
    finally:
        await it.close()


async def run(ground: Ground, uid: str, script: str) -> str:
    """What a program inside prints."""
    terminal = await ground.driver.exec(uid, ["sh", "-c", script], tty=False, stdin=False)
    said = await everything(terminal.output())
    assert await terminal.exit_code() == 0, said
    return said.get(1, b"").decode()


async def reached(ground: Ground, uid: str, name: str) -> str:
    """What the server of this name says; it may not listen yet."""
    script = f"until nc -w 5 {name} 8000; do :; done"
    async with asyncio.timeout(PATIENCE):
        return await run(ground, uid, script)


def inspected(container: Container) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("inspect", container.id))
    return found[0]


def link_of(container: Container) -> str:
    return link_name(IPv4Address(container.address))


def links() -> set[str]:
    """Names of the node's."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def until_gone(link: str) -> None:
    """The kernel takes what nobody holds away a moment later."""
    until(lambda: link not in links(), f"link {link} is gone", PATIENCE)


def from_node(address: str) -> bytes:
    """What its server says to the node."""
    done = subprocess.run(
        ["busybox", "nc", "-w", "5", address, "8000"], capture_output=True, check=True
    )
    return done.stdout


async def test_the_engine_says_whose_networks_they_are(ground: Ground) -> None:
    assert (await ground.driver.info()).engine.network == "skep's, on docker0"


async def test_containers_reach_each_other_and_their_node(ground: Ground) -> None:
    """Also one whose network is the engine's, which has ports to publish."""
    plain = [await ground.start(SERVE) for _ in range(2)]
    publishing = await ground.start(SERVE, ports=[{"target": 8000}])
    containers = {uid: await ground.driver.inspect(uid) for uid in (*plain, publishing)}
    assert len({container.address for container in containers.values()}) == 3
    assert inspected(containers[plain[0]])["HostConfig"]["Runtime"] == "skep"
    assert inspected(containers[publishing])["HostConfig"]["Runtime"] == "runc"
    for uid in containers:
        for other in containers.values():
            assert await reached(ground, uid, other.address) == "hello\n"
        assert await run(ground, uid, "ip route | grep -c '^default via'") == "1\n"
    address = containers[plain[0]].address
    assert from_node(address) == b"hello\n"


async def test_what_a_container_finds_of_its_network(ground: Ground) -> None:
    uid = await ground.start()
    container = await ground.driver.inspect(uid)
    shown = await run(ground, uid, "ip -o address")
    assert f"inet {container.address}/" in shown
    assert "inet6" not in shown
    assert (await run(ground, uid, "hostname; cat /etc/hostname")).split() == ["web", "web"]
    assert f"{container.address}\tweb" in await run(ground, uid, "cat /etc/hosts")
    assert "nameserver" in await run(ground, uid, "cat /etc/resolv.conf")
    assert await run(ground, uid, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "0\n"


async def test_a_container_s_own_name_servers_and_sysctls(ground: Ground) -> None:
    uid = await ground.start(
        dns={"servers": ["192.0.2.53"], "search": ["example.com"]},
        sysctls={"net.ipv4.ip_local_port_range": "20000 30000"},
    )
    text = await run(ground, uid, "cat /etc/resolv.conf")
    assert text.startswith("nameserver 192.0.2.53\nsearch example.com\n")
    range_ = await run(ground, uid, "cat /proc/sys/net/ipv4/ip_local_port_range")
    assert range_.split() == ["20000", "30000"]


async def test_a_mount_over_resolv_conf_comes_first(ground: Ground, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("nameserver 192.0.2.7\n")
    mount = {"type": "bind", "source": str(own), "target": "/etc/resolv.conf"}
    uid = await ground.start(mounts=[mount])
    assert await run(ground, uid, "cat /etc/resolv.conf") == own.read_text()


async def test_a_network_goes_with_its_container_whoever_ends_it(ground: Ground) -> None:
    uid = await ground.start()
    container = await ground.driver.inspect(uid)
    link = link_of(container)
    assert link in links()
    docker("kill", container.id)
    until_gone(link)
    assert (await ground.driver.inspect(uid)).address == ""


async def test_the_next_agent_knows_the_addresses(ground: Ground) -> None:
    uid = await ground.start()
    container = await ground.driver.inspect(uid)
    await ground.driver.close()
    peer = ground.peer()
    assert [each.address for each in await peer.containers()] == [container.address]
    assert container.address


async def test_a_container_of_ours_is_started_by_its_agent_only(ground: Ground) -> None:
    """Else it would run without its network."""
    uid = await ground.start()
    container = await ground.driver.inspect(uid)
    done = await asyncio.to_thread(
        subprocess.run, ["docker", "restart", "-t0", container.id], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "Only its node's agent starts it" in done.stderr
    assert (await ground.driver.inspect(uid)).phase is not Phase.RUNNING
    started = await ground.driver.start(uid)
    assert started.phase is Phase.RUNNING
    assert started.address


async def test_addresses_are_not_given_twice_at_once(ground: Ground) -> None:
    peer = ground.peer(node="there")
    specs = [ground.spec(FOREVER) for _ in range(12)]
    drivers = [ground.driver, peer] * 6
    for driver, spec in zip(drivers, specs, strict=True):
        await driver.create(spec)
    started = await asyncio.gather(
        *(driver.start(spec.task_uid) for driver, spec in zip(drivers, specs, strict=True))
    )
    assert len({container.address for container in started}) == len(specs)
    assert all(link_of(container) in links() for container in started)


async def test_labels_of_an_image_do_not_count(ground: Ground) -> None:
    """One that was committed from a container of ours has them all."""
    uid = await ground.start()
    container = await ground.driver.inspect(uid)
    image = f"skep/committed:{ground.cluster[:8]}"
    docker("commit", container.id, image)
    try:
        plain = Ground("docker", ground.run_dir, engine_network=True)
        try:
            other = await plain.start(image=image)
            started = await plain.driver.inspect(other)
            assert inspected(started)["HostConfig"]["Runtime"] == "runc"
            assert started.address
        finally:
            await plain.close()
    finally:
        docker("rmi", "-f", image)


async def test_the_file_of_name_servers_is_there_again_after_a_reboot(ground: Ground) -> None:
    spec = ground.spec(FOREVER, dns={"servers": ["192.0.2.53"]})
    await ground.driver.create(spec)
    for file in (ground.run_dir / "here").glob("resolv-*/*"):
        file.unlink()
    peer = ground.peer()
    await peer.containers()
    await peer.start(spec.task_uid)
    text = await run(ground, spec.task_uid, "cat /etc/resolv.conf")
    assert text.startswith("nameserver 192.0.2.53\n")
