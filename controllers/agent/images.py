"""Which image a revision's tasks run here: the bits that its name stood for first, on any node.

The first task of a revision has its image made present, which says its digest; a manager answers
with the one that holds for all nodes, and what the task runs is `name:tag@digest`. So it costs a
revision one look at the engine and one request a node, and nothing where another node was first
or the image has no digest: made or loaded here, it is run by its name, as are images that the
template names by a digest, or that must not be pulled.

What was found out holds as long as the revision is here. A policy `always` is kept by that: each
revision asks the registry once, what comes later runs what it said then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable

import structlog

from api.client import ApiError, ClientError
from api.types.assignment import ImageAgreed, ImageFound
from api.types.revision import Revision
from api.types.template import TaskTemplate
from controllers.agent.drivers.contract import Driver, Refused

log = structlog.get_logger("skep.agent")

Agree = Callable[[ImageFound], Awaitable[ImageAgreed]]
Say = Callable[[str], None]

_FORBIDDEN = 403  # of a manager that doesn't know the question: it is of an earlier version
_FIRST_WAIT, _LAST_WAIT = 0.2, 5.0  # seconds


class _Known:
    """Of one revision."""

    def __init__(self) -> None:
        self.digest = ""  # that holds for all nodes
        self.image = ""  # what is run of it here, once that was made present
        self.asking = asyncio.Lock()


class Images:
    def __init__(self, driver: Driver, agree: Agree) -> None:
        self._driver = driver
        self._agree = agree
        self._known: dict[str, _Known] = {}  # by namespace/revision

    def take(self, revisions: Iterable[Revision]) -> None:
        """What managers say of these."""
        for revision in revisions:
            id = f"{revision.metadata.namespace}/{revision.metadata.name}"
            digest = revision.status.digest
            known = self._known.setdefault(id, _Known())
            if digest and known.digest != digest:
                known.digest, known.image = digest, ""

    def forget(self, id: str) -> None:
        self._known.pop(id, None)

    def clear(self) -> None:
        self._known.clear()

    async def ensure(self, id: str, template: TaskTemplate, login: bytes, say: Say) -> str:
        """The image to make a container of, which is here. Raises DriverError."""
        known = self._known.setdefault(id, _Known())
        if known.image:
            return known.image
        image, policy = template.image, template.image_pull
        fixed = "@" in image or policy == "never"
        found = ""
        if fixed or not known.digest:
            found = await self._driver.pull(image, say, policy, login)
            if found and not fixed:
                await self._ask(id, known, found, say)
        if not fixed and known.digest:
            image = f"{image}@{known.digest}"
            if found != known.digest:
                await self._pull(image, template, login, say)
        known.image = image
        return image

    async def _ask(self, id: str, known: _Known, found: str, say: Say) -> None:
        """Until a manager has said which digest it is; the revision's first task asks for all."""
        namespace, _, revision = id.partition("/")
        wait = _FIRST_WAIT
        async with known.asking:
            while not known.digest:
                question = ImageFound(namespace=namespace, revision=revision, digest=found)
                try:
                    known.digest = (await self._agree(question)).digest
                except ClientError as error:
                    if isinstance(error, ApiError) and error.code == _FORBIDDEN:
                        log.warning("images are not held to one digest", why=str(error))
                        return
                    say("waiting for a manager to say which digest its image has for all nodes")
                    log.warning("no word on an image yet", revision=id, why=str(error))
                    await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
                    wait = min(2 * wait, _LAST_WAIT)

    async def _pull(self, image: str, template: TaskTemplate, login: bytes, say: Say) -> None:
        try:
            await self._driver.pull(image, say, "ifNotPresent", login)
        except Refused as error:
            raise Refused(
                f"{error}; all tasks of a revision run the same image: bring that one back, or "
                f"`ctl restart` the service, which takes what {template.image} stands for now"
            ) from error
