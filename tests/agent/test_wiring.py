"""When the agent makes its containers' networks, and when it leaves them to the engine."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from api.types.template import Dns
from controllers.agent.drivers.docker import DockerDriver
from controllers.agent.drivers.engine import wiring
from controllers.agent.drivers.engine.wiring import NotShared, fits, resolvers, shared

INFO: dict[str, Any] = {
    "Runtimes": {"runc": {"path": "runc"}, "skep": {"path": "/usr/local/libexec/skep/runtime"}},
    "DefaultRuntime": "runc",
    "SecurityOptions": ["name=seccomp,profile=default"],
}
POOL = {"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}
# Docker 20.10's own answer, but for what isn't read.
NETWORK: dict[str, Any] = {
    "Name": "bridge",
    "Driver": "bridge",
    "EnableIPv6": False,
    "IPAM": {"Config": [POOL]},
    "Options": {
        "com.docker.network.bridge.name": "docker0",
        "com.docker.network.driver.mtu": "1450",
    },
}


def test_an_engine_with_the_runtime_fits() -> None:
    assert fits(INFO) == "/usr/local/libexec/skep/runtime"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"Runtimes": {"runc": {}}}, "does not know the runtime skep; `skepd engine install`"),
        ({"DefaultRuntime": "crun"}, "default runtime is crun"),
        ({"SecurityOptions": ["name=seccomp", "name=userns"]}, "another user namespace"),
        ({"SecurityOptions": ["name=rootless"]}, "another user namespace"),
    ],
)
def test_engines_that_do_not_fit(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(NotShared, match=why):
        fits(INFO | changed)


def test_the_default_bridge_is_shared() -> None:
    bridge = shared(NETWORK)
    assert (bridge.name, bridge.mtu) == ("docker0", 1450)
    assert bridge.network == IPv4Network("172.17.0.0/16")
    assert bridge.gateway == IPv4Address("172.17.0.1")


def test_a_gateway_may_be_said_with_its_network() -> None:
    pool = {"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1/16"}
    assert shared(NETWORK | {"IPAM": {"Config": [pool]}}).gateway == IPv4Address("172.17.0.1")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"IPAM": {"Config": [{"Gateway": "172.17.0.1"}]}}, "is not known"),
        ({"IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}, "is not known"),
        ({"IPAM": {}}, "is not known"),
        ({"IPAM": {"Config": [{**POOL, "AuxiliaryAddresses": {"a": "172.17.9.9"}}]}}, "plans"),
        ({"Options": {"com.docker.network.bridge.name": "br0"}}, "br0 is not the engine's own"),
        ({"Driver": "null"}, "no default bridge"),
        ({"IPAM": {"Config": []}}, "no default bridge"),
        ({"Options": {}}, "no default bridge"),
        ({"EnableIPv6": True}, "IPv6"),
        ({"IPAM": {"Config": [{**POOL, "IPRange": "172.17.128.0/17"}]}}, "plans"),
        ({"IPAM": {"Config": [{"Subnet": "10.1.2.0/24", "Gateway": "10.1.2.1"}]}}, "small"),
    ],
)
def test_bridges_that_are_not_shared(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(NotShared, match=why):
        shared(NETWORK | changed)


def test_name_servers_of_the_engine_s_configuration(tmp_path: Path) -> None:
    configuration = tmp_path / "daemon.json"
    assert resolvers(configuration) == Dns()
    configuration.write_text('{"dns": ["192.0.2.1"], "dns-opts": ["ndots:2"], "debug": true}')
    assert resolvers(configuration) == Dns(servers=["192.0.2.1"], options=["ndots:2"])


@pytest.mark.parametrize("text", ["{", "[]", '{"dns": 3}'])
def test_a_configuration_that_is_not_understood(tmp_path: Path, text: str) -> None:
    configuration = tmp_path / "daemon.json"
    configuration.write_text(text)
    with pytest.raises(NotShared, match=r"daemon\.json can't be read"):
        resolvers(configuration)


@pytest.mark.engine
async def test_a_runtime_of_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "runtime"
    other.write_text("#!/bin/sh\n")
    monkeypatch.setattr(wiring, "OURS", other)
    driver = DockerDriver(cluster="c", node="n", run_dir=tmp_path)
    try:
        network = (await driver.info()).engine.network
        assert "not this version's; `skepd engine install` puts it in place" in network
        assert (await driver.info()).engine.network == network, "also when it looks again"
    finally:
        await driver.close()
