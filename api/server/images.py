"""What revisions' images are: the first node that has one says its digest, the others are told.

The digest is written once, with a compare, so of nodes that ask at the same moment, of whatever
manager, one is first and all of them get its answer. A node says it of revisions that it has a
live task of, and says a digest alone: the image's name stays the template's. So who holds a node
can choose among the images that the registry has under that name, for a revision that no other
node has begun with, and no more; the audit log says which node it was.
"""

from __future__ import annotations

import re

import msgspec

from api.server import status
from api.server.resources import Resources
from api.store.cache import Cache, Item
from api.store.contract import Conflict, Store, Write
from api.types import codec
from api.types.assignment import ImageAgreed, ImageFound
from api.types.kinds import REVISION, TASK
from api.types.revision import Revision, RevisionStatus

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_TRIES = 8


class Images:
    def __init__(self, store: Store, cache: Cache, resources: Resources) -> None:
        self._store = store
        self._cache = cache
        self._resources = resources

    async def agree(self, node: str, found: ImageFound) -> ImageAgreed:
        """When it returns, the answer is stored. Raises Failure 400, 404, StoreError."""
        if not _DIGEST.fullmatch(found.digest):
            raise status.bad_request(
                f"{found.digest[:80]!r} is no image's digest; it looks like sha256:…"
            )
        for _ in range(_TRIES):
            item = await self._item(node, found)
            revision: Revision = item.obj
            if revision.status.digest:
                return ImageAgreed(digest=revision.status.digest)
            kept = RevisionStatus(digest=found.digest, node=node)
            changed = msgspec.structs.replace(revision, status=kept)
            write = Write(item.key, codec.encode(changed), item.revision)
            try:
                await self._resources.seen(await self._store.commit([write]))
                return ImageAgreed(digest=found.digest)
            except Conflict:
                await self._resources.refresh()
        raise status.conflict(REVISION, found.namespace, found.revision)

    async def _item(self, node: str, found: ImageFound) -> Item:
        """The revision, which another manager may have sent before this one knew of it."""
        if not self._has_task(node, found):
            await self._resources.refresh()
        item = self._cache.get(REVISION, found.namespace, found.revision)
        if item is None or not self._has_task(node, found):
            failure = status.not_found(REVISION, found.namespace, found.revision)
            failure.message += f", or node {node} has no task of it"
            raise failure
        return item

    def _has_task(self, node: str, found: ImageFound) -> bool:
        return any(
            item.namespace == found.namespace
            and item.obj.spec.revision == found.revision
            and item.obj.live
            for item in self._cache.by(TASK, "node", node)
        )
