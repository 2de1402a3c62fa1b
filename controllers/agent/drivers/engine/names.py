"""Names that containers of one namespace on one node know each other by.

Every container sees its namespace's file as /etc/hosts, and each running container stands in it
with its task's name and its hostname, and, once it is to get traffic, with its service's name and
`<service>.<namespace>`. Who gets traffic is read back from the file by the next agent. So a service
is found by its name without a name server, also while the agent is away. On the Engine's default
bridge this saves what a user-defined network costs for each container (its embedded DNS server:
100 ms of CPU with Docker 20.10, a third of what a start costs).
A container with names of its own (extraHosts) has a file of its own: those, then the namespace's.

A bind mount of a file holds on to the inode, so a file is rewritten in place and never replaced,
and stays until its namespace has no container here, running or not.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from controllers.agent.drivers.contract import DriverError

_HEAD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""


class Entry(msgspec.Struct, frozen=True):
    """One container's line; it has no address while it doesn't run."""

    namespace: str
    service: str
    task_name: str
    hostname: str
    address: str = ""
    extra: tuple[tuple[str, str], ...] = ()  # names and addresses that it alone knows


class Names:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries: dict[str, dict[str, Entry]] = {}  # namespace → task uid → entry
        self._serving: dict[str, bool] = {}  # task uid → whether its service's name leads to it

    def path(self, namespace: str, task_uid: str = "") -> Path:
        """The file that a task's container sees; without one, the namespace's."""
        entry = self._entries.get(namespace, {}).get(task_uid)
        own = entry is not None and entry.extra
        return self._directory / (f"{namespace}.{task_uid}" if own else namespace)

    def put(self, task_uid: str, entry: Entry) -> None:
        """The file is there and says so when this returns. Raises DriverError."""
        entries = self._entries.setdefault(entry.namespace, {})
        if entry.address and task_uid not in self._serving:
            self._serving[task_uid] = self._served(entry)
        before = entries.get(task_uid)
        entries[task_uid] = entry
        same = before == entry or (not entry.address and (before is None or not before.address))
        paths = (self.path(entry.namespace), self.path(entry.namespace, task_uid))
        if same and all(path.exists() for path in paths):
            return
        try:
            self._write(entry.namespace)
        except DriverError:
            del entries[task_uid]  # so that the next try doesn't take it for written
            raise

    def serve(self, task_uid: str, serving: bool) -> None:
        """Whether its service's name leads to it. Raises DriverError."""
        if self._serving.get(task_uid, False) == serving:
            return
        for namespace, entries in self._entries.items():
            entry = entries.get(task_uid)
            if entry is not None and entry.address:
                self._serving[task_uid] = serving
                try:
                    self._write(namespace)
                except DriverError:
                    self._serving[task_uid] = not serving
                    raise

    def _served(self, entry: Entry) -> bool:
        """Whether an earlier agent had its service's name lead to it, at this address."""
        try:
            lines = self.path(entry.namespace).read_text().splitlines()
        except OSError:
            return False
        line = {entry.address, entry.task_name, entry.service}
        return any(line <= set(words.split()) for words in lines)

    def stopped(self, task_uid: str) -> None:
        """Its container has ended, or is gone and may be made again."""
        self._serving[task_uid] = False
        for entries in self._entries.values():
            entry = entries.get(task_uid)
            if entry is not None and entry.address:
                self.put(task_uid, msgspec.structs.replace(entry, address=""))

    def forget(self, task_uid: str) -> None:
        self._serving.pop(task_uid, None)
        for namespace, entries in list(self._entries.items()):
            own = self.path(namespace, task_uid)
            entry = entries.pop(task_uid, None)
            if entry is None:
                continue
            if entry.extra:
                own.unlink(missing_ok=True)
            if entries and entry.address:
                self._write(namespace)
            elif not entries:
                del self._entries[namespace]
                self.path(namespace).unlink(missing_ok=True)

    def _write(self, namespace: str) -> None:
        """The namespace's file, and those of its containers with names of their own."""
        lines = []
        for uid, entry in self._entries[namespace].items():
            if entry.address:
                service = (entry.service, f"{entry.service}.{namespace}")
                known = dict.fromkeys((entry.hostname, entry.task_name))  # once, where the same
                if self._serving.get(uid):
                    known.update(dict.fromkeys(service))
                else:
                    known = {name: None for name in known if name not in service}
                lines.append(f"{entry.address}\t{' '.join(known)}\n")
        rest = "".join(lines)
        self._put(self.path(namespace), _HEAD + rest)
        for uid, entry in self._entries[namespace].items():
            if entry.extra:
                first = "".join(f"{address}\t{name}\n" for name, address in entry.extra)
                self._put(self.path(namespace, uid), _HEAD + first + rest)

    def _put(self, path: Path, content: str) -> None:
        text = content.encode()
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(descriptor, text, 0)
                os.ftruncate(descriptor, len(text))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DriverError(
                f"the names that containers know each other by can't be written to {path}: "
                f"{error.strerror}; see that there is room on the node and that the agent's run "
                "directory may be written"
            ) from error
