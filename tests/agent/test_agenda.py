"""The simulation's clock, on the loop that agents run on."""

from __future__ import annotations

import asyncio

import pytest

from controllers.agent.drivers.simulation.agenda import Agenda

uvloop = pytest.importorskip("uvloop")  # for Linux alone


def test_what_is_due_at_once_and_what_comes_later_both_happen() -> None:
    happened: list[int] = []

    async def story() -> None:
        agenda = Agenda()
        for number in range(3):
            agenda.at(0, lambda number=number: happened.append(number))  # type: ignore[misc]
        agenda.at(-1, lambda: happened.append(3))
        await agenda.sleep(0.01)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(story(), 10))
    assert sorted(happened) == [0, 1, 2, 3]
