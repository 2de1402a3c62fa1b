"""Containers' network namespaces: made by the agent, each with a link to the node's bridge.

The engine's own way to give a container a network starts two programs for each. Here it is a few
messages to the kernel, before the container is started, and the container finds its network ready.

Nobody has to clean up. A namespace is kept by a file descriptor of ours only until its container
has started; from then on the container's own processes keep it, and with the last of them the
kernel takes it away, and the link and the address with it, whether an agent runs then or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import functools
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from controllers.agent.network import netlink
from controllers.agent.network.bridge import Bridge, hardware_address, link_name
from controllers.agent.network.netlink import Netlink

# Where the runtime (`runtime`, beside this file) finds the namespace of a container by its id.
LINKS = Path("/run/skep/netns")

_CLONE_NEWNET = 0x40000000
_INSIDE = "eth0"
_LOOPBACK = 1  # its index, in every namespace
_TRIES = 1100  # more than a bridge has ports: one of so many addresses is free
_INDEX = 100  # of eth0: tunnels' modules put links of theirs, with low ones, into each namespace

T = TypeVar("T")


class NetworkError(Exception):
    """A container can't have its network; the text says why and what to do."""


class Namespaces:
    """They are wired in `place`, the network namespace of some process (/proc/<pid>/ns/net)."""

    def __init__(self, place: Path, links: Path = LINKS) -> None:
        self._place = place
        self._links = links
        self._where = -1  # a descriptor of `place`
        self._outside: Netlink  # since `_enter`; used by one at a time, in its turn
        # The kernel has one lock for all links: threads would spin at it.
        self._turns = asyncio.Lock()
        self._turn = random.randrange(2**16)  # noqa: S311 - so that agents don't try the same ones
        self._wired: dict[str, tuple[int, asyncio.Task[int]]] = {}  # id → how many want it
        self._makings: set[asyncio.Task[int]] = set()  # also those that nobody wants any more
        self._closed = False

    async def open(self) -> None:
        """Raises NetworkError where this process may not do this."""
        try:
            await _in_new_thread(self._enter)
        except OSError as error:
            raise NetworkError(
                f"namespaces can't be made ({error.strerror}); run the agent as root with"
                " CAP_SYS_ADMIN and CAP_NET_ADMIN"
            ) from error

    async def close(self) -> None:
        """What is under way is finished first."""
        self._closed = True
        await asyncio.gather(*self._makings, return_exceptions=True)
        if self._where >= 0:
            self._outside.close()
            os.close(self._where)
            self._where = -1

    @asynccontextmanager
    async def wired(self, container_id: str, bridge: Bridge) -> AsyncIterator[None]:
        """A namespace for this container, which is to start within the block. Who asks for the same
        container meanwhile has the same one. Raises NetworkError."""
        wanted, making = self._wired.get(container_id, (0, None))
        if making is None:
            if self._closed:
                raise NetworkError("the engine is another by now; the next try asks that one")
            making = asyncio.create_task(self._make(container_id, bridge))
            self._makings.add(making)
            making.add_done_callback(self._makings.discard)
        self._wired[container_id] = wanted + 1, making
        try:
            await asyncio.shield(making)
            yield
        finally:
            wanted, making = self._wired[container_id]
            if wanted > 1:
                self._wired[container_id] = wanted - 1, making
            else:
                del self._wired[container_id]
                if making.done():
                    self._release(container_id, making)
                else:  # given up before it was made
                    making.add_done_callback(lambda made: self._release(container_id, made))

    async def _make(self, container_id: str, bridge: Bridge) -> int:
        """A descriptor of the namespace, to be found by the runtime."""
        try:
            async with self._turns:
                namespace = await _in_new_thread(lambda: self._furnish(container_id, bridge))
                try:
                    self._show(container_id, namespace)
                except BaseException:
                    os.close(namespace)
                    raise
        except OSError as error:
            raise NetworkError(_words(error, bridge)) from error
        return namespace

    def _release(self, container_id: str, made: asyncio.Task[int]) -> None:
        if made.cancelled() or made.exception() is not None:
            return
        try:
            (self._links / container_id).unlink(missing_ok=True)
        finally:
            os.close(made.result())

    def _show(self, container_id: str, namespace: int) -> None:
        self._links.mkdir(mode=0o700, parents=True, exist_ok=True)  # who tidies /run may take it
        link = self._links / container_id
        link.unlink(missing_ok=True)  # of an agent that ended meanwhile
        link.symlink_to(f"/proc/{os.getpid()}/fd/{namespace}")

    # In a thread of the new namespace's own, which ends with this.

    def _furnish(self, container_id: str, bridge: Bridge) -> int:
        """Make a namespace with its link to the bridge: its descriptor."""
        _set_namespace(self._where)
        master = socket.if_nametoindex(bridge.name)
        _check(_libc().unshare(_CLONE_NEWNET))
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.closing(Netlink()) as inside:
                address = self._link(inside, bridge)
                _without_ipv6()
                network = bridge.network
                inside.ask(
                    netlink.new_address(
                        _INDEX, address, network.prefixlen, network.broadcast_address
                    ),
                    netlink.link_up(_LOOPBACK),
                    netlink.link_up(_INDEX),
                    netlink.default_route(bridge.gateway),
                )
            self._outside.ask(netlink.attach(link_name(address), master, container_id))
        except BaseException:
            os.close(namespace)
            raise
        return namespace

    def _link(self, inside: Netlink, bridge: Bridge) -> IPv4Address:
        """Both ends of it, the outer one in `place`. What address it was free for."""
        for _ in range(_TRIES):
            self._turn += 1
            address = bridge.address(self._turn)
            pair = netlink.new_pair(
                inside=_INSIDE,
                index=_INDEX,
                hardware=hardware_address(address),
                outside=link_name(address),
                place=self._where,
                mtu=bridge.mtu,
            )
            try:
                inside.ask(pair)
            except FileExistsError:
                continue
            return address
        raise NetworkError(
            f"{_TRIES} addresses on the bridge {bridge.name} are all taken; see what has them:"
            f" ip link show master {bridge.name}"
        )

    # In a thread that goes to `place`, and ends there.

    def _enter(self) -> None:
        self._links.mkdir(mode=0o700, parents=True, exist_ok=True)
        for link in self._links.iterdir():
            if _left(link):
                link.unlink(missing_ok=True)
        where = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(where)
            self._outside = Netlink()
        except BaseException:
            os.close(where)
            raise
        self._where = where


