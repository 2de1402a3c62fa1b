"""Certificates for users. The key is the user's own and never comes here.

A certificate says the user's name and a random id that the user's object knows; what its holder may
do is in the object too. So it is good for as long as the object is there and knows it: not for
another user of the name, and not after another id has withdrawn it.
"""

from __future__ import annotations

from uuid import uuid4

import structlog

from api.pki.authority import expiry
from api.pki.errors import PkiError
from api.pki.identity import Role
from api.pki.requests import requested_key
from api.server import status
from api.server.resources import TRIES, Resources
from api.store.cache import Cache
from api.store.contract import Conflict, Store, Write
from api.trust.trust import Trust
from api.types import codec
from api.types.join import RenewReply, UserCertificateRequest
from api.types.kinds import USER
from api.types.user import User, UserStatus

MOST_DAYS = 3650.0

_log = structlog.get_logger("skep.users")


class Users:
    def __init__(self, store: Store, cache: Cache, resources: Resources, trust: Trust) -> None:
        self._store = store
        self._cache = cache
        self._resources = resources
        self._trust = trust

    async def certify(self, name: str, wanted: UserCertificateRequest) -> RenewReply:
        """A certificate of the user; with `withdraw` the only one. Raises Failure, StoreError."""
        if not 0 < wanted.days <= MOST_DAYS:
            raise status.bad_request(
                f"a certificate's life is more than 0 and at most {MOST_DAYS:g} days; asked for"
                f" were {wanted.days:g}"
            )
        try:
            key = requested_key(wanted.request)
        except PkiError as error:
            raise status.bad_request(str(error)) from None
        for _ in range(TRIES):
            item = self._cache.get(USER, "", name)
            if item is None or item.obj.metadata.deletion_timestamp is not None:
                raise status.not_found(USER, "", name)
            user: User = item.obj
            kept = "" if wanted.withdraw else user.status.holder
            holder = kept or str(uuid4())
            certificate = self._trust.signing.certify(
                key, name, Role.USER, uid=holder, days=wanted.days
            )
            changed = UserStatus(holder=holder, expires=expiry(certificate))
            value = codec.amended(USER, item.value, status=changed)
            try:
                await self._resources.seen(
                    await self._store.commit([Write(item.key, value, item.revision)])
                )
            except Conflict:
                await self._resources.refresh()
                continue
            _log.info("issued a certificate", user=name, expires=str(changed.expires))
            return RenewReply(certificate=certificate, trust=self._trust.bundle)
        raise status.conflict(USER, "", name)
