"""Requests about sealing: the public keys, and whether sealed values open. None is shown.

The keys are for everybody whom the cluster knows: what makes them to be trusted is the connection
they come by. A value is opened, or sealed anew, for who may write secrets in its namespace.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from api.seal.errors import SealError
from api.seal.keys import SealingKey
from api.seal.place import Place
from api.seal.sealed import Sealed, seal
from api.server import requests, status
from api.server.auth import Caller, authorize_applying, identify, refused
from api.server.paths import Target
from api.server.sealed import Opener
from api.store.contract import Conflict
from api.trust.trust import Trust, TrustError
from api.types.kinds import SECRET
from api.types.sealing import SealedValue, SealedValues, Verdict, Verdicts

JSON = "application/json"
_MAX_BODY = 16 * 1024 * 1024
_BODY_SECONDS = 60.0
_BREATH = 50  # values that are opened without letting others run
_VALUES = msgspec.json.Decoder(SealedValues)


class SealingHandlers:
    def __init__(self, trust: Trust, opener: Opener, cluster: str) -> None:
        self._trust = trust
        self._opener = opener
        self._cluster = cluster

    async def keys(self, request: web.Request) -> web.Response:
        return _answer(self._trust.sealing.public(self._cluster))

    async def renew(self, request: web.Request) -> web.Response:
        """Another newest key, now."""
        try:
            await self._trust.new_sealing_key()
        except Conflict:
            raise status.Failure(
                409, "Conflict", "another sealing key was made at the same moment"
            ) from None
        return await self.keys(request)

    async def drop(self, request: web.Request) -> web.Response:
        try:
            await self._trust.drop_sealing_key(request.match_info["id"])
        except TrustError as error:
            raise status.Failure(409, "Conflict", str(error)) from None
        return await self.keys(request)

    async def verify(self, request: web.Request) -> web.Response:
        return _answer(await self._verdicts(request, reseal=False))

    async def reseal(self, request: web.Request) -> web.Response:
        return _answer(await self._verdicts(request, reseal=True))

    async def _verdicts(self, request: web.Request, *, reseal: bool) -> Verdicts:
        caller = identify(request)
        authorize_applying(caller)
        newest = self._trust.sealing.newest if reseal else None
        if reseal and newest is None:
            raise status.Failure(
                503, "ServiceUnavailable", "there is no sealing key yet; repeat it"
            )
        body = await requests.body(request, _MAX_BODY, _BODY_SECONDS)
        given: SealedValues = requests.decoded(_VALUES, body)
        _authorize(caller, given.items)
        said = []
        for index, value in enumerate(given.items):
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            said.append(self._verdict(value, newest))
        return Verdicts(items=said)

    def _verdict(self, value: SealedValue, newest: SealingKey | None) -> Verdict:
        place = Place(value.namespace, value.name, value.key)
        try:
            plain = self._opener.open(value.sealed, place)
        except SealError as error:
            return Verdict(problem=str(error))
        scope, id = Sealed.parse(value.sealed).scope, Sealed.parse(value.sealed).key_id
        if newest is None:
            return Verdict(key_id=id)
        if id == newest.public.id:
            return Verdict(key_id=id, sealed=value.sealed)
        return Verdict(key_id=newest.public.id, sealed=seal(plain, place, scope, newest.public))


def _authorize(caller: Caller, values: list[SealedValue]) -> None:
    """Raises Failure 403, with every secret that the caller may not write."""
    targets = [Target(SECRET, value.namespace, value.name) for value in values]
    if found := refused(caller, targets, "PATCH"):
        raise status.forbidden("; ".join(dict.fromkeys(why for _, why in found)))


def _answer(said: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(said), content_type=JSON)
