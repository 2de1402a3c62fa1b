"""When a value is to be made anew, by what its secret says: no I/O, no clock of its own.

    certificate        a third of its life before it ends, or `renewBefore`
    rotation.every     when it is so old
    rotation.cron      at the first time of the expression after it was made

What was made together would change together for ever: lives and ages are cut by up to a twentieth,
by a share that follows from the secret's uid. Times of a cron expression are meant, and kept.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from api.pki.certificates import SKEW
from api.types.cron import cron
from api.types.generated import Certificate, Generated, Rotation
from api.types.quantity import parse_duration

_SPREAD = 0.05  # of a life or an age
_LEFT = 1 / 3  # of a life, when a certificate is renewed


def due(known: Generated, rotation: Rotation | None, uid: str, name: str) -> datetime | None:
    """When it is to be made anew; None: never by itself. Raises ValueError."""
    share = spread(uid, name)
    times = [
        _renewal(known, known.spec.x509, share) if known.spec.x509 is not None else None,
        _rotation(known, rotation, share) if rotation is not None else None,
    ]
    return min((time for time in times if time is not None), default=None)


def spread(uid: str, name: str) -> float:
    """From 0 to 1, always the same for a value of a secret."""
    digest = hashlib.sha256(f"{uid}/{name}".encode()).digest()
    return int.from_bytes(digest[:4]) / 2**32


def _renewal(known: Generated, wanted: Certificate, share: float) -> datetime | None:
    if known.not_before is None or known.not_after is None:
        return None
    life = known.not_after - (known.not_before + SKEW)
    if wanted.renew_before:
        left = timedelta(seconds=parse_duration(wanted.renew_before))
        # Its life may have been cut to what its authority had left.
        left = min(left, life * (1 - _LEFT))
    else:
        left = life * _LEFT
    return known.not_after - left - (life - left) * _SPREAD * share


def _rotation(known: Generated, rotation: Rotation, share: float) -> datetime | None:
    if rotation.every:
        age = timedelta(seconds=parse_duration(rotation.every))
        return known.made + age * (1 - _SPREAD * share)
    if rotation.cron:
        return cron(rotation.cron, rotation.time_zone).after(known.made)
    return None
