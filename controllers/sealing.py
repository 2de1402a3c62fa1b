"""The sealing controller: a new sealing key when the newest has been that for its time.

When that is, is decided in `api.trust.sealing`; this loop looks when the trust changes, when a key
is due, and every hour, for clocks that are set. It keeps nothing, and several may run at once: who
is second finds that another key is the newest, and lets it be.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from api.store.contract import Conflict, StoreError
from api.trust.sealing import due
from api.trust.trust import Trust
from api.types.join import Cluster
from api.types.meta import Metadata
from controllers.reconcile.recorder import Recorder
from controllers.reconcile.wake import Wake

_COLLECT = 0.2  # seconds in which changes gather
_MOST = 3600.0  # seconds between two looks
_RETRY = 5.0

_log = structlog.get_logger("skep.sealing")


class SealingController:
    name = "sealing"

    def __init__(self, trust: Trust, recorder: Recorder, clock: Callable[[], datetime]) -> None:
        self._trust = trust
        self._recorder = recorder
        self._clock = clock
        self._wake = Wake()

    @property
    def message(self) -> str:
        """For `ctl get components`."""
        newest = self._trust.sealing.newest
        if newest is None:
            return "no key yet"
        broken = self._trust.sealing.broken
        unread = f"; can't be read: {', '.join(sorted(broken))}" if broken else ""
        return f"key {newest.public.id}, until {newest.public.expires:%Y-%m-%d}{unread}"

    async def run(self) -> None:
        stop = self._trust.listen(self._wake.ring)
        self._wake.ring()
        try:
            while True:
                await self._wake.wait(collect=_COLLECT)
                self._wake.ring_after(await self._look())
        finally:
            self._wake.close()
            stop()

    async def _look(self) -> float:
        """Seconds until the next look."""
        now = self._clock()
        left = (due(self._trust.sealing, now, self._trust.sealing_life) - now) / timedelta(
            seconds=1
        )
        if left > 0:
            return min(left, _MOST)
        try:
            key = await self._trust.new_sealing_key()
        except Conflict:  # another manager did it; what it wrote comes by itself
            return _RETRY
        except StoreError as error:
            _log.warning("a new sealing key is not made yet", error=str(error))
            return _RETRY
        id = key.public.id
        _log.info("made a sealing key", id=id, expires=key.public.expires.isoformat())
        message = f"values for git are sealed to key {id} from now on; the others open as before"
        cluster = Cluster(metadata=Metadata(name="cluster"))
        self._recorder.note(cluster, "Normal", "SealingKeyMade", message, component=self.name)
        return _RETRY
