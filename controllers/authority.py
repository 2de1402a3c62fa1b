"""The authority controller: ends the replacing of the cluster's root when nobody needs the old one.

What the states are and what is waited for is in `api.trust.progress`; this loop looks whenever a
node or the trust changes. It keeps nothing: started in the middle, it goes on where things are.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from api.store.cache import Cache
from api.store.contract import Conflict, StoreError
from api.trust.progress import Progress, progress
from api.trust.trust import Trust
from api.types.join import Cluster
from api.types.kinds import NODE
from api.types.meta import Metadata
from controllers.reconcile.recorder import Recorder
from controllers.reconcile.wake import Wake

_COLLECT = 0.2  # seconds in which changes gather
_LOOK = 5.0  # seconds until the next look while nothing changes

_log = structlog.get_logger("skep.authority")


class AuthorityController:
    name = "authority"

    def __init__(
        self, cache: Cache, trust: Trust, recorder: Recorder, clock: Callable[[], datetime]
    ) -> None:
        self._cache = cache
        self._trust = trust
        self._recorder = recorder
        self._clock = clock
        self._wake = Wake()

    @property
    def message(self) -> str:
        """For `ctl get components`: how far it is."""
        record = self._trust.record
        if not record.next:
            return f"root {record.current}"
        made = self._progress()
        kept = f", kept until {record.keep_until:%Y-%m-%d %H:%M}" if record.keep_until else ""
        return (
            f"root {record.next} takes the place of {record.current}: {made.moved} nodes moved,"
            f" waiting for {len(made.waiting)}{kept}"
        )

    async def run(self) -> None:
        await self._cache.synced()
        stops = [
            self._cache.listen(lambda _: self._wake.ring(), kinds={NODE}),
            self._trust.listen(self._wake.ring),
        ]
        self._wake.ring()
        try:
            while True:
                await self._wake.wait(collect=_COLLECT)
                if self._trust.record.next:
                    await self._look()
                    self._wake.ring_after(_LOOK)
        finally:
            self._wake.close()
            for stop in stops:
                stop()

    async def _look(self) -> None:
        made = self._progress()
        keep_until = self._trust.record.keep_until
        if not made.done or (keep_until is not None and self._clock() < keep_until):
            return
        old, new = self._trust.record.current, self._trust.record.next
        try:
            await self._trust.finish_rotation()
        except Conflict:
            return  # another manager did it; what it wrote comes by itself
        except StoreError as error:
            _log.warning("the old root is not dropped yet", error=str(error))
            return
        cluster = Cluster(metadata=Metadata(name="cluster"))
        message = f"root {new} took the place of {old}, which is not accepted any more"
        self._recorder.note(cluster, "Normal", "RootReplaced", message, component=self.name)
        _log.info("the root was replaced", old=old, new=new, nodes=made.moved)

    def _progress(self) -> Progress:
        nodes = [item.obj for item in self._cache.sorted_items(NODE)]
        return progress(self._trust.signing.id, nodes, self._trust.managers)
