"""What each node is to do, streamed to its agent: one complete set, then what changes.

The model: one listener on the cache serves all nodes. It sorts changes of tasks to the stream of
the node they are on, and marks there what is to be said; it never waits. Each stream's coroutine
lets marks gather and says them in one line: for two milliseconds where it is the only one that has
something to say, and longer the more of them have, so that a line is not made for each task when
many nodes get many. What is pending is a map by task, so a slow agent costs no more than its tasks,
and gets the newest state of each.

A stream knows what its agent has been told: tasks, revisions, secrets, configs. Revisions are
there while a task that has not ended names them; secrets and configs while a task that has not
ended and is wanted does: of secrets, the versions that such tasks have or are to be given. Tasks'
bytes are those of the cache, spliced in, never encoded anew.

An agent's own reports are not sent back to it: a task is said again when anything but its status
changed, or when its status was written by somebody else, which only happens at the end
(Orphaned).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import structlog

from api.rendering import followed_secrets, pinned_secrets, secret_names
from api.server import made
from api.server.payloads import Payloads, config_bytes
from api.store.cache import DELETED, Cache, CacheEvent, Item
from api.store.contract import Unreadable
from api.types.assignment import COMPLETE, INCREMENT, STREAM, Delivery, StreamRequest
from api.types.kinds import CONFIG, REVISION, SECRET, TASK, Kind
from api.types.revision import RevisionSpec
from api.types.secret import SecretStatus
from api.types.task import Task, TaskState

GATHER = 0.002  # seconds for each stream that has something to say: about ten times a line's cost
_LONGEST = 1.0  # seconds

_log = structlog.get_logger("skep.assignments")


class _Needs(NamedTuple):
    """What a task makes its node need: its revision; and whether what that names, too."""

    revision: str  # namespace/name; empty: nothing, the task has ended
    wanted: bool


class NodeStream:
    """What one connected agent has been told, and is to be told."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.closed = False
        self.there = asyncio.Event()
        self.tasks: dict[str, Item] = {}  # by uid, that the node has
        self.changed: dict[str, Item | None] = {}  # by uid; None: removed
        self.requests: list[StreamRequest] = []
        self.needs: dict[str, _Needs] = {}  # by uid
        self.live: Counter[str] = Counter()  # tasks that have not ended, by revision
        self.wanted: Counter[str] = Counter()  # those of them that are wanted
        self.needs_changed = True
        self.told: dict[str, dict[str, int]] = {"revisions": {}, "secrets": {}, "configs": {}}
        self.awaited: dict[str, str] = {}  # as told

    def put(self, item: Item) -> None:
        uid = item.obj.metadata.uid
        self.tasks[uid] = item
        self._need(uid, _needs_of(item))

    def drop(self, uid: str) -> None:
        self.tasks.pop(uid, None)
        self._need(uid, _Needs("", False))
        self.needs.pop(uid, None)

    def _need(self, uid: str, now: _Needs) -> None:
        before = self.needs.get(uid)
        if before == now:
            return
        self.needs[uid] = now
        if before is not None and before.revision:
            self._count(self.live, before.revision, -1)
            if before.wanted:
                self._count(self.wanted, before.revision, -1)
        if now.revision:
            self._count(self.live, now.revision, 1)
            if now.wanted:
                self._count(self.wanted, now.revision, 1)

    def _count(self, counter: Counter[str], revision: str, by: int) -> None:
        counter[revision] += by
        if counter[revision] == 0:
            del counter[revision]
            self.needs_changed = True
        elif counter[revision] == by:
            self.needs_changed = True
        if self.needs_changed:
            self.there.set()

    def close(self) -> None:
        self.closed = True
        self.there.set()


