"""The secret controller: ends versions that are not kept any more, and counts a secret's users.

A version beyond `keep` stays while somebody holds it (`api.store.holders`), so it is looked at
again when a task ends, and when an update has come to its end. Who holds it is read before it is
ended: a task that would be given it by then is of a revision that is there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from api.rendering import secret_names
from api.server.versions import retained
from api.store import holders
from api.store.cache import DELETED, Cache, CacheEvent, Item
from api.store.contract import Store, Write
from api.store.keys import payload_key
from api.types import codec
from api.types.kinds import REVISION, SECRET, SERVICE, TASK
from api.types.secret import Secret, SecretStatus
from api.types.service import Service
from api.types.task import Task
from api.types.template import TaskTemplate
from controllers.reconcile.controller import DONE, Controller, Outcome

_REST = 0.5  # seconds between two looks at one secret: tasks end in hundreds


class SecretController:
    name = "secrets"

    def __init__(self, cache: Cache, store: Store) -> None:
        self._cache = cache
        self._store = store
        self._controller = Controller(self.name, self._reconcile, pace=lambda _key: _REST)

    async def run(self) -> None:
        await self._cache.synced()
        stop = self._cache.listen(self._heard, kinds={SECRET, SERVICE, TASK})
        try:
            for item in self._cache.items(SECRET):
                self._controller.queue.add((item.namespace, item.name))
            await self._controller.run()
        finally:
            stop()

    def _heard(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            item = event.item
            if event.kind is SECRET:
                self._controller.queue.add((item.namespace, item.name))
            elif event.kind is SERVICE:
                for service in {id(obj): obj for obj in _both(event)}.values():
                    self._add(item.namespace, service.spec.template)
            elif _let_go(event):
                revision = self._cache.get(REVISION, item.namespace, item.obj.spec.revision)
                if revision is not None:
                    self._add(item.namespace, revision.obj.spec.template)

    def _add(self, namespace: str, template: TaskTemplate) -> None:
        for name in secret_names(template):
            self._controller.queue.add((namespace, name))

    async def _reconcile(self, key: tuple[str, str]) -> Outcome:
        namespace, name = key
        item = self._cache.get(SECRET, namespace, name)
        if item is None:
            return DONE
        held = holders.held(self._cache, namespace, name)
        users = len(holders.users(self._cache, namespace, name))
        writes = settled(item, held, users)
        if writes:
            await self._cache.caught_up(await self._store.commit(writes))
        return DONE


def settled(item: Item, held: Iterable[int], users: int) -> list[Write]:
    """The writes of one commit that bring a secret's versions and count of users up to date."""
    secret: Secret = item.obj
    before: SecretStatus = secret.status
    stay, gone = retained(before.versions, secret.keep, frozenset(held))
    after = msgspec.structs.replace(before, versions=stay, used_by=users)
    if after == before:
        return []
    value = codec.amended(SECRET, item.value, status=after)
    keys = [payload_key(item.namespace, item.name, version) for version in gone]
    return [Write(item.key, value, item.revision), *(Write(each, None) for each in keys)]


def _both(event: CacheEvent) -> list[Service]:
    """A service as it is and as it was."""
    return [event.item.obj] + ([] if event.old is None else [event.old.obj])


def _let_go(event: CacheEvent) -> bool:
    """Whether a task has ended, or has another version now."""
    if event.type == DELETED:
        return True
    if event.old is None:
        return False
    old: Task = event.old.obj
    new: Task = event.item.obj
    return old.live != new.live or old.status.secrets != new.status.secrets
