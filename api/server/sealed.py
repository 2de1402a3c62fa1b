"""Sealed values opened on their way in.

From here on they are `data`: a secret's object never says how its bytes came, so nothing is stale
in it, and the same bytes are no new version. All that does not open is said at once, in words that
tell as much as may be known: guesses where a value was sealed for are made within its own
namespace, whose secrets its writer knows.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from api import schema
from api.seal.errors import SealError, UnknownKey
from api.seal.place import Place
from api.seal.sealed import Sealed
from api.server.admission import Rejected
from api.server.documents import Document
from api.server.status import Cause
from api.store.cache import Cache
from api.trust.sealing import SealingRing
from api.trust.trust import Trust
from api.types.kinds import SECRET

DEFAULT_NAMESPACE = "default"
_GUESSES = 2000  # a digest each, some microseconds


class Opener:
    """Opens with the cluster's keys as they are at that moment."""

    def __init__(self, trust: Trust, cache: Cache) -> None:
        self._trust = trust
        self._cache = cache

    @property
    def ring(self) -> SealingRing:
        return self._trust.sealing

    def opened(self, document: Document) -> Document:
        """A secret's document with its sealed values in `data`; any other as it is.

        What is of the wrong shape is left for the schema to name. Raises Rejected.
        """
        sealed = document.get("sealed")
        if document.get("kind") != SECRET.name or "sealed" not in document:
            return document
        if not isinstance(sealed, dict) or not all(isinstance(t, str) for t in sealed.values()):
            return document
        if not isinstance(document.get("data") or {}, dict):
            return document
        problems = schema.validate(document)
        wrong = {p.path[1] for p in problems if p.path[:1] == ("sealed",) and len(p.path) > 1}
        data: dict[str, Any] = {}
        causes: list[Cause] = []
        for key, text in sealed.items():
            if key in wrong:
                continue
            try:
                value = self.open(text, _place(document, key), beside=sealed)
                data[key] = base64.b64encode(value).decode()
            except SealError as error:
                field = schema.field_path(("sealed", key))
                causes.append(Cause(field=field, message=str(error), reason="FieldValueInvalid"))
        if causes or wrong:
            known = [Cause(field=p.field, message=p.text, reason=p.code) for p in problems]
            raise Rejected(known + causes)
        rest = {k: v for k, v in document.items() if k != "sealed"}
        return {**rest, "data": {**(document.get("data") or {}), **data}} if data else rest

    def open(self, text: str, place: Place, beside: Iterable[str] = ()) -> bytes:
        """One value; `beside` are the keys it stands among. Raises SealError, in words for who
        wrote it."""
        sealed = Sealed.parse(text)
        sealed.require(place, itertools.islice(self._candidates(place, beside), _GUESSES))
        try:
            return sealed.open(place, self.ring.get)
        except UnknownKey as error:
            raise SealError(self._unknown(error.id)) from None

    def _unknown(self, id: str) -> str:
        if why := self.ring.broken.get(id):
            return f"was sealed to the key {id}, which this manager can't read: {why}"
        known = [key.public.id for key in self.ring.keys]
        has = f"it has {', '.join(known)}" if known else "it has none yet"
        return (
            f"was sealed to the key {id}, which this cluster does not have: another cluster's, or"
            f" one that was dropped; {has}. Fetch the newest with `ctl seal key` and seal the value"
            " anew"
        )

    def _candidates(self, place: Place, beside: Iterable[str]) -> Iterator[Place]:
        """Where else a value may have been sealed for, as its writer may know."""
        yield place._replace(namespace=DEFAULT_NAMESPACE)
        for key in beside:
            yield place._replace(key=key)
        for item in self._cache.items(SECRET, place.namespace):
            for key in (place.key, *item.obj.status.sizes):
                yield Place(place.namespace, item.name, key)


def _place(document: Document, key: str) -> Place:
    metadata = document["metadata"]
    return Place(metadata.get("namespace", ""), metadata.get("name", ""), key)
