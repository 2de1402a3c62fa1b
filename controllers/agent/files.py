"""Secrets and configs as files for containers.

What the manager delivers is kept here by name. When a task's container is about to be made, its
files are written to a directory of the task's own, `<root>/<task uid>/`: all with a relative
target under `tree/`, which the container sees as /run/secrets (or /run/configs); each with an
absolute one under `single/<number>`. All of a task's files are there, with owner and mode, or
none. Those that a running container is to see change are links into a generation of their own: see
`generations`. When the task is over its files are overwritten and removed.

    Trouble         can't be given to this task: a target that leads astray, two at one place
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from api.types.assignment import Delivery
from api.types.places import forbidden
from api.types.template import ConfigMount, SecretFile, SecretMount
from controllers.agent import generations
from controllers.agent.drivers.contract import BoundFile
from controllers.agent.shred import shred

Mount = SecretMount | ConfigMount
Owned = Mount | SecretFile  # what says whose the files are, and who may read them


class Trouble(Exception):
    """The text is for people."""


class Scope(NamedTuple):
    """Whose files: what a task's revision says of the versions of the secrets that it names."""

    namespace: str
    secrets: Mapping[str, int] = {}  # as in RevisionSpec


class Place(NamedTuple):
    """Where a container sees a secret or config: a file, or a directory of files."""

    what: str  # secret | config | secret file
    name: str
    mount: Owned
    path: PurePosixPath  # absolute, in the container
    files: dict[str, bytes]  # by name in the directory; "" for one that is a file

    def __str__(self) -> str:
        return f"{self.what} {self.name}"

    def put(self, at: Path) -> None:
        """Write it, with owner and mode. Raises OSError."""
        if set(self.files) != {""}:
            at.mkdir()
            at.chmod(0o755)
        for name, data in self.files.items():
            _write_file(at / name if name else at, self.mount, data)


def keep_apart(places: Sequence[Place]) -> None:
    """Raises Trouble where one would be at, or inside, another's place."""
    taken: dict[PurePosixPath, Place] = {}
    for place in places:
        other = taken.setdefault(place.path, place)
        if other is not place:
            who = f"two {place.what}s" if place.what == other.what else f"{other} and {place}"
            raise Trouble(f"{who} would be at {place.path}; give one another target")
    for place in places:
        for above in place.path.parents:
            if above in taken:
                raise Trouble(
                    f"{place} would be at {place.path}, inside {taken[above]} at {above}; "
                    "give one another target"
                )