def _left(link: Path) -> bool:
    """Whether an agent that was killed has left it: its process is gone, or the number is that of
    another, which has no namespace there. We have none yet."""
    try:
        return not str(link.readlink().readlink()).startswith("net:[")
    except OSError:
        return True


async def _in_new_thread(work: Callable[[], T]) -> T:
    """A thread that goes into another namespace is not trusted to come back: it ends."""
    once = ThreadPoolExecutor(1, thread_name_prefix="namespace")
    try:
        return await asyncio.get_running_loop().run_in_executor(once, work)
    finally:
        once.shutdown(wait=False)


def _without_ipv6() -> None:
    """The engine's bridge has none, and a program that finds ::1 and fe80:: takes it for usable."""
    try:
        setting = os.open("/proc/sys/net/ipv6/conf/all/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(setting, b"1")
        finally:
            os.close(setting)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EROFS):  # no IPv6, or an agent in a container
            raise


def _words(error: OSError, bridge: Bridge) -> str:
    if error.errno == errno.EXFULL:
        return (
            f"the bridge {bridge.name} has its most ports, 1,024: no more containers fit on this"
            " node; place fewer there (maxReplicasPerNode), or add nodes"
        )
    why = error.strerror or error
    if error.filename:
        return f"the container's network can't be made: {error.filename}: {why}"
    return f"the container's network can't be made on the bridge {bridge.name}: {why}"


def _set_namespace(descriptor: int) -> None:
    _check(_libc().setns(descriptor, _CLONE_NEWNET))


@functools.cache  # it makes classes of its own each time
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
