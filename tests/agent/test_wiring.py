"""When the agent makes its containers' networks, and when it leaves them to the engine."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controllers.agent.drivers.engine.wiring import NotShared, fits, shared

INFO: dict[str, Any] = {
    "Runtimes": {"runc": {"path": "runc"}, "skep": {"path": "/usr/local/libexec/skep/runtime"}},
    "DefaultRuntime": "runc",
    "SecurityOptions": ["name=seccomp,profile=default"],
}
# Docker 20.10's own answer, but for what isn't read.
NETWORK: dict[str, Any] = {
    "Name": "bridge",
    "Driver": "bridge",
    "EnableIPv6": False,
    "IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
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


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"Driver": "null"}, "no default bridge"),
        ({"IPAM": {"Config": []}}, "no default bridge"),
        ({"Options": {}}, "no default bridge"),
        ({"EnableIPv6": True}, "IPv6"),
        ({"IPAM": {"Config": [{"Subnet": "172.17.0.0/16", "IPRange": "172.17.128.0/17"}]}}, "part"),
        ({"IPAM": {"Config": [{"Subnet": "10.1.2.0/24", "Gateway": "10.1.2.1"}]}}, "small"),
    ],
)
def test_bridges_that_are_not_shared(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(NotShared, match=why):
        shared(NETWORK | changed)
