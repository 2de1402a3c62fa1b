"""The watch cache over a memory store: state, indexes, events, history, sessions, relisting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from api.store import keys
from api.store.cache import Cache, CacheEvent
from api.store.contract import Compacted, Store, Write
from api.store.indexes import standard
from api.store.memory import MemoryStore
from api.types import codec
from api.types.kinds import NODE, SECRET, SERVICE, TASK
from api.types.meta import Metadata
from api.types.node import Node
from api.types.service import Service, ServiceSpec
from api.types.task import Task, TaskSpec, TaskState, TaskStatus
from api.types.template import ConfigMount, SecretMount, TaskTemplate


@asynccontextmanager
async def running(store: Store, cache: Cache | None = None) -> AsyncIterator[Cache]:
    if cache is None:
        cache = Cache(store)
        standard(cache)
    run = asyncio.ensure_future(cache.run())
    try:
        async with asyncio.timeout(30):
            await cache.synced()
        yield cache
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


class Recorder:
    def __init__(self) -> None:
        self.events: list[CacheEvent] = []
        self.batches = 0

    def __call__(self, events: Sequence[CacheEvent]) -> None:
        self.events += events
        self.batches += 1

    @property
    def lines(self) -> list[str]:
        return [f"{event.type} {event.item.name}" for event in self.events]


def task(name: str, *, service: str = "web", node: str = "", state: str = "Pending") -> Write:
    obj = Task(
        metadata=Metadata(name=name, namespace="default", uid=f"uid-{name}"),
        spec=TaskSpec(service=service, revision=f"{service}-1", node=node),
        status=TaskStatus(state=TaskState(state)),
    )
    return Write(keys.object_key(TASK, "default", name), codec.encode(obj))


def gone(name: str) -> Write:
    return Write(keys.object_key(TASK, "default", name), None)


async def seen(store: Store, cache: Cache, *writes: Write) -> int:
    revision = await store.commit(writes)
    async with asyncio.timeout(30):
        await cache.caught_up(revision)
    return revision


async def test_it_holds_what_was_there_before_and_what_comes(memory: MemoryStore) -> None:
    await memory.commit([task("a"), task("b")])
    async with running(memory) as cache:
        assert sorted(item.name for item in cache.items(TASK)) == ["a", "b"]
        at = await seen(memory, cache, task("a", node="n1"), gone("b"))
        found = cache.get(TASK, "default", "a")
        assert found is not None
        assert found.obj.spec.node == "n1"
        assert found.obj.metadata.resource_version == str(at) == str(found.revision)
        assert cache.get(TASK, "default", "b") is None
        assert cache.get(TASK, "other", "a") is None
        assert cache.revision == at
        assert msgspec.json.decode(found.served())["metadata"]["resourceVersion"] == str(at)


async def test_namespaces_are_apart_and_lists_are_in_order(memory: MemoryStore) -> None:
    def in_namespace(namespace: str, name: str) -> Write:
        obj = Service(
            metadata=Metadata(name=name, namespace=namespace),
            spec=ServiceSpec(template=TaskTemplate(image="busybox")),
        )
        return Write(keys.object_key(SERVICE, namespace, name), codec.encode(obj))

    async with running(memory) as cache:
        names = [("b", "1"), ("a", "2"), ("a", "1"), ("ab", "1"), ("a-b", "1")]
        await seen(memory, cache, *(in_namespace(*name) for name in names))
        listed = [(i.namespace, i.name) for i in cache.sorted_items(SERVICE)]
        assert listed == [("a-b", "1"), ("a", "1"), ("a", "2"), ("ab", "1"), ("b", "1")]
        assert [i.name for i in cache.sorted_items(SERVICE, "a")] == ["1", "2"]
        assert {i.name for i in cache.items(SERVICE, "a")} == {"1", "2"}
        first = cache.sorted_items(SERVICE, limit=2)
        rest = cache.sorted_items(SERVICE, after=first[-1].key)
        assert [(i.namespace, i.name) for i in first + rest] == listed
        await seen(memory, cache, in_namespace("a", "0"))
        assert [i.name for i in cache.sorted_items(SERVICE, "a")] == ["0", "1", "2"]
        assert cache.items(NODE) == []


async def test_objects_without_a_namespace(memory: MemoryStore) -> None:
    async with running(memory) as cache:
        node = Node(metadata=Metadata(name="n1"))
        await seen(memory, cache, Write(keys.object_key(NODE, "", "n1"), codec.encode(node)))
        found = cache.get(NODE, "", "n1")
        assert found is not None
        assert found.namespace == ""
        assert cache.sorted_items(NODE) == [found]


async def test_indexes_follow_changes(memory: MemoryStore) -> None:
    async with running(memory) as cache:
        await seen(memory, cache, task("a"), task("b"), task("c", service="db"))
        assert {i.name for i in cache.by(TASK, "service", "default/web")} == {"a", "b"}
        assert {i.name for i in cache.by(TASK, "revision", "default/db-1")} == {"c"}
        assert cache.by(TASK, "node", "n1") == []
        await seen(memory, cache, task("a", node="n1", state="Assigned"), gone("b"))
        assert [i.obj.spec.node for i in cache.by(TASK, "node", "n1")] == ["n1"]
        assert {i.name for i in cache.by(TASK, "service", "default/web")} == {"a"}
        assert {i.name for i in cache.by(TASK, "state", "Assigned")} == {"a"}
        assert cache.count(TASK, "state", "Pending") == 1
        assert set(cache.by_values(TASK, "state")) == {"Assigned", "Pending"}
        await seen(memory, cache, gone("a"), gone("c"))
        assert list(cache.by_values(TASK, "service")) == []
        assert list(cache.by_values(TASK, "node")) == []


async def test_services_are_found_by_what_they_name(memory: MemoryStore) -> None:
    def service(*secrets: str) -> Write:
        template = TaskTemplate(
            image="busybox",
            secrets=[SecretMount(name=name) for name in secrets],
            configs=[ConfigMount(name="settings")],
        )
        obj = Service(
            metadata=Metadata(name="web", namespace="default"), spec=ServiceSpec(template=template)
        )
        return Write(keys.object_key(SERVICE, "default", "web"), codec.encode(obj))

    async with running(memory) as cache:
        await seen(memory, cache, service("one", "two", "one"))
        assert len(cache.by(SERVICE, "secret", "default/one")) == 1
        assert len(cache.by(SERVICE, "config", "default/settings")) == 1
        await seen(memory, cache, service("two", "three"))
        assert cache.by(SERVICE, "secret", "default/one") == []
        assert len(cache.by(SERVICE, "secret", "default/two")) == 1
        assert len(cache.by(SERVICE, "secret", "default/three")) == 1
        await seen(memory, cache, Write(keys.object_key(SERVICE, "default", "web"), None))
        assert list(cache.by_values(SERVICE, "secret")) == []


async def test_an_index_must_come_before_the_objects(memory: MemoryStore) -> None:
    await memory.commit([task("a")])
    async with running(memory) as cache:
        with pytest.raises(ValueError, match="late"):
            cache.add_index(TASK, "late", lambda task: task.metadata.name)


async def test_listeners_hear_of_changes_in_order(memory: MemoryStore) -> None:
    await memory.commit([task("a")])
    cache = Cache(memory)
    early, late, nodes = Recorder(), Recorder(), Recorder()
    cache.listen(early)
    cache.listen(nodes, kinds={NODE})
    async with running(memory, cache):
        stop = cache.listen(late, kinds={TASK, SERVICE})
        await seen(memory, cache, task("a", node="n1"))
        await seen(memory, cache, task("b"), gone("a"))
        assert early.lines == ["ADDED a", "MODIFIED a", "ADDED b", "DELETED a"]
        assert late.lines == early.lines[1:]
        assert nodes.batches == 0
        stop()
        await seen(memory, cache, task("c"))
        assert late.lines == early.lines[1:4]
        modified, deleted = early.events[1], early.events[3]
        assert modified.old is early.events[0].item
        assert deleted.item.obj.spec.node == "n1"
        assert deleted.item.revision == deleted.revision > modified.revision


async def test_a_listener_that_fails_harms_nobody(memory: MemoryStore) -> None:
    async with running(memory) as cache:
        recorder = Recorder()

        def fail(events: Sequence[CacheEvent]) -> None:
            raise RuntimeError("as the test wants it")

        cache.listen(fail)
        cache.listen(recorder)
        await seen(memory, cache, task("a"))
        await seen(memory, cache, task("b"))
        assert recorder.lines == ["ADDED a", "ADDED b"]


async def test_history_is_kept_for_those_who_come_back(memory: MemoryStore) -> None:
    await memory.commit([task("a")])
    cache = Cache(memory, history=9)  # odd, so that cutting it splits a commit of two
    async with running(memory, cache):
        start = cache.revision
        assert cache.oldest == start
        assert cache.since(start) == []
        with pytest.raises(Compacted):
            cache.since(start - 1)
        middle = await seen(memory, cache, task("b"), task("c"))
        await seen(memory, cache, gone("a"))
        assert [e.item.name for e in cache.since(start)] == ["b", "c", "a"]
        assert [e.item.name for e in cache.since(middle)] == ["a"]
        for n in range(30):
            await seen(memory, cache, task(f"x{n}"), task(f"y{n}"))
        with pytest.raises(Compacted) as caught:
            cache.since(start)
        kept = cache.since(caught.value.oldest)
        assert len(kept) >= 8
        revisions = [e.revision for e in kept]
        assert revisions[0] == caught.value.oldest + 1
        assert revisions[0::2] == revisions[1::2]


async def test_sessions_are_the_nodes_with_a_live_lease(memory: MemoryStore) -> None:
    heard: list[tuple[str, bool]] = []
    async with running(memory) as cache:
        cache.listen_sessions(lambda node, alive: heard.append((node, alive)))
        lease = await memory.grant(60)
        await seen(memory, cache, Write(keys.session_key("n1"), b"", lease=lease))
        await seen(memory, cache, Write(keys.session_key("n1"), b"again", lease=lease))
        assert cache.sessions == {"n1"}
        await memory.revoke(lease)
        await cache.caught_up(await memory.revision())
        assert cache.sessions == set()
        assert heard == [("n1", True), ("n1", False)]


async def test_what_cannot_be_read_stays_as_it_was(memory: MemoryStore) -> None:
    key = keys.object_key(TASK, "default", "a")
    strange = b'{"apiVersion":"skep.dev/v1","kind":"Task","metadata":{},"spec":{"slot":"x"}}'
    async with running(memory) as cache:
        recorder = Recorder()
        cache.listen(recorder)
        first = await seen(memory, cache, task("a", node="n1"))
        await seen(memory, cache, Write(key, strange), Write(f"{keys.OBJECTS}hives/-/x", b"{}"))
        found = cache.get(TASK, "default", "a")
        assert found is not None
        assert found.revision == first
        assert set(cache.unreadable) == {key, f"{keys.OBJECTS}hives/-/x"}
        await seen(memory, cache, task("a", node="n2"))
        assert key not in cache.unreadable
        assert recorder.lines == ["ADDED a", "MODIFIED a"]
        await seen(memory, cache, Write(keys.object_key(TASK, "default", "b"), strange))
        assert cache.get(TASK, "default", "b") is None
        await seen(memory, cache, Write(keys.object_key(TASK, "default", "b"), None))
        assert keys.object_key(TASK, "default", "b") not in cache.unreadable


async def test_payloads_of_secrets_are_not_kept(memory: MemoryStore) -> None:
    async with running(memory) as cache:
        await seen(memory, cache, Write(keys.payload_key("default", "s"), b"hunter2"))
        assert cache.items(SECRET) == []
        assert cache.since(cache.oldest) == []


async def test_relisting_after_compaction_tells_deletes(memory: MemoryStore) -> None:
    cache = Cache(memory)
    standard(cache)
    recorder = Recorder()
    cache.listen(recorder)
    heard: list[tuple[str, bool]] = []
    cache.listen_sessions(lambda node, alive: heard.append((node, alive)))
    session = keys.session_key
    async with running(memory, cache):
        before = await seen(
            memory, cache, task("stays"), task("goes"), task("moves"), task("anew"),
            Write(session("n1"), b""), Write(session("n2"), b""),
        )  # fmt: skip
    assert len(recorder.events) == 4
    # Nobody follows the store now; what happens is then compacted away.
    await memory.commit([gone("goes"), gone("anew"), task("moves", node="n1")])
    await memory.commit([task("anew"), task("comes"), Write(session("n1"), None)])
    last = await memory.commit([Write(session("n3"), b"")])
    await memory.compact(last)
    async with running(memory, cache):
        await cache.caught_up(last)
        lines = recorder.lines[4:]
        assert sorted(lines) == sorted(
            ["MODIFIED moves", "DELETED anew", "ADDED anew", "ADDED comes", "DELETED goes"]
        )
        assert lines.index("DELETED anew") < lines.index("ADDED anew")
        revisions = [event.revision for event in recorder.events[4:]]
        assert revisions == sorted(revisions)
        assert cache.since(before) == recorder.events[4:]
        assert {i.name for i in cache.by(TASK, "service", "default/web")} == {
            "stays", "moves", "anew", "comes",
        }  # fmt: skip
        assert [i.name for i in cache.by(TASK, "node", "n1")] == ["moves"]
        assert cache.sessions == {"n2", "n3"}
        assert heard[2:] == [("n1", False), ("n3", True)]


@pytest.mark.looptime
async def test_an_outage_is_waited_out() -> None:
    memory = MemoryStore()
    memory.cut()
    cache = Cache(memory)
    run = asyncio.ensure_future(cache.run())
    await asyncio.sleep(3_600)
    assert cache.items(TASK) == []
    memory.mend()
    await memory.commit([task("a")])
    async with asyncio.timeout(30):
        await cache.synced()
        await cache.caught_up(await memory.revision())
    assert [item.name for item in cache.items(TASK)] == ["a"]
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    await memory.close()
