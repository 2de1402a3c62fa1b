"""Names and uids."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid

from controllers.reconcile.ids import bounded, digest, new_uid


def test_uids_are_uuids_and_differ() -> None:
    uids = {new_uid() for _ in range(1000)}
    assert len(uids) == 1000
    assert all(uuid.UUID(uid).version == 4 for uid in uids)


def test_a_digest_follows_from_its_text() -> None:
    assert digest("a", 5) == digest("a", 5) != digest("b", 5)
    assert re.fullmatch("[a-z2-7]{8}", digest("x", 8))


def test_a_digest_stays_what_it_was() -> None:
    """Objects are found again by it, and managers of two versions must make the same name."""
    whole = base64.b32encode(hashlib.blake2b(b"web/1", digest_size=10).digest()).decode().lower()
    assert [digest("web/1", length) for length in range(17)] == [whole[:n] for n in range(17)]


def test_long_names_are_cut_to_a_label() -> None:
    assert bounded("web", "1-abcde") == "web-1-abcde"
    long = bounded("w" * 63, "12-abcde")
    assert len(long) == 63
    assert long.endswith("w-12-abcde")
    assert bounded("web--" + "-" * 60, "1-abcde") == "web-1-abcde"
