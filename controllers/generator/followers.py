"""Which secrets hold certificates that are signed by which authority: by the authority's secret."""

from __future__ import annotations

from collections.abc import Iterable

from api.store.cache import Cache
from api.types.kinds import SECRET
from api.types.secret import Secret

_Key = tuple[str, str]  # namespace, name


class Followers:
    def __init__(self) -> None:
        self._of: dict[_Key, set[str]] = {}
        self._authorities: dict[_Key, set[str]] = {}
        self._makers: set[_Key] = set()

    @property
    def any_made(self) -> bool:
        """Whether any secret has values made at all."""
        return bool(self._makers)

    def clear(self) -> None:
        self._of.clear()
        self._authorities.clear()
        self._makers.clear()

    def note(self, secret: Secret) -> set[str]:
        """What a secret follows now."""
        namespace, name = secret.metadata.namespace, secret.metadata.name
        now = {each.x509.ca for each in secret.generate.values() if each.x509 and each.x509.ca}
        before = self._authorities.pop((namespace, name), set())
        for authority in before - now:
            self._of.get((namespace, authority), set()).discard(name)
        for authority in now:
            self._of.setdefault((namespace, authority), set()).add(name)
        if now:
            self._authorities[namespace, name] = now
        if secret.generate:
            self._makers.add((namespace, name))
        else:
            self._makers.discard((namespace, name))
        return now

    def forget(self, namespace: str, name: str) -> None:
        """The secret is gone. What followed it may be waiting for another one of that name."""
        self._makers.discard((namespace, name))
        for authority in self._authorities.pop((namespace, name), set()):
            self._of.get((namespace, authority), set()).discard(name)

    def of(self, namespace: str, authority: str) -> Iterable[str]:
        return sorted(self._of.get((namespace, authority), ()))

    def follow(self, cache: Cache, authority: Secret) -> bool:
        """Whether all that an authority's secret has signed is signed by the present one."""
        namespace, name = authority.metadata.namespace, authority.metadata.name
        ids = {
            known.issuer
            for known in authority.status.generated.values()
            if known.spec.x509 is not None and known.spec.x509.is_ca
        }
        if not ids:
            return True
        for follower in self.of(namespace, name):
            item = cache.get(SECRET, namespace, follower)
            for known in item.obj.status.generated.values() if item is not None else ():
                if known.spec.x509 and known.spec.x509.ca == name and known.issuer not in ids:
                    return False
        return True
