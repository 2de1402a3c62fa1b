"""How a task's container is made: what it has to wait for, its image, its files, the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from api.types.generic import claims
from api.types.task import TERMINAL, Task, TaskState
from api.types.template import TaskTemplate
from controllers.agent.claims import Claims
from controllers.agent.drivers.contract import ContainerSpec, Driver, DriverError, EngineDown
from controllers.agent.environment import informed, told
from controllers.agent.files import Place, Trouble
from controllers.agent.images import Images
from controllers.agent.known import Known
from controllers.agent.materials import Materials
from controllers.agent.states import Failure


class Maker:
    def __init__(
        self,
        driver: Driver,
        materials: Materials,
        images: Images,
        claims: Claims,
        *,
        find: Callable[[str], Known | None],
        say: Callable[[Known, str], None],
    ) -> None:
        """`find` gives a task by its uid; `say` tells people how far one is."""
        self._driver = driver
        self._materials = materials
        self._images = images
        self._claims = claims
        self._find = find
        self._say = say

    def waits_for(self, known: Known) -> str:
        if known.task is None or known.template is None:
            return "its revision, which the manager has not sent"
        missing = self._materials.missing(known.scope, known.template)
        return missing or self._taken(known, known.task, ending=True)

    def _taken(self, known: Known, task: Task, *, ending: bool) -> str:
        """What of its node another task has that it was given: one that is about to end, or not."""
        found = self._claims.other(known.uid, list(claims(task.spec.generic)))
        if found is None:
            return ""
        (kind, name), uid = found
        other = self._find(uid)
        if other is not None and (other.wanted and other.status.state not in TERMINAL) is ending:
            return ""
        whose = other.task.metadata.name if other is not None and other.task is not None else uid
        return f"{kind} {name}, which task {whose} still has"

    async def make(self, known: Known) -> None:
        task, template = known.task, known.template
        if task is None or template is None:
            return
        if taken := self._taken(known, task, ending=False):
            known.failure = Failure(TaskState.REJECTED, f"it was given {taken}")
            return
        self._claims.take(known.uid, claims(task.spec.generic))
        try:
            login = self._materials.login(known.scope, template)
            async with asyncio.timeout(None) as known.pulling:
                image = await self._images.ensure(
                    f"{task.metadata.namespace}/{task.spec.revision}",
                    template,
                    login,
                    lambda words: self._say(known, words),
                )
        except TimeoutError:
            return  # not wanted any more
        except EngineDown:
            raise
        except (DriverError, Trouble) as error:
            known.failure = Failure(TaskState.REJECTED, str(error))
            return
        finally:
            known.pulling = None
        try:
            made = await self._materials.made(known.scope, told(template, task), template)
            if self.waits_for(known):
                return  # taken away while the image came
            known.files = True
            versions = self._materials.versions(known.scope, template)
            wanted = msgspec.structs.replace(template, image=image)
            spec = self._spec(known, task, wanted, made)
            known.status = msgspec.structs.replace(known.status, secrets=versions)
            known.container = await self._driver.create(spec)
        except EngineDown:
            raise
        except (DriverError, Trouble) as error:
            known.failure = Failure(TaskState.REJECTED, str(error))
        except OSError as error:
            words = f"its secrets or configs can't be written: {error.strerror}: {error.filename}"
            known.failure = Failure(TaskState.FAILED, words)

    def _spec(
        self, known: Known, task: Task, template: TaskTemplate, made: Sequence[Place]
    ) -> ContainerSpec:
        metadata = task.metadata
        variables = self._materials.variables(known.scope, template)
        return ContainerSpec(
            task_uid=metadata.uid,
            task_name=metadata.name,
            namespace=metadata.namespace,
            service=task.spec.service,
            slot=task.spec.slot,
            hostname=template.hostname or metadata.name,
            template=informed(self._materials.keep_closed(template), task, variables),
            generic=task.spec.generic or {},
            files=self._materials.write(metadata.uid, known.scope, template, made),
            login=self._materials.login(known.scope, template),
        )