class Files:
    """The secrets, or the configs, of one node."""

    def __init__(self, root: Path, *, what: str, inside: str) -> None:
        """`what`: secret or config; `inside`: where containers see relative targets."""
        self._root = root
        self._what = what
        self._inside = PurePosixPath(inside)
        self._deliveries: dict[str, dict[int, Delivery]] = {}  # by namespace/name, and version
        self.awaited: dict[str, str] = {}  # by namespace/name: why there is nothing of it yet

    # What is here.

    def put(self, delivery: Delivery) -> None:
        versions = self._deliveries.setdefault(f"{delivery.namespace}/{delivery.name}", {})
        versions[delivery.version] = delivery

    def drop(self, id: str) -> None:
        """`id` as of a Delivery."""
        name, _, version = id.partition("@")
        versions = self._deliveries.get(name, {})
        versions.pop(int(version or 0), None)
        if not versions or not version:  # an earlier manager knows of one version only
            self._deliveries.pop(name, None)

    def replace(self, deliveries: Iterable[Delivery]) -> None:
        self._deliveries = {}
        for delivery in deliveries:
            self.put(delivery)

    def find(self, scope: Scope, name: str, *, newest: bool = False) -> Delivery | None:
        """The version that the revision names, or the `newest` that is here."""
        versions = self._deliveries.get(f"{scope.namespace}/{name}")
        if not versions:
            return None
        last = versions[max(versions)]
        if newest or not last.version:
            return last
        wanted = scope.secrets.get(name, last.oldest)
        return versions.get(wanted) if wanted else last

    def of(self, scope: Scope, mount: Mount) -> Delivery | None:
        return self.find(scope, mount.name, newest=_swapped(mount))

    def missing(self, scope: Scope, mounts: Sequence[Mount]) -> str:
        """The first thing that these mounts name and which is not here, in words."""
        for mount in mounts:
            delivery = self.of(scope, mount)
            name = f"{self._what} {scope.namespace}/{mount.name}"
            if delivery is None:
                version = 0 if _swapped(mount) else scope.secrets.get(mount.name, 0)
                if version:
                    return f"version {version} of {name}, which does not exist any more"
                why = self.awaited.get(f"{scope.namespace}/{mount.name}")
                return f"{name}, which is {why}" if why else f"{name}, which does not exist"
            if mount.key and mount.key not in delivery.data:
                keys = ", ".join(sorted(delivery.data))
                return f"key {mount.key} of {name}, which has only: {keys}"
        return ""

    def data(self, scope: Scope, name: str, *, newest: bool = False) -> dict[str, bytes]:
        """Its bytes, as `find` finds it; none where it is not here."""
        delivery = self.find(scope, name, newest=newest)
        return {} if delivery is None else delivery.data

    # What tasks see.

    def places(self, scope: Scope, mounts: Sequence[Mount]) -> list[Place]:
        """Where each would be, and what. Raises Trouble."""
        return [
            Place(
                self._what,
                mount.name,
                mount,
                self.path(mount.target or mount.name, mount.name),
                self._content(scope, mount),
            )
            for mount in mounts
        ]

    def path(self, target: str, name: str) -> PurePosixPath:
        """Where a container sees it. Raises Trouble."""
        parts = [part for part in target.split("/") if part]
        odd = any(character < " " or character == "\x7f" for character in target)
        if ".." in parts or "." in parts or odd or not parts or target.endswith("/"):
            raise Trouble(f"target {target!r} of {self._what} {name} is not a path for it")
        base = PurePosixPath("/") if target.startswith("/") else self._inside
        path = base.joinpath(*parts)
        if why := forbidden(str(path)):
            raise Trouble(f"target {target!r} of {self._what} {name}: {why}")
        return path

    def swap(
        self, task_uid: str, scope: Scope, mounts: Sequence[Mount], made: Sequence[Place] = ()
    ) -> None:
        """Give a running container the newest versions of what it is to see change: all at once,
        and nothing where it has them. Raises Trouble, OSError."""
        places = self.places(scope, [mount for mount in mounts if _swapped(mount)])
        places += [place for place in made if _swapped(place.mount)]
        generations.swap(self._directory(task_uid) / "tree", _contents(places))

    def tidy(self, task_uid: str) -> bool:
        """Remove what swaps have left; False: somebody still reads it. Raises OSError."""
        return generations.tidy(self._directory(task_uid) / "tree")

    def write(
        self,
        task_uid: str,
        scope: Scope,
        mounts: Sequence[Mount],
        made: Sequence[Place] = (),
    ) -> list[BoundFile]:
        """Write a task's files, and those `made` for it; done already: written anew.

        Raises Trouble, OSError.
        """
        if not mounts and not made:
            return []
        places = [*self.places(scope, mounts), *made]
        keep_apart(places)
        self.withdraw(task_uid)
        try:
            return self._write(self._directory(task_uid), places)
        except BaseException:
            self.withdraw(task_uid)
            raise

    def withdraw(self, task_uid: str) -> None:
        """Overwrite and remove a task's files; there are none: nothing. Raises OSError."""
        directory = self._directory(task_uid)
        if directory.is_symlink():
            directory.unlink()
        elif directory.exists():
            for folder, _, names in os.walk(directory):
                for name in names:
                    shred(Path(folder) / name)
            shutil.rmtree(directory)

    def holders(self) -> list[str]:
        """The uids of tasks that have files."""
        try:
            names = [entry.name for entry in self._root.iterdir()]
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(".")]

    def _directory(self, task_uid: str) -> Path:
        if not task_uid or task_uid.startswith(".") or "/" in task_uid:
            raise Trouble(f"{task_uid!r} is not a task's uid")
        return self._root / task_uid

    def _content(self, scope: Scope, mount: Mount) -> dict[str, bytes]:
        data = self.data(scope, mount.name, newest=_swapped(mount))
        if mount.key:
            return {"": data[mount.key]}
        if len(data) == 1:
            return {"": next(iter(data.values()))}
        for key in data:
            if key in ("", ".", "..") or "/" in key or "\0" in key:
                raise Trouble(f"key {key!r} of {self._what} {mount.name} can't name a file")
        return data

    # Writing.

    def _write(self, directory: Path, places: Sequence[Place]) -> list[BoundFile]:
        tree, single = directory / "tree", directory / "single"
        self._root.mkdir(parents=True, exist_ok=True)
        bound: list[BoundFile] = []
        links: dict[Path, Place] = {}
        for number, place in enumerate(places):
            if self._inside in place.path.parents:
                at = tree / place.path.relative_to(self._inside)
                seen = BoundFile(str(tree), str(self._inside))
                if seen not in bound:
                    bound.insert(0, seen)
                if _swapped(place.mount):
                    links[at] = place
                    continue
            elif _swapped(place.mount):
                raise Trouble(
                    f"{place} would be at {place.path}, where no new version can replace it;"
                    f" give it a target under {self._inside}, or onChange: restart"
                )
            else:
                at = single / str(number)
                bound.append(BoundFile(str(at), str(place.path)))
            _open_directories(self._root, at.parent)
            place.put(at)
        if links:
            _open_directories(self._root, tree)
            contents = _contents(links.values())
            generations.swap(tree, contents)
            for at, name in zip(links, contents, strict=True):
                _open_directories(self._root, at.parent)
                generations.link(tree, at, name)
        return bound


def _swapped(mount: Owned) -> bool:
    return isinstance(mount, SecretMount | SecretFile) and mount.swapped


def _contents(places: Iterable[Place]) -> dict[str, Place]:
    """By their names in a generation: a template's mounts are always in the same order."""
    return {str(number): place for number, place in enumerate(places)}


def _open_directories(root: Path, path: Path) -> None:
    """Everyone in the container may look; the root above is closed to all on the node."""
    for each in reversed([path, *path.parents[: len(path.relative_to(root).parts) - 1]]):
        if not each.exists():
            each.mkdir()
            each.chmod(0o755)


def _write_file(at: Path, mount: Owned, data: bytes) -> None:
    descriptor = os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        if (mount.uid, mount.gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, mount.uid, mount.gid)
        os.fchmod(descriptor, int(mount.mode, 8))
    finally:
        os.close(descriptor)
