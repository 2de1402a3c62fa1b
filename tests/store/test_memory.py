"""What the memory store has beyond the contract: virtual time, outages, bounded history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.store.contract import (
    ABSENT,
    ANY,
    Change,
    Compacted,
    Conflict,
    KeyValue,
    LeaseGone,
    Unavailable,
    Write,
)
from api.store.memory import MemoryStore

A, B = "/t/a", "/t/b"


@pytest.mark.looptime
async def test_a_lease_expires_unless_it_is_kept_alive() -> None:
    store = MemoryStore()
    kept, left = await store.grant(15), await store.grant(15)
    await store.commit([Write(A, b"", lease=kept), Write(B, b"", lease=left)])
    for _ in range(10):
        await asyncio.sleep(5)
        await store.keep_alive(kept)
    assert [item.key for item in (await store.list("/t/")).items] == [A]
    with pytest.raises(LeaseGone):
        await store.keep_alive(left)
    await asyncio.sleep(14)
    assert await store.get(A) is not None
    await asyncio.sleep(2)
    assert await store.get(A) is None
    await store.close()


@pytest.mark.looptime
async def test_a_watch_hears_of_expiry() -> None:
    store = MemoryStore()
    lease = await store.grant(3_600)
    at = await store.commit([Write(A, b"", lease=lease), Write(B, b"", lease=lease)])
    watch = store.watch("/t/", after=at)
    changes = await anext(watch)
    assert asyncio.get_running_loop().time() >= 3_600
    assert [(change.key, change.value) for change in changes] == [(A, None), (B, None)]
    assert len({change.revision for change in changes}) == 1
    await watch.aclose()
    await store.close()


async def test_while_cut_off_it_answers_nothing(memory: MemoryStore) -> None:
    at = await memory.commit([Write(A, b"1")])
    watch = memory.watch("/t/", after=at)
    memory.cut()
    with pytest.raises(Unavailable):
        await memory.get(A)
    with pytest.raises(Unavailable):
        await memory.commit([Write(A, b"2")])
    coming = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    memory.mend()
    await memory.commit([Write(A, b"3")])
    assert [change.value for change in await coming] == [b"3"]
    await watch.aclose()


async def test_watches_end_with_the_store() -> None:
    store = MemoryStore()
    watch = store.watch("/t/", after=await store.revision())
    coming = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(Unavailable):
        await coming


async def test_history_can_be_bounded() -> None:
    store = MemoryStore(history=10)
    for n in range(100):
        await store.commit([Write(A, str(n).encode()), Write(f"/t/{n}", b"x")])
    with pytest.raises(Compacted) as caught:
        await anext(store.watch("/t/", after=1))
    kept = caught.value.oldest
    assert await store.revision() - kept >= 10
    assert len(await anext(store.watch("/t/", after=kept))) == 2 * (await store.revision() - kept)
    assert len((await store.list("/t/")).items) == 101
    await store.close()


# Against a model: a dict of all keys after each revision.

KEYS = ["/t/a", "/t/a/b", "/t/b", "/u"]
Step = tuple[str, list[tuple[str, bytes | None, int]]]
WRITES = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.one_of(st.none(), st.binary(max_size=2)),
        st.sampled_from([ANY, ABSENT, 1, 2, 3]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda write: write[0],
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["commit", "commit", "write", "compact"]), WRITES), max_size=30
)


class Model:
    def __init__(self) -> None:
        self.now: dict[str, KeyValue] = {}
        self.at: dict[int, dict[str, KeyValue]] = {1: {}}
        self.changes: list[Change] = []
        self.revision = 1
        self.compacted = 0

    def expected(self, write: Write) -> bool:
        now = self.now.get(write.key)
        return write.expect in (ANY, now.revision if now else ABSENT)

    def commit(self, writes: Sequence[Write]) -> int:
        revision = self.revision + 1
        changes = []
        for key, value, _, _ in writes:
            old = self.now.get(key)
            if value is not None:
                created = old.created if old else revision
                self.now[key] = KeyValue(key, value, revision, created, 0)
                changes.append(Change(key, value, revision, created, 0))
            elif old:
                del self.now[key]
                changes.append(Change(key, None, revision, 0, 0))
        if changes:
            self.revision = revision
            self.at[revision] = dict(self.now)
            self.changes += changes
        return self.revision


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_it_is_what_the_model_says(steps: list[Step]) -> None:
    asyncio.run(_run_beside_a_model(steps))


async def _run_beside_a_model(steps: list[Step]) -> None:
    store, model = MemoryStore(max_ops=3), Model()
    for verb, raw in steps:
        # Revisions are drawn as "the n-th last change", so that compares hold now and then.
        writes = [Write(k, v, e if e <= 0 else _recent(model, k, e)) for k, v, e in raw]
        if verb == "commit":
            await _commit(store, model, writes[:3])
        elif verb == "write":
            await _write(store, model, writes)
        else:
            model.compacted = max(model.compacted, model.revision - len(raw))
            await store.compact(model.compacted)
    for revision in range(1, model.revision + 1):
        if revision < model.compacted:
            with pytest.raises(Compacted):
                await store.list("/t/", revision=revision)
            with pytest.raises(Compacted):
                await anext(store.watch("", after=revision))
            continue
        wanted = [model.at[revision][k] for k in sorted(model.at[revision]) if "/t/" in k]
        assert (await store.list("/t/", revision=revision)).items == wanted
        rest = [change for change in model.changes if change.revision > revision]
        if rest:
            assert await anext(store.watch("", after=revision)) == rest
    await store.close()


async def _commit(store: MemoryStore, model: Model, writes: list[Write]) -> None:
    bad = [write.key for write in writes if not model.expected(write)]
    if bad:
        with pytest.raises(Conflict) as caught:
            await store.commit(writes)
        assert list(caught.value.keys) == bad
    else:
        assert await store.commit(writes) == model.commit(writes)


async def _write(store: MemoryStore, model: Model, writes: list[Write]) -> None:
    outcomes = await store.write(writes)
    for first in range(0, len(writes), 3):
        group = writes[first : first + 3]
        good = [write for write in group if model.expected(write)]
        revision = model.commit(good)
        for write, outcome in zip(group, outcomes[first : first + 3], strict=True):
            assert outcome == revision if write in good else isinstance(outcome, Conflict)


def _recent(model: Model, key: str, nth: int) -> int:
    found = [change.revision for change in model.changes if change.key == key]
    return found[-nth] if len(found) >= nth else 10_000
