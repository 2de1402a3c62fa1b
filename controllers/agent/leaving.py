"""What comes between no traffic and the stop signal: a wait, and a command in the container.

An agent that is killed in between begins anew: the wait is waited again, the command run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from api.types.quantity import parse_duration
from api.types.template import TaskTemplate
from controllers.agent.checks import run
from controllers.agent.drivers.contract import Driver, DriverError, EngineDown, Outcome

log = structlog.get_logger("skep.agent")


async def leave(
    driver: Driver, uid: str, template: TaskTemplate, grace: float, say: Callable[[str], None]
) -> tuple[float, str]:
    """Returns the seconds of `grace` that are left for the signal, half of them at least, and how
    the command failed, if it did. Raises EngineDown, ValueError for a duration that can't be read.
    """
    if delay := parse_duration(template.stop_delay):
        say(f"leaving: it gets no traffic, and {delay:g} s to finish what it has")
        await asyncio.sleep(delay)
    if not template.pre_stop:
        return grace, ""
    say(f"leaving: runs its preStop command, for {grace / 2:g} s at most")
    began = asyncio.get_running_loop().time()
    try:
        outcome = await run(driver, uid, template.pre_stop, grace / 2)
    except EngineDown:
        raise
    except DriverError as error:  # it has ended meanwhile, or there is no such command
        outcome = Outcome(False, str(error))
    if not outcome.passed:
        log.warning("preStop failed; stopping all the same", task=uid, why=outcome.output)
    left = max(grace / 2, grace - (asyncio.get_running_loop().time() - began))
    return left, "" if outcome.passed else f"its preStop command failed: {outcome.output}"
