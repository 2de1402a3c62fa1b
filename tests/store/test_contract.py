"""The store's contract, held by memory and by etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from api.store.contract import (
    ABSENT,
    Change,
    Compacted,
    Conflict,
    LeaseGone,
    Store,
    StoreError,
    TooLarge,
    Write,
)

A, B, C = "/t/a", "/t/b", "/t/c"


async def collect(watch: AsyncGenerator[list[Change], None], wanted: int) -> list[Change]:
    """The next `wanted` changes, and no more of them in the batches they came in."""
    got: list[Change] = []
    async with asyncio.timeout(30):
        while len(got) < wanted:
            got += await anext(watch)
    return got


async def test_a_key_is_put_read_and_deleted(store: Store) -> None:
    assert await store.get(A) is None
    first = await store.commit([Write(A, b"1")])
    second = await store.commit([Write(A, b"2")])
    found = await store.get(A)
    assert found == (A, b"2", second, first, 0)
    assert second > first
    assert await store.revision() == second
    third = await store.commit([Write(A, None)])
    assert third > second
    assert await store.get(A) is None


async def test_an_empty_value_is_a_value(store: Store) -> None:
    at = await store.commit([Write(A, b"")])
    assert await store.get(A) == (A, b"", at, at, 0)


async def test_a_key_made_again_is_a_new_one(store: Store) -> None:
    await store.commit([Write(A, b"1")])
    await store.commit([Write(A, None)])
    again = await store.commit([Write(A, b"2", expect=ABSENT)])
    found = await store.get(A)
    assert found is not None
    assert found.created == again


async def test_a_commit_is_all_or_nothing(store: Store) -> None:
    at = await store.commit([Write(A, b"1"), Write(B, b"1"), Write(C, b"1")])
    await store.commit([Write(B, b"2")])
    with pytest.raises(Conflict) as caught:
        await store.commit(
            [
                Write(A, b"3", expect=at),
                Write(B, b"3", expect=at),
                Write(C, None, expect=at),
                Write("/t/d", b"3", expect=at),
                Write("/t/e", b"3"),
            ]
        )
    assert set(caught.value.keys) == {B, "/t/d"}
    assert [item.value for item in (await store.list("/t/")).items] == [b"1", b"2", b"1"]


async def test_absent_means_the_key_must_not_exist(store: Store) -> None:
    at = await store.commit([Write(A, b"1", expect=ABSENT)])
    with pytest.raises(Conflict):
        await store.commit([Write(A, b"2", expect=ABSENT)])
    with pytest.raises(Conflict):
        await store.commit([Write(B, None, expect=at)])
    await store.commit([Write(A, None, expect=at)])
    await store.commit([Write(A, b"2", expect=ABSENT)])


async def test_deleting_what_is_not_there_changes_nothing(store: Store) -> None:
    at = await store.revision()
    assert await store.commit([Write(A, None)]) == at
    assert await store.commit([]) == at


async def test_a_commit_names_a_key_once(store: Store) -> None:
    with pytest.raises(ValueError, match="/t/a"):
        await store.commit([Write(A, b"1"), Write(A, b"2")])


async def test_a_commit_has_limits(store: Store) -> None:
    with pytest.raises(TooLarge):
        await store.commit([Write(f"/t/{n}", b"") for n in range(10_000)])
    with pytest.raises(TooLarge, match="/t/b"):
        await store.commit([Write(A, b""), Write(B, b"x" * 2_000_000)])
    assert await store.get(A) is None


async def test_a_value_of_a_megabyte_fits(store: Store) -> None:
    value = bytes(1_024_000)
    await store.commit([Write(A, value)])
    found = await store.get(A)
    assert found is not None
    assert found.value == value


async def test_many_writes_stand_each_for_itself(store: Store) -> None:
    at = await store.commit([Write(A, b"1"), Write(B, b"1")])
    newer = await store.commit([Write(B, b"2")])
    writes = [Write(f"/t/many/{n:04}", b"x", expect=ABSENT) for n in range(1_000)]
    writes[10:10] = [Write(A, b"3", expect=at)]
    writes[500:500] = [Write(B, b"3", expect=at), Write(C, None, expect=newer)]
    outcomes = await store.write(writes)
    assert len(outcomes) == len(writes)
    for write, outcome in zip(writes, outcomes, strict=True):
        if write.key in (B, C):
            assert isinstance(outcome, Conflict)
            assert outcome.keys == (write.key,)
        else:
            assert isinstance(outcome, int)
            found = await store.get(write.key) if write.key == A else None
            assert found is None or found.revision == outcome
    listed = await store.list("/t/many/")
    assert [(i.key, i.revision) for i in listed.items] == [
        (w.key, o) for w, o in zip(writes, outcomes, strict=True) if w.key.startswith("/t/many/")
    ]


async def test_many_writes_may_name_a_key_twice_and_keep_their_order(store: Store) -> None:
    outcomes = await store.write(
        [
            Write(A, b"1", expect=ABSENT),
            Write(B, b"1"),
            Write(A, b"2", expect=ABSENT),
            Write(B, b"2"),
            Write(B, b"3"),
        ]
    )
    assert isinstance(outcomes[2], Conflict)
    assert [i.value for i in (await store.list("/t/")).items] == [b"1", b"3"]
    assert outcomes[1] < outcomes[3] < outcomes[4]  # type: ignore[operator]


async def test_many_large_writes_are_cut_by_bytes(store: Store) -> None:
    outcomes = await store.write([Write(f"/t/{n:02}", bytes(400_000)) for n in range(20)])
    assert all(isinstance(outcome, int) for outcome in outcomes)
    assert len((await store.list("/t/")).items) == 20


async def test_a_write_that_is_too_large_stops_all_before_any_is_made(store: Store) -> None:
    writes = [Write(f"/t/{n:04}", b"x") for n in range(1_000)] + [Write(A, bytes(2_000_000))]
    with pytest.raises(TooLarge, match="/t/a"):
        await store.write(writes)
    assert (await store.list("/t/")).items == []


async def test_a_key_that_comes_and_goes_is_written_or_in_conflict(store: Store) -> None:
    """What refused a write may be undone by the time that somebody looks for it."""
    written = 0

    async def flicker() -> None:
        for _ in range(150):
            with suppress(Conflict):
                await store.commit([Write(A, b"there", expect=ABSENT)])
            await store.commit([Write(A, None)])

    async def together(number: int) -> None:
        nonlocal written
        for at in range(50):
            try:
                await store.commit(
                    [Write(A, b"x", ABSENT), Write(f"/t/{number}/{at}", b"x", ABSENT)]
                )
                written += 1
            except Conflict as error:
                assert error.keys == (A,)

    async def apart(number: int) -> None:
        nonlocal written
        for at in range(50):
            writes = [Write(A, b"x", ABSENT), Write(f"/t/{number}/{at}", b"x", ABSENT)]
            first, second = await store.write(writes)
            assert isinstance(first, int) or first.keys == (A,)
            assert isinstance(second, int)
            written += 1

    await asyncio.gather(flicker(), together(1), together(2), apart(3), apart(4))
    left = [item.key for item in (await store.list("/t/")).items if item.key != A]
    assert len(left) == written


async def test_no_writes_are_no_trouble(store: Store) -> None:
    assert await store.write([]) == []


async def test_a_list_is_one_moment_and_sorted(store: Store) -> None:
    await store.commit([Write("/t/b", b"b"), Write("/t/a/1", b"a1"), Write("/u", b"u")])
    at = await store.commit([Write("/t/a", b"a"), Write("/s", b"s")])
    page = await store.list("/t/")
    assert [item.key for item in page.items] == ["/t/a", "/t/a/1", "/t/b"]
    assert page.revision == at
    assert not page.more
    await store.commit([Write("/t/a", b"new"), Write("/t/b", None), Write("/t/c", b"c")])
    assert await store.list("/t/", revision=at) == page


async def test_a_list_in_pages(store: Store) -> None:
    await store.write([Write(f"/t/{n:02}", b"x") for n in range(10)])
    page = await store.list("/t/", limit=4)
    assert [item.key for item in page.items] == [f"/t/{n:02}" for n in range(4)]
    assert page.more
    await store.commit([Write("/t/05", None), Write("/t/99", b"new")])
    seen = [item.key for item in page.items]
    after = page
    while after.more:
        after = await store.list("/t/", after=after.items[-1].key, limit=4, revision=page.revision)
        seen += [item.key for item in after.items]
    assert seen == [f"/t/{n:02}" for n in range(10)]
    exact = await store.list("/t/", limit=10)
    assert not exact.more


async def test_a_list_of_nothing(store: Store) -> None:
    at = await store.revision()
    assert await store.list("/t/") == ([], at, False)


async def test_a_list_from_compacted_history_is_refused(store: Store) -> None:
    first = await store.commit([Write(A, b"1")])
    second = await store.commit([Write(A, b"2")])
    await store.compact(second)
    with pytest.raises(Compacted):
        await store.list("/t/", revision=first)
    assert [i.value for i in (await store.list("/t/", revision=second)).items] == [b"2"]
    with pytest.raises(StoreError):
        await store.list("/t/", revision=second + 100)


async def test_compacting_again_is_no_trouble(store: Store) -> None:
    at = await store.commit([Write(A, b"1")])
    await store.compact(at)
    await store.compact(at)
    with pytest.raises(StoreError):
        await store.compact(at + 100)


async def test_a_watch_tells_every_change_after_its_revision(store: Store) -> None:
    created = await store.commit([Write(A, b"0"), Write("/u", b"0")])
    one = await store.commit([Write(A, b"1"), Write("/u", b"1")])
    watch = store.watch("/t/", after=created)
    two = await store.commit([Write(A, None), Write(B, b"2")])
    got = await collect(watch, 3)
    assert got == [
        Change(A, b"1", one, created, 0),
        Change(A, None, two, 0, 0),
        Change(B, b"2", two, two, 0),
    ]
    three = await store.commit([Write(B, b"3")])
    assert await collect(watch, 1) == [Change(B, b"3", three, two, 0)]
    await watch.aclose()


async def test_a_watch_from_zero_tells_all(fresh_store: Store) -> None:
    await fresh_store.commit([Write(A, b"1")])
    await fresh_store.commit([Write(A, b"2")])
    watch = fresh_store.watch("/t/", after=0)
    assert [change.value for change in await collect(watch, 2)] == [b"1", b"2"]
    await watch.aclose()


async def test_a_watch_never_splits_a_commit(store: Store) -> None:
    after = await store.revision()
    watch = store.watch("/t/", after=after)
    big = [[Write(f"/t/{c}/{n:03}", bytes(5_000)) for n in range(200)] for c in range(12)]
    revisions = [await store.commit(writes) for writes in big]
    seen: list[int] = []
    async with asyncio.timeout(30):
        while len(seen) < len(big):
            batch = await anext(watch)
            for revision in sorted({change.revision for change in batch}):
                assert sum(change.revision == revision for change in batch) == 200
                seen.append(revision)
    assert seen == revisions
    await watch.aclose()


async def test_a_watch_that_fell_behind_compaction_says_so(store: Store) -> None:
    first = await store.commit([Write(A, b"1")])
    second = await store.commit([Write(A, b"2")])
    await store.commit([Write(A, b"3")])
    await store.compact(second)
    watch = store.watch("/t/", after=first)
    with pytest.raises(Compacted) as caught:
        await collect(watch, 1)
    assert caught.value.oldest == second
    watch = store.watch("/t/", after=second)
    assert [change.value for change in await collect(watch, 1)] == [b"3"]
    await watch.aclose()


async def test_a_delete_at_the_compacted_revision_is_never_missed(store: Store) -> None:
    before = await store.commit([Write(A, b"1")])
    deleted = await store.commit([Write(A, None)])
    await store.commit([Write(B, b"1")])
    await store.compact(deleted)
    watch = store.watch("/t/", after=before)
    with pytest.raises(Compacted):
        await collect(watch, 1)


async def test_a_watch_from_a_revision_that_never_was_is_refused(store: Store) -> None:
    # A store that was set back to a backup: what the watcher knows did not happen.
    watch = store.watch("/t/", after=await store.revision() + 1_000)
    with pytest.raises(Compacted):
        await collect(watch, 1)


async def test_many_watches_see_the_same(store: Store) -> None:
    after = await store.revision()
    watches = [store.watch("/t/", after=after) for _ in range(10)]
    await store.write([Write(f"/t/{n:03}", b"x") for n in range(300)])
    seen = await asyncio.gather(*(collect(watch, 300) for watch in watches))
    assert all(one == seen[0] for one in seen)
    for watch in watches:
        await watch.aclose()


async def test_a_watch_is_closed_while_it_waits(store: Store) -> None:
    watch = store.watch("/t/", after=await store.revision())
    waiting = asyncio.ensure_future(collect(watch, 1))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await watch.aclose()


async def test_counting_up_together_loses_nothing(store: Store) -> None:
    await store.commit([Write(A, b"0")])

    async def count_up(times: int) -> None:
        for _ in range(times):
            while True:
                found = await store.get(A)
                assert found is not None
                value = str(int(found.value) + 1).encode()
                try:
                    await store.commit([Write(A, value, expect=found.revision)])
                except Conflict:
                    continue
                break

    await asyncio.gather(*(count_up(10) for _ in range(20)))
    found = await store.get(A)
    assert found is not None
    assert found.value == b"200"


async def test_a_conflict_storm_of_many_writes(store: Store) -> None:
    counters = [f"/t/{n:02}" for n in range(30)]
    await store.write([Write(key, b"0") for key in counters])

    async def count_up_all() -> None:
        missing = set(counters)
        while missing:
            now = {item.key: item for item in (await store.list("/t/")).items}
            writes = [
                Write(key, str(int(now[key].value) + 1).encode(), expect=now[key].revision)
                for key in sorted(missing)
            ]
            for write, outcome in zip(writes, await store.write(writes), strict=True):
                if not isinstance(outcome, Conflict):
                    missing.discard(write.key)

    await asyncio.gather(*(count_up_all() for _ in range(12)))
    assert {item.value for item in (await store.list("/t/")).items} == {b"12"}


async def test_a_revoked_lease_takes_its_keys(store: Store) -> None:
    after = await store.revision()
    watch = store.watch("/t/", after=after)
    lease = await store.grant(60)
    await store.commit([Write(A, b"1", lease=lease), Write(B, b"1", lease=lease)])
    await store.commit([Write(C, b"1")])
    found = await store.get(A)
    assert found is not None
    assert found.lease == lease
    await store.keep_alive(lease)
    await store.commit([Write(B, b"2")])  # off the lease
    await store.revoke(lease)
    assert [item.key for item in (await store.list("/t/")).items] == [B, C]
    changes = await collect(watch, 5)
    assert changes[-1][:2] == (A, None)
    with pytest.raises(LeaseGone):
        await store.keep_alive(lease)
    with pytest.raises(LeaseGone):
        await store.commit([Write(A, b"1", lease=lease)])
    await store.revoke(lease)
    await watch.aclose()


async def test_keys_may_be_any_text(store: Store) -> None:
    names = ["/t/ü", "/t/日本", "/t/z", "/t/\U0001f41d", "/t/a b"]
    await store.commit([Write(key, key.encode()) for key in names])
    listed = await store.list("/t/")
    assert [item.key for item in listed.items] == sorted(names)
    assert [item.value.decode() for item in listed.items] == sorted(names)


async def test_more_than_ten_thousand_keys_and_four_megabytes(store: Store) -> None:
    wanted = [f"/t/{n:06}" for n in range(12_000)]
    outcomes = await store.write([Write(key, bytes(600)) for key in wanted])
    assert not any(isinstance(outcome, Conflict) for outcome in outcomes)
    page = await store.list("/t/")
    assert [item.key for item in page.items] == wanted
    assert not page.more
    page = await store.list("/t/", limit=11_000)
    assert len(page.items) == 11_000
    assert page.more
