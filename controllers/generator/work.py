"""What a plan comes to: a secret's bytes and status afterwards. No I/O, but some keys take long."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from api.generate import making
from api.pki.certificates import Issuer
from api.pki.errors import PkiError
from api.types.generated import Generate, Generated
from api.types.secret import Secret, SecretStatus
from controllers.generator.plan import Plan, Why

_SLOW = frozenset({"rsa-2048", "rsa-3072", "rsa-4096", "rsa"})  # take up to a second


def is_slow(secret: Secret, plan: Plan) -> bool:
    """Whether doing it takes so long that others should not wait for it."""
    for name in plan.make:
        wanted = secret.generate[name]
        kind = wanted.x509.key_type if wanted.x509 else wanted.ssh.type if wanted.ssh else ""
        if kind in _SLOW:
            return True
    return False


class Outcome(NamedTuple):
    data: dict[str, bytes]
    status: SecretStatus
    made: dict[str, Why]  # what was made
    problems: list[str]  # what could not be, in words
    origin: str = ""

    def __repr__(self) -> str:
        return f"Outcome(made={self.made}, problems={self.problems})"


class Issuers(NamedTuple):
    """Authorities by the name of their secret, and as plans know them; `refused` says why one
    can't be used."""

    found: Mapping[str, Issuer]
    marks: Mapping[str, str]
    refused: Mapping[str, str]


def carry_out(
    secret: Secret, plan: Plan, data: Mapping[str, bytes], issuers: Issuers, now: datetime
) -> Outcome:
    """Do what is planned, and bring what is told up to the bytes that are there."""
    task = _Task(secret, data, issuers, now)
    task.recall()
    for name in plan.redate:
        task.known[name] = msgspec.structs.replace(task.known[name], made=now)
    for name, why in plan.make.items():
        task.make(name, why)
    for name in plan.look:
        task.compare(name)
    for name in plan.trim:
        task.trim(name)
    return task.outcome()


class _Task:
    def __init__(
        self, secret: Secret, data: Mapping[str, bytes], issuers: Issuers, now: datetime
    ) -> None:
        self.secret = secret
        self.data = dict(data)
        self.issuers = issuers
        self.now = now
        self.known = dict(secret.status.generated)
        self.done: dict[str, Why] = {}
        self.problems: list[str] = []

    def recall(self) -> None:
        """Somebody else may have written the bytes since: `ctl secret rollback` does."""
        for name, known in self.known.items():
            if known.version == self.secret.status.version:
                continue
            try:
                told = making.told(name, known, self.data)
            except (PkiError, KeyError, ValueError):
                continue  # it is made anew below, where a key is missing; or when it is due
            self.known[name] = msgspec.structs.replace(told, version=self.secret.status.version)

    def make(self, name: str, why: Why) -> None:
        wanted = self.secret.generate[name]
        before = self.known.get(name)
        issuer = self._issuer(name, wanted)
        if issuer is None and wanted.x509 is not None and wanted.x509.ca:
            return
        predecessor = self._predecessor(name, wanted, before)
        called = f"{self.secret.metadata.namespace}/{self.secret.metadata.name}"
        try:
            made = making.make(
                name, wanted, called, self.now, issuer=issuer, predecessor=predecessor
            )
        except PkiError as error:
            self.problems.append(f"{name} can't be made: {error}")
            return
        for key in before.keys if before is not None else ():
            self.data.pop(key, None)
        self.data.update(made.files)
        told = made.told
        if wanted.x509 is not None and wanted.x509.ca:
            told.authority = self.issuers.marks[wanted.x509.ca]
        if predecessor is not None and wanted.x509 is not None:
            told.overlap_until = making.overlap_end(wanted.x509, self.now)
        self.known[name] = told
        self.done[name] = why

    def compare(self, name: str) -> None:
        """A certificate with its authority, which was changed in some way."""
        wanted = self.secret.generate[name]
        issuer = self._issuer(name, wanted)
        if issuer is None or wanted.x509 is None:
            return
        known = self.known[name]
        if known.issuer != issuer.id:
            return  # it waits for its turn
        try:
            self.data.update(making.reissued_bundle(name, self.data, issuer))
        except (PkiError, KeyError) as error:
            self.problems.append(f"{name} can't be read any more: {error}")
            return
        mark = self.issuers.marks[wanted.x509.ca]
        self.known[name] = msgspec.structs.replace(known, authority=mark)

    def trim(self, name: str) -> None:
        self.data.update(making.without_predecessors(name, self.data))
        self.known[name] = msgspec.structs.replace(self.known[name], overlap_until=None)

    def outcome(self) -> Outcome:
        status = msgspec.structs.replace(self.secret.status, generated=self.known)
        anew = [name for name in self.done if name in self.secret.status.generated]
        if anew:
            status.last_rotation = self.now.replace(microsecond=0)
        whys = dict.fromkeys(self.done.values())
        origin = "; ".join(whys) or "a change of its authority's bundle"
        return Outcome(self.data, status, self.done, self.problems, origin)

    def _issuer(self, name: str, wanted: Generate) -> Issuer | None:
        if wanted.x509 is None or not wanted.x509.ca:
            return None
        found = self.issuers.found.get(wanted.x509.ca)
        if found is None:
            why = self.issuers.refused.get(wanted.x509.ca, "it is gone")
            self.problems.append(f"{name} can't be signed by secret {wanted.x509.ca}: {why}")
        return found

    def _predecessor(self, name: str, wanted: Generate, before: Generated | None) -> Issuer | None:
        """An authority that is replaced, where there is one: it vouches for the new one."""
        if before is None or wanted.x509 is None or not wanted.x509.is_ca:
            return None
        try:
            return making.authority({name: before.spec}, self.data)
        except PkiError:
            return None  # it was none, or can't be read any more
