"""Addresses on a node's bridge."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from controllers.agent.network.bridge import Bridge, hardware_address, link_name, own_address

PORTS = 1024  # of a bridge, Linux's BR_MAX_PORTS

TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.255.3
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
"""


@st.composite
def bridges(draw: st.DrawFn) -> Bridge:
    prefix = draw(st.integers(8, 20))
    base = draw(st.integers(0, 2**32 - 1)) >> (32 - prefix) << (32 - prefix)
    network = IPv4Network((base, prefix))
    gateway = network[draw(st.integers(1, network.num_addresses - 2))]
    return Bridge(name="docker0", network=network, gateway=gateway)


@given(bridges(), st.integers(0, 2**32))
def test_addresses_are_usable_and_far_from_the_engine_s(bridge: Bridge, turn: int) -> None:
    assert bridge.roomy
    address = bridge.address(turn)
    assert address in bridge.network
    assert address not in (bridge.gateway, bridge.network.broadcast_address)
    lowest = int(address) - int(bridge.network.network_address)
    assert lowest > PORTS + 2, "its own, its ports' and the gateway's"


@given(bridges(), st.integers(0, 2**32))
def test_there_are_more_than_a_bridge_has_ports(bridge: Bridge, turn: int) -> None:
    found = {bridge.address(turn + number) for number in range(PORTS + 2)}
    assert len(found) > PORTS


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_link_is_named_by_its_address(one: int, other: int) -> None:
    names = link_name(IPv4Address(one)), link_name(IPv4Address(other))
    assert (names[0] == names[1]) == (one == other)
    assert all(len(name) <= 15 for name in names)


def test_small_networks_are_not_shared() -> None:
    gateway = IPv4Address("10.0.0.1")
    small = Bridge(name="b", network=IPv4Network("10.0.0.0/21"), gateway=gateway)
    assert not small.roomy


def test_hardware_addresses_are_as_the_engine_s() -> None:
    assert hardware_address(IPv4Address("172.17.255.3")) == "02:42:ac:11:ff:03"


def test_a_namespace_s_address() -> None:
    gateway = IPv4Address("172.17.0.1")
    bridge = Bridge(name="docker0", network=IPv4Network("172.17.0.0/16"), gateway=gateway)
    assert own_address(TRIE, bridge) == "172.17.255.3"
    assert own_address(TRIE, None) == "172.17.255.3", "not loopback's"
    assert own_address("", bridge) == ""
    tunnel = "|-- 10.8.0.2\n /32 host LOCAL\n" + TRIE
    assert own_address(tunnel, bridge) == "172.17.255.3"
    assert own_address(tunnel, None) == "10.8.0.2"
