"""Who a certificate says its holder is."""

from __future__ import annotations

from typing import Any

import pytest

from api.pki.identity import Identity, Role, identity_of


def subject(*pairs: tuple[str, str]) -> dict[str, Any]:
    """As `SSLObject.getpeercert()` gives it."""
    return {"subject": tuple(((field, value),) for field, value in pairs)}


def test_role_and_name_are_read() -> None:
    peer = subject(("organizationName", "skep:node"), ("commonName", "worker-1"))
    assert identity_of(peer) == Identity(Role.NODE, "worker-1")


def test_an_identity_reads_as_words() -> None:
    assert str(Identity(Role.NODE, "worker-1")) == "node worker-1"


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("commonName", "admin")],
        [("organizationName", "skep:admin")],
        [("organizationName", "skep:admin"), ("commonName", "")],
        [("organizationName", "skep:king"), ("commonName", "admin")],
        [("organizationName", "system:masters"), ("commonName", "admin")],
        # Two of either could be read both ways.
        [
            ("organizationName", "skep:node"),
            ("organizationName", "skep:admin"),
            ("commonName", "a"),
        ],
        [("organizationName", "skep:node"), ("commonName", "a"), ("commonName", "b")],
    ],
)
def test_anything_else_is_nobody(pairs: list[tuple[str, str]]) -> None:
    assert identity_of(subject(*pairs)) is None


def test_no_certificate_is_nobody() -> None:
    assert identity_of(None) is None
    assert identity_of({}) is None
