"""The bell: many rings are one, what comes first does not wait, what follows comes together."""

from __future__ import annotations

import asyncio

import pytest

from controllers.reconcile.wake import Wake

pytestmark = pytest.mark.looptime


async def test_rings_that_come_while_it_collects_are_one() -> None:
    wake = Wake()
    loop = asyncio.get_running_loop()
    wake.ring()
    loop.call_later(0.5, wake.ring)
    await wake.wait(collect=1.0)
    assert loop.time() == pytest.approx(1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await wake.wait()


async def test_only_what_is_not_the_first_waits_for_more() -> None:
    wake = Wake()
    loop = asyncio.get_running_loop()
    wake.ring()
    await wake.wait(apart=1.0)
    assert loop.time() == pytest.approx(0.0)
    wake.ring()
    await wake.wait(apart=1.0)
    assert loop.time() == pytest.approx(1.0)
    await asyncio.sleep(5)
    wake.ring()
    await wake.wait(apart=1.0)
    assert loop.time() == pytest.approx(6.0)
