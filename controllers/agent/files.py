"""Secrets and configs as files for containers.

What the manager delivers is kept here by name. When a task's container is about to be made, its
files are written to a directory of the task's own, `<root>/<task uid>/`: all with a relative
target under `tree/`, which the container sees as /run/secrets (or /run/configs); each with an
absolute one under `single/<number>`. A file appears whole, with its owner and mode, or not at
all. When the task is over its files are overwritten and removed.

    Trouble         can't be given to this task: a target that leads astray, two at one place
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from api.types.assignment import Delivery
from api.types.template import ConfigMount, SecretMount
from controllers.agent.drivers.contract import BoundFile

Mount = SecretMount | ConfigMount


class Trouble(Exception):
    """The text is for people."""


class _Place(NamedTuple):
    relative: bool
    parts: tuple[str, ...]  # under `inside`, or from the container's root


class Files:
    """The secrets, or the configs, of one node."""

    def __init__(self, root: Path, *, what: str, inside: str) -> None:
        """`what`: secret or config; `inside`: where containers see relative targets."""
        self._root = root
        self._what = what
        self._inside = PurePosixPath(inside)
        self._deliveries: dict[str, Delivery] = {}  # namespace/name

    # What is here.

    def put(self, delivery: Delivery) -> None:
        self._deliveries[delivery.id] = delivery

    def drop(self, id: str) -> None:
        self._deliveries.pop(id, None)

    def replace(self, deliveries: Iterable[Delivery]) -> None:
        self._deliveries = {delivery.id: delivery for delivery in deliveries}

    def missing(self, namespace: str, mounts: Sequence[Mount]) -> str:
        """The first thing that these mounts name and which is not here, in words."""
        for mount in mounts:
            delivery = self._deliveries.get(f"{namespace}/{mount.name}")
            name = f"{self._what} {namespace}/{mount.name}"
            if delivery is None:
                return f"{name}, which does not exist"
            if mount.key and mount.key not in delivery.data:
                keys = ", ".join(sorted(delivery.data))
                return f"key {mount.key} of {name}, which has only: {keys}"
        return ""

    # What tasks see.

    def write(self, task_uid: str, namespace: str, mounts: Sequence[Mount]) -> list[BoundFile]:
        """Write a task's files; done already: written anew. Raises Trouble, OSError."""
        if not mounts:
            return []
        directory = self._directory(task_uid)
        self.withdraw(task_uid)
        tree, single = directory / "tree", directory / "single"
        self._make_directories(directory, tree)
        bound: list[BoundFile] = []
        taken: set[tuple[bool, tuple[str, ...]]] = set()
        for number, mount in enumerate(mounts):
            place = self._place(mount)
            if place in taken:
                raise Trouble(f"two {self._what}s would be at {self._shown(place)}")
            taken.add(place)
            delivery = self._deliveries[f"{namespace}/{mount.name}"]
            if place.relative:
                at = tree.joinpath(*place.parts)
                self._make_directories(*reversed(at.parents[: len(place.parts) - 1]))
            else:
                at = single / str(number)
                self._make_directories(single)
                bound.append(BoundFile(str(at), "/" + "/".join(place.parts)))
            self._write_mount(at, mount, delivery)
        if any(place[0] for place in taken):
            bound.insert(0, BoundFile(str(tree), str(self._inside)))
        return bound

    def withdraw(self, task_uid: str) -> None:
        """Overwrite and remove a task's files; there are none: nothing."""
        directory = self._directory(task_uid)
        for folder, _, names in os.walk(directory):
            for name in names:
                _shred(Path(folder) / name)
        shutil.rmtree(directory, ignore_errors=True)

    def holders(self) -> list[str]:
        """The uids of tasks that have files."""
        try:
            return [entry.name for entry in self._root.iterdir() if entry.is_dir()]
        except FileNotFoundError:
            return []

    # Writing.

    def _directory(self, task_uid: str) -> Path:
        if not task_uid or task_uid.startswith(".") or "/" in task_uid:
            raise Trouble(f"{task_uid!r} is not a task's uid")
        return self._root / task_uid

    def _place(self, mount: Mount) -> _Place:
        target = mount.target or mount.name
        parts = tuple(part for part in target.split("/") if part)
        if ".." in parts or "." in parts or "\0" in target or not parts or target.endswith("/"):
            raise Trouble(f"target {target!r} of {self._what} {mount.name} is not a path for it")
        if not target.startswith("/"):
            return _Place(True, parts)
        inside = self._inside.parts[1:]
        if parts[: len(inside)] == inside and len(parts) > len(inside):
            return _Place(True, parts[len(inside) :])
        return _Place(False, parts)

    def _shown(self, place: _Place) -> str:
        base = self._inside if place.relative else PurePosixPath("/")
        return str(base.joinpath(*place.parts))

    def _write_mount(self, at: Path, mount: Mount, delivery: Delivery) -> None:
        if mount.key or len(delivery.data) == 1:
            data = delivery.data[mount.key] if mount.key else next(iter(delivery.data.values()))
            self._write_file(at, mount, data)
            return
        self._make_directories(at)
        for key, data in delivery.data.items():
            if key in ("", ".", "..") or "/" in key or "\0" in key:
                raise Trouble(f"key {key!r} of {self._what} {mount.name} can't name a file")
            self._write_file(at / key, mount, data)

    def _write_file(self, at: Path, mount: Mount, data: bytes) -> None:
        if at.is_dir():
            raise Trouble(f"{self._what} {mount.name} would be where others are: {at.name}")
        draft = at.with_name(f".{at.name}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            if (mount.uid, mount.gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, mount.uid, mount.gid)
            os.fchmod(descriptor, int(mount.mode, 8))
        finally:
            os.close(descriptor)
        draft.rename(at)

    def _make_directories(self, *paths: Path) -> None:
        """Everyone in the container may look; the root above is closed to all on the node."""
        for path in paths:
            if path.is_file():
                raise Trouble(f"a {self._what} is where a directory for others has to be")
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)


def _shred(path: Path) -> None:
    """Overwrite in place, so that nothing is left in freed pages, and remove."""
    try:
        size = path.lstat().st_size
        if not path.is_symlink():
            with path.open("r+b") as file:
                file.write(bytes(size))
        path.unlink()
    except FileNotFoundError:
        return
