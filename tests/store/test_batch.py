"""The writer: many callers, few commits, each its own outcome."""

from __future__ import annotations

import asyncio

import pytest

from api.store.batch import Writer
from api.store.contract import ABSENT, Conflict, LeaseGone, TooLarge, Unavailable, Write
from api.store.memory import MemoryStore

A, B = "/t/a", "/t/b"


async def test_writes_of_many_callers_share_a_commit(memory: MemoryStore) -> None:
    writer = Writer(memory)
    before = await memory.revision()
    revisions = await asyncio.gather(*(writer.write(Write(f"/t/{n}", b"")) for n in range(200)))
    assert set(revisions) == {before + 1}
    await writer.close()


async def test_each_caller_has_its_own_outcome(memory: MemoryStore) -> None:
    writer = Writer(memory)
    await writer.write(Write(A, b"1", expect=ABSENT))
    first, second, third = await asyncio.gather(
        writer.write(Write(A, b"2", expect=ABSENT)),
        writer.write(Write(B, b"1", expect=ABSENT)),
        writer.write_all([Write("/t/c", b""), Write(A, b"3", expect=99), Write("/t/d", b"")]),
        return_exceptions=True,
    )
    assert isinstance(first, Conflict)
    assert isinstance(second, int)
    assert isinstance(third, list)
    assert [type(outcome) for outcome in third] == [int, Conflict, int]
    await writer.close()


async def test_two_callers_of_one_key_are_served_in_turn(memory: MemoryStore) -> None:
    writer = Writer(memory)
    outcomes = await asyncio.gather(
        *(writer.write(Write(A, b"", expect=ABSENT)) for _ in range(5)), return_exceptions=True
    )
    assert [isinstance(outcome, Conflict) for outcome in outcomes] == [False] + 4 * [True]
    await writer.close()


async def test_one_callers_error_is_not_the_others(memory: MemoryStore) -> None:
    writer = Writer(memory)
    lease = await memory.grant(60)
    await memory.revoke(lease)
    good, large, leased = await asyncio.gather(
        writer.write(Write(A, b"")),
        writer.write(Write(B, bytes(2_000_000))),
        writer.write(Write("/t/c", b"", lease=lease)),
        return_exceptions=True,
    )
    assert isinstance(good, int)
    assert isinstance(large, TooLarge)
    assert isinstance(leased, LeaseGone)
    await writer.close()


async def test_leases_are_kept_apart_and_put_together_again(memory: MemoryStore) -> None:
    writer = Writer(memory)
    lease = await memory.grant(60)
    outcomes = await writer.write_all(
        [Write(A, b""), Write(B, b"", lease=lease), Write("/t/c", b"", expect=7)]
    )
    assert [type(outcome) for outcome in outcomes] == [int, int, Conflict]
    found = await memory.get(B)
    assert found is not None
    assert found.lease == lease
    await writer.close()


async def test_an_outage_reaches_every_caller(memory: MemoryStore) -> None:
    writer = Writer(memory)
    memory.cut()
    outcomes = await asyncio.gather(
        *(writer.write(Write(f"/t/{n}", b"")) for n in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == 3 * [Unavailable]
    await writer.close()


async def test_closing_sends_what_waits(memory: MemoryStore) -> None:
    writer = Writer(memory, linger=3_600)
    waiting = asyncio.ensure_future(writer.write(Write(A, b"")))
    await asyncio.sleep(0)
    await writer.close()
    assert isinstance(await waiting, int)
    with pytest.raises(Unavailable):
        await writer.write(Write(A, b""))


async def test_a_full_batch_does_not_wait(memory: MemoryStore) -> None:
    writer = Writer(memory, linger=3_600)
    outcomes = await writer.write_all([Write(f"/t/{n}", b"") for n in range(3_000)])
    assert len(outcomes) == 3_000
    await writer.close()


async def test_a_caller_that_gives_up_harms_nobody(memory: MemoryStore) -> None:
    writer = Writer(memory)
    gone = asyncio.ensure_future(writer.write(Write(A, b"")))
    stays = asyncio.ensure_future(writer.write(Write(B, b"")))
    await asyncio.sleep(0)
    gone.cancel()
    assert isinstance(await stays, int)
    await writer.close()