class Assignments:
    """The streams of all nodes that are connected here."""

    def __init__(self, cache: Cache, payloads: Payloads) -> None:
        self._cache = cache
        self._payloads = payloads
        self._streams: dict[str, NodeStream] = {}
        self._telling = 0
        kinds = {TASK, REVISION, SECRET, CONFIG}
        self._unsubscribe = cache.listen(self._changed, kinds=kinds)

    def close(self) -> None:
        self._unsubscribe()
        for stream in self._streams.values():
            stream.close()

    @property
    def count(self) -> int:
        return len(self._streams)

    def open(self, node: str) -> NodeStream:
        """The node's stream from now on; the one it had is closed. To be ended with `leave`."""
        before = self._streams.get(node)
        if before is not None:
            before.close()
        stream = NodeStream(node)
        for item in self._cache.by(TASK, "node", node):
            stream.put(item)
        self._streams[node] = stream
        return stream

    def leave(self, stream: NodeStream) -> None:
        stream.close()
        if self._streams.get(stream.node) is stream:
            del self._streams[stream.node]

    def ask(self, node: str, request: StreamRequest) -> bool:
        """Ask a node to dial back; False where it is not connected here."""
        stream = self._streams.get(node)
        if stream is None:
            return False
        stream.requests.append(request)
        stream.there.set()
        return True

    @contextmanager
    def telling(self) -> Iterator[float]:
        """Within, a stream has something to say: after so many seconds."""
        self._telling += 1
        try:
            yield min(GATHER * self._telling, _LONGEST)
        finally:
            self._telling -= 1

    async def complete(self, stream: NodeStream) -> bytes:
        """The line that says all. Raises StoreError."""
        stream.there.clear()
        stream.changed.clear()
        stream.needs_changed = False
        tasks = [item.served() for item in stream.tasks.values()]
        parts = await self._parts(stream)
        return _line(COMPLETE, tasks, [], parts)

    async def increment(self, stream: NodeStream) -> bytes:
        """What has changed since the last line, as lines; empty: nothing.

        Raises StoreError; then the stream has lost its place, and must be ended.
        """
        stream.there.clear()
        changed, stream.changed = stream.changed, {}
        requests, stream.requests = stream.requests, []
        lines = b""
        if changed or stream.needs_changed:
            tasks = [item.served() for item in changed.values() if item is not None]
            removed = [uid for uid, item in changed.items() if item is None]
            parts: dict[str, bytes] = {}
            if stream.needs_changed:
                stream.needs_changed = False
                parts = await self._parts(stream)
            if tasks or removed or parts:
                lines = _line(INCREMENT, tasks, removed, parts)
        for request in requests:
            lines += b'{"type":"%b","stream":%b}\n' % (STREAM.encode(), _encode(request))
        return lines

    # What changed

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        if not self._streams:
            return
        for event in events:
            if event.kind is TASK:
                self._task_changed(event)
            else:
                self._named_changed(event)

    def _task_changed(self, event: CacheEvent) -> None:
        task: Task = event.item.obj
        stream = self._streams.get(task.spec.node)
        if stream is None:
            return
        uid = task.metadata.uid
        if event.type == DELETED:
            stream.drop(uid)
            stream.changed[uid] = None
            stream.there.set()
            return
        stream.put(event.item)
        if _is_news(event):
            stream.changed[uid] = event.item
            stream.there.set()

    def _named_changed(self, event: CacheEvent) -> None:
        """A revision, secret or config: for the nodes that may need it. These are rare."""
        id = f"{event.item.namespace}/{event.item.name}"
        for stream in self._streams.values():
            if event.kind is REVISION:
                concerned = id in stream.live
            else:
                concerned = any(id in self._names(revision) for revision in stream.wanted)
            if concerned:
                stream.needs_changed = True
                stream.there.set()

    def _names(self, revision: str) -> set[str]:
        """The secrets and configs that a revision names, as namespace/name."""
        item = self._item(REVISION, revision)
        if item is None:
            return set()
        template = item.obj.spec.template
        names = {mount.name for mount in template.configs} | secret_names(template)
        return {f"{item.namespace}/{name}" for name in names}

    def _versions(self, revision: str) -> Iterator[tuple[str, Item, int]]:
        """The versions of secrets that a revision's tasks need: their ids, secrets and numbers."""
        item = self._item(REVISION, revision)
        if item is None:
            return
        spec: RevisionSpec = item.obj.spec
        pinned, followed = pinned_secrets(spec.template), followed_secrets(spec.template)
        for name in pinned | followed:
            secret = self._cache.get(SECRET, item.namespace, name)
            if secret is None or not secret.obj.status.version:  # not, or not wholly, there yet
                continue
            status: SecretStatus = secret.obj.status
            needed = {spec.version_of(name, status.oldest)} if name in pinned else set()
            if name in followed:
                needed.add(status.version)
            for version in needed:
                yield f"{item.namespace}/{name}@{version}", secret, version

    def _configs(self, revision: str) -> Iterator[tuple[str, Item]]:
        item = self._item(REVISION, revision)
        if item is None:
            return
        for mount in item.obj.spec.template.configs:
            id = f"{item.namespace}/{mount.name}"
            config = self._item(CONFIG, id)
            if config is not None:
                yield id, config

    # What a node needs

    async def _parts(self, stream: NodeStream) -> dict[str, bytes]:
        """Fields of a line that bring revisions, secrets and configs up to date."""
        parts: dict[str, bytes] = {}
        self._add_revisions(stream, parts)
        await self._add_secrets(stream, parts)
        self._add_configs(stream, parts)
        self._add_awaited(stream, parts)
        return parts

    def _add_revisions(self, stream: NodeStream, parts: dict[str, bytes]) -> None:
        there = {id: item for id in stream.live if (item := self._item(REVISION, id)) is not None}
        marks = {id: item.revision for id, item in there.items()}
        news, removed = _difference(stream.told["revisions"], marks)
        _add(parts, "revisions", [there[id].served() for id in news], removed)

    async def _add_secrets(self, stream: NodeStream, parts: dict[str, bytes]) -> None:
        found = (each for revision in stream.wanted for each in self._versions(revision))
        there = {id: (item, version) for id, item, version in found}
        # A version's bytes never change, but a secret may be deleted and made anew.
        marks = {id: there[id][0].created for id in sorted(there)}
        news, removed = _difference(stream.told["secrets"], marks)
        said = []
        for item, version in (there[id] for id in news):
            try:
                payload = await self._payloads.get(item, version)
            except Unreadable as error:  # the tasks that name it wait; the others go on
                _log.error("a secret can't be delivered", secret=item.name, error=str(error))
                continue
            if payload is None:  # gone since, of which the cache is about to hear; or not kept
                continue
            delivery = Delivery(
                namespace=item.namespace,
                name=item.name,
                version=version,
                oldest=item.obj.status.oldest,
                data=payload.data,
            )
            said.append(_encode(delivery))
        _add(parts, "secrets", said, removed)

    def _add_configs(self, stream: NodeStream, parts: dict[str, bytes]) -> None:
        there = {id: item for revision in stream.wanted for id, item in self._configs(revision)}
        marks = {id: there[id].revision for id in sorted(there)}
        news, removed = _difference(stream.told["configs"], marks)
        said = []
        for item in (there[id] for id in news):
            data = config_bytes(item.obj)
            said.append(_encode(Delivery(namespace=item.namespace, name=item.name, data=data)))
        _add(parts, "configs", said, removed)

    def _add_awaited(self, stream: NodeStream, parts: dict[str, bytes]) -> None:
        """Why secrets that are there, but have no values yet, have none."""
        awaited: dict[str, str] = {}
        for id in stream.wanted:
            revision = self._item(REVISION, id)
            for name in secret_names(revision.obj.spec.template) if revision is not None else ():
                secret = self._item(SECRET, f"{id.partition('/')[0]}/{name}")
                if secret is not None and not secret.obj.status.version:
                    awaited[f"{secret.namespace}/{name}"] = made.not_yet(secret.obj)
        if awaited != stream.awaited:
            stream.awaited = awaited
            parts["awaited"] = _encode(awaited)

    def _item(self, kind: Kind, id: str) -> Item | None:
        namespace, _, name = id.partition("/")
        return self._cache.get(kind, namespace, name)


