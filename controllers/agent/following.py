"""New versions of secrets for containers that run: first the file, then a signal or a command.

What a container has is in its task's status, and is written there last. So an agent that was killed
anywhere in between does again what it may not have done: the file is compared, and the signal or
the command comes once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from api.rendering import delivered
from api.types.task import TaskStatus
from api.types.template import OnChange, TaskTemplate
from controllers.agent.checks import run
from controllers.agent.drivers.contract import Driver, DriverError, EngineDown
from controllers.agent.environment import Told
from controllers.agent.files import Scope, Trouble

if TYPE_CHECKING:
    from controllers.agent.materials import Materials

COMMAND_SECONDS = 60.0


class Unfinished(Exception):
    """It is to be tried again. The text is for people, and holds nothing of what a command said:
    that may be the secret."""


def changed(
    scope: Scope, template: TaskTemplate, status: TaskStatus, materials: Materials
) -> set[str]:
    """The secrets of which a running container is to get another version."""
    followed = {mount.name for mount in delivered(template) if mount.swapped}
    if not followed:
        return set()
    newest = materials.versions(scope, template)
    return {name for name in followed & newest.keys() if status.secrets.get(name) != newest[name]}


async def follow(
    uid: str, scope: Scope, told: Told, template: TaskTemplate, names: set[str], driver: Driver,
    materials: Materials,
) -> dict[str, int]:  # fmt: skip
    """Bring these secrets to the newest versions, which are returned when all that was to follow
    was done. Raises Unfinished, EngineDown, OSError."""
    newest = await replace(uid, scope, told, template, names, materials)
    what = _words(newest)
    for then in _then(template, names):
        await _do(uid, then, what, driver)
    return newest


async def replace(
    uid: str, scope: Scope, told: Told, template: TaskTemplate, names: set[str],
    materials: Materials,
) -> dict[str, int]:  # fmt: skip
    """Bring the files of these secrets to the newest versions, which are returned. That is all for
    a container that has not started: no process has read the old ones. Raises Unfinished,
    OSError."""
    newest = {name: v for name, v in materials.versions(scope, template).items() if name in names}
    if missing := materials.missing(scope, template):
        raise Unfinished(f"{_words(newest)} can't replace the one it has: it needs {missing}")
    try:
        await materials.swap(uid, scope, told, template)
    except Trouble as error:
        raise Unfinished(f"{_words(newest)} can't replace the one it has: {error}") from None
    return newest


def _words(versions: dict[str, int]) -> str:
    return ", ".join(f"version {versions[name]} of secret {name}" for name in sorted(versions))


def _then(template: TaskTemplate, names: set[str]) -> list[OnChange]:
    """What is to follow, each once."""
    found: list[OnChange] = []
    for mount in delivered(template):
        then = mount.on_change
        if mount.name in names and isinstance(then, OnChange) and then not in found:
            found.append(then)
    return found


async def _do(uid: str, then: OnChange, what: str, driver: Driver) -> None:
    try:
        if then.signal:
            await driver.signal(uid, then.signal)
            return
        outcome = await run(driver, uid, then.command, COMMAND_SECONDS)
    except EngineDown:
        raise
    except DriverError as error:
        step = f"signal {then.signal}" if then.signal else f"command {then.command[0]}"
        raise Unfinished(f"{what} is in place, but its {step} can't be given: {error}") from None
    if not outcome.passed:
        raise Unfinished(
            f"{what} is in place, but its command {then.command[0]} failed; run it with ctl exec"
            " to see why"
        )


def with_versions(status: TaskStatus, versions: dict[str, int]) -> TaskStatus:
    return msgspec.structs.replace(status, secrets=status.secrets | versions)
