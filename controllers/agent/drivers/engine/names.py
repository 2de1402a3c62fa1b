"""Names that containers of one namespace on one node know each other by.

Every container sees its namespace's file as /etc/hosts, and each running container stands in it
with its task's name and its hostname, and, once it is to get traffic, with its service's name and
`<service>.<namespace>`. Who gets traffic is read back from the file by the next agent. So a service
is found by its name without a name server, also while the agent is away. On the Engine's default
bridge this saves what a user-defined network costs for each container (its embedded DNS server:
100 ms of CPU with Docker 20.10, a third of what a start costs).
A container with names of its own (extraHosts) has a file of its own: those, then the namespace's.

A file stays until its namespace has no container here, running or not.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from controllers.agent.drivers.contract import DriverError
from controllers.agent.drivers.engine.seen import rewrite

_WHAT = "the file of the names that containers know each other by"
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


class _Line:
    """A container's entry, and what stands in the file for it: nothing without an address."""

    __slots__ = ("entry", "text")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.text = ""

    def write(self, serving: bool) -> None:
        entry = self.entry
        service = (entry.service, f"{entry.service}.{entry.namespace}")
        known = dict.fromkeys((entry.hostname, entry.task_name))  # once, where the same
        if serving:
            known.update(dict.fromkeys(service))
        else:
            known = {name: None for name in known if name not in service}
        self.text = f"{entry.address}\t{' '.join(known)}\n" if entry.address else ""


class Names:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines: dict[str, dict[str, _Line]] = {}  # namespace → task uid → line
        self._earlier: dict[str, dict[str, str]] = {}  # namespace → address → an earlier agent's
        self._serving: dict[str, bool] = {}  # task uid → whether its service's name leads to it

    def path(self, namespace: str, task_uid: str = "") -> Path:
        """The file that a task's container sees; without one, the namespace's."""
        return self._directory / self._name(namespace, task_uid)

    def _name(self, namespace: str, task_uid: str) -> str:
        line = self._lines.get(namespace, {}).get(task_uid)
        own = line is not None and line.entry.extra
        return f"{namespace}.{task_uid}" if own else namespace

    def put(self, task_uid: str, entry: Entry) -> None:
        """The file is there and says so when this returns. Raises DriverError."""
        lines = self._lines.get(entry.namespace)
        if lines is None:  # before we write it for the first time
            lines = self._lines[entry.namespace] = {}
            self._earlier[entry.namespace] = self._read(entry.namespace)
        if entry.address and task_uid not in self._serving:
            self._serving[task_uid] = self._served(entry)
        line = lines.get(task_uid)
        before = None if line is None else line.entry
        if line is None:
            line = lines[task_uid] = _Line(entry)
        line.entry = entry
        same = before == entry or (not entry.address and (before is None or not before.address))
        if same and self._exist(entry.namespace, task_uid):
            return
        line.write(self._serving.get(task_uid, False))
        try:
            self._write(entry.namespace)
        except DriverError:
            del lines[task_uid]  # so that the next try doesn't take it for written
            raise

    def serve(self, task_uid: str, serving: bool) -> None:
        """Whether its service's name leads to it. Raises DriverError."""
        if self._serving.get(task_uid, False) == serving:
            return
        for namespace, lines in self._lines.items():
            line = lines.get(task_uid)
            if line is not None and line.entry.address:
                self._serving[task_uid] = serving
                line.write(serving)
                try:
                    self._write(namespace)
                except DriverError:
                    self._serving[task_uid] = not serving
                    line.write(not serving)
                    raise

    def _read(self, namespace: str) -> dict[str, str]:
        """What an earlier agent wrote, by address."""
        try:
            lines = self.path(namespace).read_text().splitlines()
        except OSError:
            return {}
        return {line.partition("\t")[0]: line for line in lines}

    def _served(self, entry: Entry) -> bool:
        """Whether an earlier agent had its service's name lead to it, at this address."""
        line = self._earlier[entry.namespace].pop(entry.address, "")
        return {entry.task_name, entry.service} <= set(line.split())

    def _exist(self, namespace: str, task_uid: str) -> bool:
        names = {namespace, self._name(namespace, task_uid)}
        return all(os.path.exists(self._at(name)) for name in names)  # noqa: PTH110 - see _at

    def stopped(self, task_uid: str) -> None:
        """Its container has ended, or is gone and may be made again."""
        self._serving[task_uid] = False
        for lines in self._lines.values():
            line = lines.get(task_uid)
            if line is not None and line.entry.address:
                self.put(task_uid, msgspec.structs.replace(line.entry, address=""))

    def forget(self, task_uid: str) -> None:
        self._serving.pop(task_uid, None)
        for namespace, lines in list(self._lines.items()):
            own = self.path(namespace, task_uid)
            line = lines.pop(task_uid, None)
            if line is None:
                continue
            if line.entry.extra:
                own.unlink(missing_ok=True)
            if lines and line.entry.address:
                self._write(namespace)
            elif not lines:
                del self._lines[namespace], self._earlier[namespace]
                self.path(namespace).unlink(missing_ok=True)

    def _write(self, namespace: str) -> None:
        """The namespace's file, and those of its containers with names of their own."""
        lines = self._lines[namespace]
        rest = "".join([line.text for line in lines.values()])
        self._put(namespace, _HEAD + rest)
        for uid, line in lines.items():
            if line.entry.extra:
                first = "".join(f"{address}\t{name}\n" for name, address in line.entry.extra)
                self._put(self._name(namespace, uid), _HEAD + first + rest)

    def _put(self, name: str, content: str) -> None:
        rewrite(self._at(name), content, _WHAT)

    def _at(self, name: str) -> str:
        """A string: twice a start is often enough for a Path to count."""
        return f"{self._directory}/{name}"
