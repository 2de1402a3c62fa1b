"""The bridge that a node's containers are on, and how addresses on it are chosen.

The bridge is the engine's own. The engine gives its own containers the lowest free addresses, and
a bridge has 1,024 ports at most (Linux, BR_MAX_PORTS), so whatever the engine does stays in the
lowest addresses of a subnet that has a few thousand. Ours are from its upper half, and nobody has
to be asked for one: a container's link is named by its address, and the kernel has each name once.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import msgspec

_PREFIX = "skep"
_LEAST = 4096  # addresses: half of them are more than a bridge has ports


class Bridge(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is the kernel's; `network` its subnet, `gateway` the node's own address in it."""

    name: str
    network: IPv4Network
    gateway: IPv4Address
    mtu: int = 1500

    @property
    def roomy(self) -> bool:
        """Whether there are addresses that the engine never comes to."""
        return self.network.num_addresses >= _LEAST

    @property
    def places(self) -> int:
        """How many addresses are ours: the upper half, but for the broadcast address."""
        return self.network.num_addresses // 2 - 1

    def address(self, turn: int) -> IPv4Address:
        """One after the other from the top, over and over: one that was just given back is not
        given away at once."""
        chosen = self.network.broadcast_address - 1 - turn % self.places
        return chosen if chosen != self.gateway else self.address(turn + 1)


def link_name(address: IPv4Address) -> str:
    """Of the link that leads to the container with this address; the kernel allows 15 letters."""
    return f"{_PREFIX}{int(address):08x}"


def hardware_address(address: IPv4Address) -> str:
    """The same for the same address, as the engine's own are, so that what neighbours remember of
    an address stays right when another container has it. 02 marks it as locally administered."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)


def own_address(text: str, bridge: Bridge | None) -> str:
    """The address of a container, from its /proc/<pid>/net/fib_trie: the one on the bridge, or the
    first that is not for loopback; "" where there is none."""
    found: list[IPv4Address] = []
    last = ""
    for line in text.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind == "|--":
            last = rest
        elif kind == "/32" and rest == "host LOCAL":
            found.append(IPv4Address(last))
    fitting = [address for address in found if bridge is not None and address in bridge.network]
    reached = [address for address in found if not address.is_loopback]
    return str(next(iter([*fitting, *reached]), ""))
