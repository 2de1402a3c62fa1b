"""Waiting for objects: level, not edge. An object is looked at, then watched from there.

Waiting ends when all objects are as wanted, or with TimedOut, which says of each that is not why.
A deadline is the loop's, so virtual time works.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from api.ctl.errors import CtlError, NotFound, TimedOut
from api.ctl.newest import Newest, newest, unseen
from api.ctl.output import Output
from api.ctl.resources import Target
from api.ctl.tasks import reasons
from api.ctl.wanted import Wanted
from api.types.columns import is_job
from api.types.kinds import SERVICE, TASK

if TYPE_CHECKING:
    from api.client import Client

Document = dict[str, Any]

_MOST = 5  # objects that are named when time is over


async def wait_until(
    output: Output,
    client: Client,
    targets: Sequence[Target],
    namespace: str,
    wanted: Wanted,
    timeout: float,
    *,
    say: bool = True,
) -> None:
    """Until all are as wanted. `say` tells progress on stderr. Raises TimedOut, NotFound."""
    watched = [Watched(target, namespace, wanted) for target in targets]
    teller = Teller(output) if say else None
    groups = [
        Group([each for each in watched if each.target.kind is kind], client, teller)
        for kind in dict.fromkeys(each.target.kind for each in watched)
    ]
    try:
        # Looking once is no matter of time: what is so already is so within 0 s too.
        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(group.look())
        if all(group.met for group in groups):
            return
        if timeout <= 0:
            raise TimeoutError
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(group.follow())
    except TimeoutError:
        late = [each for each in watched if not each.met]
        raise _too_late(late, await _of_tasks(client, late), timeout) from None
    except BaseExceptionGroup as errors:
        # What went wrong with one ends the wait for all, and is what the user wants to read.
        raise errors.exceptions[0] from None


class Teller:
    """Says how far each object is, when that changes."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._last: dict[str, str] = {}

    def tell(self, title: str, words: str) -> None:
        if words and self._last.get(title) != words:
            self._last[title] = words
            self._output.note(f"{title}: {words}")


class Watched:
    """One object, and whether it is as wanted."""

    def __init__(self, target: Target, namespace: str, wanted: Wanted) -> None:
        self.target = target
        self.namespace = namespace if target.kind.namespaced else ""
        self.wanted = wanted
        self.obj: Document | None = None
        self.newest: Newest = {}
        self.met = False

    @property
    def title(self) -> str:
        return str(self.target)

    @property
    def why_not(self) -> str:
        return self._unseen or self.wanted.why_not(self.obj)

    @property
    def _unseen(self) -> str:
        return "" if self.obj is None else unseen(self.obj, self.newest)

    def look(self, obj: Document | None, teller: Teller | None) -> None:
        """It is this now. Raises NotFound where it is not there and should be, and CtlError
        where it will never be as wanted."""
        if obj is None and not self.wanted.absence:
            where = f"{self.namespace}/" if self.namespace else ""
            kind = self.target.kind.name.lower()
            raise NotFound(f"{kind} {where}{self.target.name} does not exist")
        self.change(obj, teller)

    def change(self, obj: Document | None, teller: Teller | None) -> None:
        self.obj = obj
        early = bool(self._unseen)
        self.met = not early and self.wanted.met(obj)
        why = "" if early or self.met else self.wanted.hopeless(obj)
        if why:
            name = self.target.name
            hint = f"ctl rollout status {name} says how far it is"
            if is_job(self.obj or {}):
                hint = f"ctl describe service {name} shows its tasks, ctl logs what they said"
            raise CtlError(f"{self.title}: {why}", hint)
        if teller is not None and not self.met:
            teller.tell(self.title, self.why_not)


class Group:
    """Objects of one kind and namespace: one list and one watch, however many they are."""

    def __init__(self, watched: Sequence[Watched], client: Client, teller: Teller | None) -> None:
        self._watched = {each.target.name: each for each in watched}
        self._client = client
        self._teller = teller
        self._kind = watched[0].target.kind
        self._namespace = watched[0].namespace
        only = watched[0].target.name if len(watched) == 1 else ""
        self._selector = f"metadata.name={only}" if only else ""
        self._version = ""  # of the list they were seen in

    @property
    def met(self) -> bool:
        return all(each.met for each in self._watched.values())

    async def look(self) -> None:
        """Once. Raises NotFound."""
        listing = await self._client.list(
            self._kind, self._namespace, field_selector=self._selector
        )
        self._version = listing.resource_version
        there = {obj["metadata"]["name"]: obj for obj in listing.items}
        versions = await self._newest([obj for name, obj in there.items() if name in self._watched])
        for name, each in self._watched.items():
            each.newest = versions
            each.look(there.get(name), self._teller)

    async def _newest(self, there: Sequence[Document]) -> Newest:
        counts = any(each.wanted.of_newest for each in self._watched.values())
        if self._kind is not SERVICE or not counts:
            return {}
        return await newest(self._client, self._namespace, there)

    async def follow(self) -> None:
        """After `look`: until all are as wanted."""
        late = {name for name, each in self._watched.items() if not each.met}
        if not late:
            return
        changes = self._client.watch(
            self._kind,
            self._namespace,
            resource_version=self._version,
            field_selector=self._selector,
        )
        async with contextlib.aclosing(changes):
            async for change in changes:
                name = change.object["metadata"]["name"]
                if name in late:
                    each = self._watched[name]
                    each.change(None if change.type == "DELETED" else change.object, self._teller)
                    if each.met:
                        late.discard(name)
                        if not late:
                            return


async def _of_tasks(client: Client, late: Sequence[Watched]) -> dict[tuple[str, str], str]:
    """What the tasks of late services wait for, which the services don't always say."""
    found: dict[tuple[str, str], str] = {}
    for each in late[:_MOST]:
        if each.target.kind is SERVICE:
            fields = f"spec.service={each.target.name}"
            found |= reasons((await client.list(TASK, each.namespace, field_selector=fields)).items)
    return found


def _too_late(
    late: Sequence[Watched], of_tasks: dict[tuple[str, str], str], timeout: float
) -> TimedOut:
    words = []
    for each in late[:_MOST]:
        why = each.why_not or "not yet"
        said = of_tasks.get((each.namespace, each.target.name), "")
        words.append(f"{each.title}: {why}{f': {said}' if said and said not in why else ''}")
    more = f"; and {len(late) - _MOST} more" if len(late) > _MOST else ""
    return TimedOut(f"not {late[0].wanted.words} within {timeout:g} s: {'; '.join(words)}{more}")
