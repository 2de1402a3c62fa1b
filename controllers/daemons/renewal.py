"""When a certificate is renewed: at a random moment in the second half of its life.

Between 50 and 80 % of it, as SwarmKit does, so that machines which joined together do not renew
together, and a manager that is away for a while does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from api.client import Client, ClientError
from api.membership import FILE, Membership, renew
from api.pki.authority import life, mark
from api.pki.errors import PkiError
from api.pki.tls import client_context
from api.types.join import Sign

EARLIEST, LATEST = 0.5, 0.8  # of a certificate's life
_SPREAD = 10.0  # seconds over which nodes renew that are told of other authorities all at once
_RETRY_FIRST, _RETRY_LAST = 1.0, 300.0  # seconds
_LOOK = 600.0  # seconds slept at most: a machine that was suspended has another time

_log = structlog.get_logger("skep.certificate")


def due(begun: datetime, ends: datetime, share: float) -> datetime:
    """When to renew, `share` (0 to 1) of the way from the earliest moment to the latest."""
    return begun + (ends - begun) * (EARLIEST + share * (LATEST - EARLIEST))


class AgentRenewal:
    """Keeps a node's certificate good, over the node's own connection to its managers.

    `save` keeps what is new before it is used; `renewed` is called when it is in use. Connections
    that are open go on with what they began with, until that expires.
    """

    def __init__(
        self,
        member: Membership,
        client: Client,
        *,
        clock: Callable[[], datetime],
        save: Callable[[Membership], None],
        renewed: Callable[[], None],
    ) -> None:
        self._member = member
        self._client = client
        self._clock = clock
        self._save = save
        self._renewed = renewed
        self._told = asyncio.Event()
        self._delay = 0.0

    def heard(self, sign: Sign) -> None:
        """With a heartbeat: what managers want of our certificate."""
        if sign.renew:
            self._tell(0.0)
        elif sign.trust and sign.trust != mark(self._member.ca):
            self._tell(random.uniform(0, _SPREAD))  # noqa: S311

    def _tell(self, delay: float) -> None:
        if not self._told.is_set():
            self._delay = delay
            self._told.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._until_due()
            await self._renew()

    async def _until_due(self) -> None:
        begun, ends = life(self._member.cert)
        at = due(begun, ends, random.random())  # noqa: S311
        while (left := (at - self._clock()) / timedelta(seconds=1)) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK)):
                    await self._told.wait()
            if self._told.is_set():
                await asyncio.sleep(self._delay)
                return

    async def _renew(self) -> None:
        wait = _RETRY_FIRST
        while True:
            try:
                member = await renew(self._member, self._client)
                self._save(member)
                self._client.use(client_context(member.credentials))
                break
            except (ClientError, PkiError, OSError) as error:
                self._tell_why(error)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311
            wait = min(2 * wait, _RETRY_LAST)
        self._member = member
        self._told.clear()
        _log.info("renewed the certificate", until=life(member.cert)[1].isoformat())
        self._renewed()

    def _tell_why(self, error: Exception) -> None:
        name, (_, ends) = self._member.name, life(self._member.cert)
        if ends > self._clock():
            _log.warning(
                "the certificate is not renewed yet", ends=ends.isoformat(), error=str(error)
            )
            return
        _log.error(
            "the certificate has expired, and no manager takes it any more; what runs here goes on."
            f" Remove the node (ctl node rm {name}) and its {FILE}, and join anew",
            ended=ends.isoformat(),
            error=str(error),
        )