def _needs_of(item: Item) -> _Needs:
    task: Task = item.obj
    if not task.live:
        return _Needs("", False)
    return _Needs(f"{item.namespace}/{task.spec.revision}", task.wanted)


def _is_news(event: CacheEvent) -> bool:
    """Whether the agent must hear of it: not of its own reports."""
    if event.old is None:
        return True
    old: Task = event.old.obj
    new: Task = event.item.obj
    if old.spec != new.spec or new.status.state == TaskState.ORPHANED:
        return True
    before, after = old.metadata, new.metadata
    return (
        before.labels != after.labels
        or before.annotations != after.annotations
        or before.deletion_timestamp != after.deletion_timestamp
    )


def _difference(told: dict[str, int], there: dict[str, int]) -> tuple[list[str], list[str]]:
    """What to tell of what is there, by id with a mark that is another when it is to be told anew,
    and what to take back; `told` is brought up to date."""
    news = [id for id, mark in there.items() if told.get(id) != mark]
    removed = [id for id in told if id not in there]
    for id in removed:
        del told[id]
    told.update({id: there[id] for id in news})
    return news, removed


def _add(parts: dict[str, bytes], field: str, said: list[bytes], removed: list[str]) -> None:
    if said:
        parts[field] = b"[%b]" % b",".join(said)
    if removed:
        parts[f"removed{field.capitalize()}"] = _encode(removed)


def _line(
    type: str, tasks: Sequence[bytes], removed: Sequence[str], parts: dict[str, bytes]
) -> bytes:
    fields = [b'"type":"%b"' % type.encode()]
    if tasks:
        fields.append(b'"tasks":[%b]' % b",".join(tasks))
    if removed:
        fields.append(b'"removedTasks":%b' % _encode(removed))
    fields += [b'"%b":%b' % (name.encode(), value) for name, value in parts.items()]
    return b"{%b}\n" % b",".join(fields)


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value)
