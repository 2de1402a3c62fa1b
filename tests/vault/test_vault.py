"""What is sealed opens in its place, with its key, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.vault.errors import VaultError
from api.vault.key import VaultKey
from api.vault.vault import Vault

PLACE = "/skep/v1/trust/roots/a"


@pytest.fixture
def vault() -> Vault:
    return Vault([VaultKey.new()])


@given(st.text(), st.binary())
def test_what_is_sealed_opens(place: str, plain: bytes) -> None:
    vault = Vault([VaultKey.new()])
    assert vault.open(place, vault.seal(place, plain)) == plain


def test_nothing_of_it_shows(vault: Vault) -> None:
    sealed = vault.seal(PLACE, b"the root's key" * 10)
    assert b"root" not in sealed
    assert vault.seal(PLACE, b"x") != vault.seal(PLACE, b"x")


def test_a_value_that_was_copied_elsewhere_does_not_open(vault: Vault) -> None:
    sealed = vault.seal(PLACE, b"secret")
    with pytest.raises(VaultError, match="copied from elsewhere"):
        vault.open("/skep/v1/trust/roots/b", sealed)


def test_a_value_that_was_changed_does_not_open(vault: Vault) -> None:
    sealed = vault.seal(PLACE, b"secret")
    for at in range(len(sealed)):
        broken = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(VaultError):
            vault.open(PLACE, broken)
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            vault.open(PLACE, sealed[:length])


def test_another_key_is_named(vault: Vault) -> None:
    other = Vault([VaultKey.new()])
    with pytest.raises(VaultError, match=vault.key.id.hex()):
        other.open(PLACE, vault.seal(PLACE, b"secret"))


def test_a_key_is_replaced_while_what_it_sealed_still_opens(vault: Vault) -> None:
    before = vault.seal(PLACE, b"secret")
    both = Vault([VaultKey.new(), vault.key])
    assert both.open(PLACE, before) == b"secret"
    after = both.seal(PLACE, b"secret")
    with pytest.raises(VaultError):
        vault.open(PLACE, after)


@pytest.mark.parametrize("text", ["", "SKEPKEY-1-", "SKEPKEY-1-" + "a" * 51, "secret words"])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(VaultError, match="not a vault key") as caught:
        VaultKey.parse(text)
    assert not text or text == "SKEPKEY-1-" or text not in str(caught.value)


def test_a_key_does_not_show_when_it_is_printed() -> None:
    key = VaultKey.new()
    assert key.text() not in f"{key} {key!r}"
