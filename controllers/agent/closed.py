"""What of the node no container is shown along with something else.

Skep's own directories: secrets of all tasks are in one of them, the node's key in another. A mount
of what is inside is refused. A mount of what they are in, such as the node's root for monitoring,
is made, with an empty directory laid over each of them.

Such a mount also hides the kernel's view of all processes (by way of which a container looks into
others that have the same user) and the sockets of container engines, which are as good as root.
Those may be mounted by themselves: who asks for that has a role for the whole cluster, and is told.

It holds against who has no more rights in the container than the engine gives, and can't write to
the node's programs: CAP_SYS_ADMIN takes it off again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from api.types.template import Mount, TaskTemplate
from controllers.agent.files import Trouble

PROCESSES = Path("/proc")
SOCKETS = tuple(
    Path(path)
    for path in (
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/docker/containerd/containerd.sock",
        "/run/podman/podman.sock",
    )
)


class Closed:
    def __init__(self, directories: Iterable[Path], sockets: Iterable[Path] = SOCKETS) -> None:
        self._directories = tuple(directories)
        self._sockets = tuple(sockets)

    def keep_from(self, template: TaskTemplate) -> TaskTemplate:
        """The template as its container may be made. Raises Trouble."""
        covers = [cover for mount in template.mounts for cover in self._covers(mount)]
        taken = {PurePosixPath(mount.target) for mount in template.mounts}
        new = [cover for cover in covers if PurePosixPath(cover.target) not in taken]
        if not new:
            return template
        return msgspec.structs.replace(template, mounts=[*template.mounts, *new])

    def _covers(self, mount: Mount) -> Iterator[Mount]:
        """What has to lie over a mount. Raises Trouble."""
        if mount.type != "bind":
            return
        source = Path(mount.source).resolve()
        for own in self._there():
            if source.is_relative_to(own) or _same_memory(source, own):
                raise Trouble(
                    f"bind mount of {mount.source}: {own} on the node is skep's own, and is not"
                    " shown to containers; mount another directory"
                )
            if own.is_relative_to(source):
                yield _empty(mount, source, own)
        if source in PROCESSES.parents:
            yield _empty(mount, source, PROCESSES)
        for socket in {path.resolve() for path in self._sockets if path.exists()}:
            if source in socket.parents:
                target = _below(mount, source, socket)
                yield Mount(type="bind", source="/dev/null", target=target, read_only=True)

    def _there(self) -> list[Path]:
        """Those that exist, without what is inside another of them."""
        real = {path.resolve() for path in self._directories if path.is_dir()}
        return sorted(path for path in real if not any(above in real for above in path.parents))


def _empty(mount: Mount, source: Path, hidden: Path) -> Mount:
    """A directory over what is hidden. A page is the least there is; nobody writes it."""
    target = _below(mount, source, hidden)
    return Mount(type="tmpfs", target=target, read_only=True, size="4Ki", mode="0000")


def _below(mount: Mount, source: Path, hidden: Path) -> str:
    """Where the container would see it."""
    return str(PurePosixPath(mount.target, hidden.relative_to(source)))


def _same_memory(source: Path, own: Path) -> bool:
    """Whether it is in the memory of the node's secrets under a name that somebody else gave it."""
    try:
        device = source.stat().st_dev
    except OSError:  # the engine says so
        return False
    places = (place for place in own.glob("*/secrets") if place.is_dir())
    return any(place.stat().st_dev == device != own.stat().st_dev for place in places)
