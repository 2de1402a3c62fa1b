"""What is to be done about a secret's generated values: decided without I/O.

The model, value by value, of what the manifest asks for and what the status says is there:

    it is not there, or not all of its keys                      → make it
    the manifest asks for something else                         → make it
    `ctl secret rotate` asked                                    → make it
    its time has come                                            → make it, when the pace allows
    it was made while the clock was ahead                        → its age counts from now
      and it is a certificate that is not good yet               → make it, when the pace allows
    its authority is another one, or says other things           → look at it with the authority
    it is an authority whose predecessor nobody needs any more   → take that away

All that is not due stays byte for byte. What is made is written in one commit with what is told of
it, so that after a crash anywhere it is made, or is to be made still, and never half of it. Made
twice at once, by two managers, one of the two is thrown away before anybody has seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from api.types.generated import Generate, Generated
from api.types.secret import ROTATE, Secret
from controllers.generator.times import due

TOLERANCE = timedelta(minutes=10)  # by which managers' clocks may differ


class Why(StrEnum):
    """Why a value is made, in words for events and versions."""

    NEW = "generation"
    CHANGED = "a change of what is asked for"
    ASKED = "rotation on request"
    DUE = "rotation by its time"
    AUTHORITY = "a change of its authority"
    CLOCK = "a clock that was ahead when it was made"

    @property
    def by_itself(self) -> bool:
        """Whether nobody has asked for it just now: such work has a pace, and waits for clocks."""
        return self in (Why.DUE, Why.AUTHORITY, Why.CLOCK)

    @property
    def reason(self) -> str:
        return "Generated" if self in (Why.NEW, Why.CHANGED) else "Rotated"


class Plan(msgspec.Struct, kw_only=True):
    """`make` names what is to be made and why; `look` what is to be compared with its authority;
    `redate` what was made in the future; `trim` authorities that lose their predecessors; `recall`
    says that somebody else has written the bytes since, so that what is told of them may be wrong.

    `waits` says in words what can't be made, and for what it waits. `next` is when the next value
    is due, `wake` when to look again at the latest.
    """

    make: dict[str, Why] = {}
    look: list[str] = []
    redate: list[str] = []
    trim: list[str] = []
    recall: bool = False
    waits: list[str] = []
    next: datetime | None = None
    wake: datetime | None = None

    @property
    def idle(self) -> bool:
        return not (self.make or self.look or self.redate or self.trim or self.recall)

    @property
    def due(self) -> list[str]:
        """What is to be made though nobody has just asked for it."""
        return [name for name, why in self.make.items() if why.by_itself]

    def compared(self, secret: Secret, signers: Mapping[str, str]) -> None:
        """What was signed by another key than its authority has now is to be made anew. `signers`
        are the ids of these keys, by the authorities' secrets."""
        for name in list(self.look):
            certificate = secret.generate[name].x509
            signer = signers.get(certificate.ca) if certificate is not None else None
            if signer is not None and signer != secret.status.generated[name].issuer:
                self.look.remove(name)
                self.make[name] = Why.AUTHORITY

    def put_off(self) -> None:
        """Only what somebody has asked for."""
        self.make = {name: why for name, why in self.make.items() if not why.by_itself}
        self.redate = []


# Of an authority's secret in the same namespace: `uid/version`, None where there is none yet.
Authorities = Callable[[str], str | None]


def plan(secret: Secret, now: datetime, authorities: Authorities, *, followed: bool = True) -> Plan:
    """`followed`: of an authority, whether all that it signed is signed by the present one.

    Raises ValueError for what the schema should not have let in.
    """
    status = secret.status
    made = Plan(recall=any(each.version != status.version for each in status.generated.values()))
    asked = secret.metadata.annotations.get(ROTATE) == str(secret.status.version)
    for name, wanted in secret.generate.items():
        known = status.generated.get(name)
        why = _why(wanted, known, status.sizes, asked=asked)
        authority = wanted.x509.ca if wanted.x509 is not None else ""
        there = authorities(authority) if authority else ""
        if why is not None and there is None:
            made.waits.append(f"{name} waits for its authority, secret {authority}")
        elif why is not None:
            made.make[name] = why
        elif known is not None:
            _consider(made, name, known, secret, now, there)
            if known.overlap_until is not None:
                _trim(made, name, known.overlap_until, now, followed)
    return made


def _why(
    wanted: Generate, known: Generated | None, sizes: Mapping[str, int], *, asked: bool
) -> Why | None:
    # Before a secret has its first version, what is told is all that is known.
    if known is None or (sizes and any(key not in sizes for key in known.keys)):
        return Why.NEW
    if not same(wanted, known.spec):
        return Why.CHANGED
    return Why.ASKED if asked else None


def same(wanted: Generate, made_from: Generate) -> bool:
    """Whether they ask for the same value: when it is renewed is no part of it."""
    return _value_of(wanted) == _value_of(made_from)


def _value_of(wanted: Generate) -> Generate:
    if wanted.x509 is None:
        return wanted
    certificate = msgspec.structs.replace(wanted.x509, renew_before="", overlap="")
    return msgspec.structs.replace(wanted, x509=certificate)


def _consider(
    made: Plan, name: str, known: Generated, secret: Secret, now: datetime, there: str | None
) -> None:
    """A value that is there, as it is wanted: by time, and by its authority."""
    current = msgspec.structs.replace(known, spec=secret.generate[name])
    if known.not_before is not None and known.not_before > now + TOLERANCE:
        made.make[name] = Why.CLOCK
        return
    if known.made > now + TOLERANCE:
        made.redate.append(name)
        current = msgspec.structs.replace(current, made=now)
    time = due(current, secret.rotation, secret.metadata.uid, name)
    if time is not None:
        _sooner(made, time)
    if time is not None and time <= now:
        if there is None:
            ca = known.spec.x509.ca if known.spec.x509 is not None else ""
            made.waits.append(f"{name} can't be renewed: its authority, secret {ca}, is gone")
        else:
            made.make[name] = Why.DUE
    elif there and there != known.authority:
        made.look.append(name)


def _trim(made: Plan, name: str, until: datetime, now: datetime, followed: bool) -> None:
    if until > now:
        made.wake = until if made.wake is None else min(made.wake, until)
    elif followed and name not in made.make:
        made.trim.append(name)


def _sooner(made: Plan, time: datetime) -> None:
    made.next = time if made.next is None else min(made.next, time)
    made.wake = time if made.wake is None else min(made.wake, time)
