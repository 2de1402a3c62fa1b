"""Requests to the kernel's routing netlink, of one network namespace.

pyroute2 writes the messages. They go through a plain socket of ours, several in one datagram: its
own client makes and ends an event loop for each request, four times the work.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address
from typing import Any, cast

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.rtnl import (
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    rt_proto,
    rt_scope,
    rt_type,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

_UP = 1  # IFF_UP
_MAIN_TABLE = 254
_NEW = NLM_F_CREATE | NLM_F_EXCL
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ERROR = 2  # NLMSG_ERROR, an acknowledgement where its number is 0
_NUMBER = struct.Struct("=i")
_ANSWERS = 65536  # bytes; an acknowledgement is 36, or repeats the refused message


class Netlink:
    """Made in the namespace that it speaks to: the thread may leave it afterwards."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )

    def close(self) -> None:
        self._socket.close()

    def ask(self, *messages: nlmsg) -> None:
        """One after the other. Raises OSError for the first that the kernel refuses."""
        for number, message in enumerate(messages):
            message["header"]["sequence_number"] = number
            message.encode()
        self._socket.send(b"".join(bytes(message.data) for message in messages))
        refused, left = 0, len(messages)
        while left:
            answers = self._socket.recv(_ANSWERS)
            while answers:
                length, kind, *_ = _HEADER.unpack_from(answers)
                if kind == _ERROR:
                    refused = refused or -_NUMBER.unpack_from(answers, _HEADER.size)[0]
                    left -= 1
                answers = answers[length + -length % 4 :]
        if refused:
            raise OSError(refused, os.strerror(refused))


def new_pair(inside: str, index: int, hardware: str, outside: str, place: int, mtu: int) -> nlmsg:
    """A pair of links: one here, with this index and hardware address, the other in the namespace
    that `place` is a descriptor of."""
    peer = {"attrs": [("IFLA_IFNAME", outside), ("IFLA_NET_NS_FD", place), ("IFLA_MTU", mtu)]}
    pair = {
        "attrs": [
            ("IFLA_INFO_KIND", "veth"),
            ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]}),
        ]
    }
    attributes = [
        ("IFLA_IFNAME", inside),
        ("IFLA_ADDRESS", hardware),
        ("IFLA_MTU", mtu),
        ("IFLA_LINKINFO", pair),
    ]
    return _message(ifinfmsg(), RTM_NEWLINK, _NEW, attributes, index=index)


def link_up(index: int) -> nlmsg:
    return _message(ifinfmsg(), RTM_NEWLINK, 0, [], index=index, flags=_UP, change=_UP)


def attach(index: int, bridge: int, alias: str) -> nlmsg:
    """Make a link a port of the bridge, and bring it up."""
    attributes = [("IFLA_MASTER", bridge), ("IFLA_IFALIAS", alias)]
    return _message(ifinfmsg(), RTM_NEWLINK, 0, attributes, index=index, flags=_UP, change=_UP)


def new_address(index: int, address: IPv4Address, prefix: int, broadcast: IPv4Address) -> nlmsg:
    attributes = [
        ("IFA_ADDRESS", str(address)),
        ("IFA_LOCAL", str(address)),
        ("IFA_BROADCAST", str(broadcast)),
    ]
    message = _message(ifaddrmsg(), RTM_NEWADDR, _NEW, attributes, index=index)
    message["family"] = socket.AF_INET
    message["prefixlen"] = prefix
    return message


def default_route(gateway: IPv4Address) -> nlmsg:
    message = _message(rtmsg(), RTM_NEWROUTE, _NEW, [("RTA_GATEWAY", str(gateway))])
    message["family"] = socket.AF_INET
    message["table"] = _MAIN_TABLE
    message["proto"] = rt_proto["static"]
    message["scope"] = rt_scope["universe"]
    message["type"] = rt_type["unicast"]
    return message


def _message(
    message: nlmsg, kind: int, how: int, attributes: list[tuple[str, Any]], **fields: int
) -> nlmsg:
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | how
    message["attrs"] = attributes
    for name, value in fields.items():
        message[name] = value
    return cast(nlmsg, message)
