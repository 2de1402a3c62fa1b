"""A share of a core: work and rest of many, added up."""

from __future__ import annotations

import asyncio

import pytest

from controllers.reconcile.share import Share

pytestmark = pytest.mark.looptime


async def test_one_alone_rests_for_its_own_work() -> None:
    share = Share(0.1)
    assert share.rest(0.002) == pytest.approx(0.02)
    await asyncio.sleep(0.02)
    assert share.rest(0.002) == pytest.approx(0.02)


async def test_what_others_worked_is_rested_for_too() -> None:
    share = Share(0.1)
    rests = [share.rest(0.002) for _ in range(50)]
    assert rests == [pytest.approx(0.02 * nth) for nth in range(1, 51)]
    await asyncio.sleep(1.0)
    assert share.rest(0.002) == pytest.approx(0.02)


async def test_together_they_keep_to_it_whatever_each_costs() -> None:
    share = Share(0.04)
    loop = asyncio.get_running_loop()
    worked = 0.0

    async def work(cost: float) -> None:
        nonlocal worked
        while True:
            worked += cost
            await asyncio.sleep(share.rest(cost))

    workers = [asyncio.create_task(work(cost)) for cost in (0.0001, 0.002, 0.04) for _ in range(7)]
    begun = loop.time()
    await asyncio.sleep(100)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert worked / (loop.time() - begun) == pytest.approx(0.04, rel=0.1)
