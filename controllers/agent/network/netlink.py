"""Requests to the kernel's routing netlink, of one network namespace.

What a container needs is six messages that never differ but in a few numbers, so they are written
here, as include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,veth}.h of the kernel have them. A
library that knows all of netlink takes 13 MiB, and 0.35 ms a container. Several go in one datagram.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length with this, type
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, hardware type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # ifaddrmsg: family, prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, destination, source, tos, table, …
_U32 = struct.Struct("=I")
_NUMBER = struct.Struct("=i")

_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 20, 24  # RTM_NEW…
_ASKED = 0x1 | 0x4  # NLM_F_REQUEST, NLM_F_ACK
_NEW = 0x400 | 0x200  # NLM_F_CREATE, NLM_F_EXCL
_ERROR = 2  # NLMSG_ERROR, an acknowledgement where its number is 0
_ANSWERS = 65536  # bytes; an acknowledgement is 36, or repeats the refused message

_UP = 1  # IFF_UP
_HARDWARE, _NAME, _MTU, _MASTER, _INFO, _ALIAS, _NAMESPACE = 1, 3, 4, 10, 18, 20, 28  # IFLA_…
_KIND, _DATA, _PEER = 1, 2, 1  # IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER
_ITS_ADDRESS, _LOCAL, _BROADCAST = 1, 2, 4  # IFA_…
_GATEWAY = 5  # RTA_GATEWAY
_MAIN_TABLE, _STATIC, _UNIVERSE, _UNICAST = 254, 4, 0, 1


class Netlink:
    """Made in the namespace that it speaks to: the thread may leave it afterwards."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )

    def close(self) -> None:
        self._socket.close()

    def ask(self, *messages: bytes) -> None:
        """One after the other. Raises OSError for the first that the kernel refuses."""
        self._socket.send(b"".join(messages))
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


def new_pair(inside: str, index: int, hardware: str, outside: str, place: int, mtu: int) -> bytes:
    """A pair of links: one here, with this index and hardware address, the other in the namespace
    that `place` is a descriptor of."""
    peer = _LINK.pack(0, 0, 0, 0, 0) + _attributes(
        (_NAME, _text(outside)), (_NAMESPACE, _U32.pack(place)), (_MTU, _U32.pack(mtu))
    )
    pair = _attributes((_KIND, _text("veth")), (_DATA, _attributes((_PEER, peer))))
    return _link(
        index,
        (_NAME, _text(inside)),
        (_HARDWARE, bytes.fromhex(hardware.replace(":", ""))),
        (_MTU, _U32.pack(mtu)),
        (_INFO, pair),
        how=_NEW,
    )


def link_up(index: int) -> bytes:
    return _link(index, flags=_UP)


def attach(name: str, bridge: int, alias: str) -> bytes:
    """Make a link a port of the bridge, and bring it up."""
    attributes = ((_NAME, _text(name)), (_MASTER, _U32.pack(bridge)), (_ALIAS, _text(alias)))
    return _link(0, *attributes, flags=_UP)


def new_address(index: int, address: IPv4Address, prefix: int, broadcast: IPv4Address) -> bytes:
    fixed = _ADDRESS.pack(socket.AF_INET, prefix, 0, _UNIVERSE, index)
    attributes = _attributes(
        (_ITS_ADDRESS, address.packed), (_LOCAL, address.packed), (_BROADCAST, broadcast.packed)
    )
    return _message(_NEW_ADDRESS, _NEW, fixed + attributes)


def default_route(gateway: IPv4Address) -> bytes:
    fixed = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _MAIN_TABLE, _STATIC, _UNIVERSE, _UNICAST, 0)
    return _message(_NEW_ROUTE, _NEW, fixed + _attributes((_GATEWAY, gateway.packed)))


def _link(index: int, *attributes: tuple[int, bytes], how: int = 0, flags: int = 0) -> bytes:
    fixed = _LINK.pack(socket.AF_UNSPEC, 0, index, flags, flags)
    return _message(_NEW_LINK, how, fixed + _attributes(*attributes))


def _message(kind: int, how: int, content: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(content), kind, _ASKED | how, 0, 0) + content


def _attributes(*attributes: tuple[int, bytes]) -> bytes:
    """Each begins at a multiple of four bytes."""
    return b"".join(
        _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)
        for kind, value in attributes
    )


def _text(text: str) -> bytes:
    return text.encode() + b"\0"
