"""A sealed value opens in its place, with its key, nowhere else; what is wrong is told apart."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from api import schema
from api.seal import keyfile
from api.seal.errors import Damaged, Malformed, Misplaced, SealError, UnknownKey, WillNotOpen
from api.seal.keys import SealingKey, key_id
from api.seal.place import Place, Scope
from api.seal.sealed import Sealed, seal

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = SealingKey.new(NOW, NOW + timedelta(days=30))
OTHER = SealingKey.new(NOW, NOW + timedelta(days=30))
PLACE = Place("shop", "db", "password")
TEXT = seal(b"correct horse" * 20, PLACE, Scope.STRICT, KEY.public)
PLACES = st.builds(
    Place,
    st.sampled_from(["shop", "shop2", "default"]),
    st.sampled_from(["db", "web"]),
    st.sampled_from(["password", "pass", "word"]),
)
SCOPES = st.sampled_from(list(Scope))


def keys(*known: SealingKey) -> dict[str, SealingKey]:
    return {key.public.id: key for key in known}


@given(st.binary(), PLACES, SCOPES)
def test_what_is_sealed_opens_in_its_place(value: bytes, place: Place, scope: Scope) -> None:
    text = seal(value, place, scope, KEY.public)
    assert text.startswith(f"skep-seal:v1:{KEY.public.id}:{scope}:")
    assert Sealed.parse(text).open(place, keys(OTHER, KEY).get) == value
    assert Sealed.parse(text).text() == text
    assert len(value) < 4 or value not in base64.b64decode(text.rpartition(":")[2])


@given(PLACES, PLACES, SCOPES)
def test_a_value_opens_elsewhere_only_as_far_as_its_scope(
    place: Place, other: Place, scope: Scope
) -> None:
    sealed = Sealed.parse(seal(b"x", place, scope, KEY.public))
    same = {
        Scope.STRICT: place == other,
        Scope.NAMESPACE: place.namespace == other.namespace,
        Scope.CLUSTER: True,
    }[scope]
    if same:
        assert sealed.open(other, keys(KEY).get) == b"x"
    else:
        with pytest.raises(Misplaced, match=f"its scope is {scope}"):
            sealed.open(other, keys(KEY).get)


@given(PLACES, PLACES, SCOPES)
def test_a_forged_digest_of_the_place_opens_nothing(
    place: Place, other: Place, scope: Scope
) -> None:
    """The digest only tells; what binds is in the encryption."""
    sealed = Sealed.parse(seal(b"x", place, scope, KEY.public))
    forged = sealed._replace(place=other.digest(scope))
    if sealed.place != forged.place:
        with pytest.raises(WillNotOpen):
            Sealed.parse(forged.text()).open(other, keys(KEY).get)


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii"))
def test_a_text_of_which_any_character_changed_is_refused(at: int, to: str) -> None:
    changed = TEXT[:at] + to + TEXT[at + 1 :]
    if changed != TEXT:
        with pytest.raises((Malformed, Damaged)):
            Sealed.parse(changed)


@given(st.integers(0, len(TEXT) - 1))
def test_a_text_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises((Malformed, Damaged)):
        Sealed.parse(TEXT[:length])


def test_a_widened_scope_opens_nothing() -> None:
    sealed = Sealed.parse(seal(b"x", PLACE, Scope.STRICT, KEY.public))
    wider = sealed._replace(scope=Scope.CLUSTER, place=PLACE.digest(Scope.CLUSTER))
    with pytest.raises(WillNotOpen):
        wider.open(PLACE, keys(KEY).get)


def test_where_it_was_sealed_for_is_said_where_that_can_be_known() -> None:
    sealed = Sealed.parse(seal(b"x", PLACE, Scope.STRICT, KEY.public))
    here = Place("shop", "database", "password")
    with pytest.raises(Misplaced, match="sealed for key password of secret shop/db "):
        sealed.require(here, [here, PLACE])
    with pytest.raises(Misplaced, match="sealed for another namespace, secret or key"):
        sealed.require(here, [here])


def test_another_clusters_value_names_its_key() -> None:
    sealed = Sealed.parse(seal(b"x", PLACE, Scope.STRICT, OTHER.public))
    with pytest.raises(UnknownKey, match=OTHER.public.id):
        sealed.open(PLACE, keys(KEY).get)


def test_the_same_value_never_looks_the_same() -> None:
    assert seal(b"x", PLACE, Scope.STRICT, KEY.public) != seal(
        b"x", PLACE, Scope.STRICT, KEY.public
    )


def test_the_schema_takes_what_is_sealed_and_nothing_else() -> None:
    def problems(text: str) -> list[str]:
        document = {
            "apiVersion": "skep.dev/v1",
            "kind": "Secret",
            "metadata": {"name": "db"},
            "sealed": {"password": text},
        }
        return [str(problem) for problem in schema.validate(document)]

    assert problems(seal(b"", PLACE, Scope.NAMESPACE, KEY.public)) == []
    (problem,) = problems("hunter2")
    assert problem.startswith("sealed.password: ") and "ctl seal" in problem
    assert "hunter2" not in problem


def test_a_key_file_gives_the_keys_back_and_takes_no_others() -> None:
    file = keyfile.KeyFile(cluster="a", keys=[KEY.public, OTHER.public])
    assert keyfile.parse(file.text().encode()) == file
    assert file.newest == KEY.public
    swapped = file.text().replace(KEY.public.id, OTHER.public.id, 1)
    with pytest.raises(SealError, match="its id does not fit"):
        keyfile.parse(swapped.encode())
    with pytest.raises(SealError, match="not a file of sealing keys"):
        keyfile.parse(b"-----BEGIN PUBLIC KEY-----")


# By the page alone: what docs/sealing.md says, written anew from RFC 9180's text.


def extract(salt: bytes, material: bytes) -> bytes:
    mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
    mac.update(material)
    return mac.finalize()


def labelled(suite: bytes, secret: bytes, salt: bytes, label: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + secret)


def expanded(suite: bytes, secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    given = length.to_bytes(2) + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, given).derive(secret)


@given(st.binary(), SCOPES)
def test_the_written_format_is_enough_to_open_a_value(value: bytes, scope: Scope) -> None:
    text = seal(value, PLACE, scope, KEY.public)
    name, version, id, said, encoded = text.split(":")
    assert (name, version, said) == ("skep-seal", "v1", scope)
    public = KEY.private.public_key().public_bytes_raw()
    assert id == hashlib.sha256(b"skep-seal:v1 key\0" + public).hexdigest()[:16] == key_id(public)
    body = base64.b64decode(encoded)
    check, place, enc, sealed = body[:4], body[4:12], body[12:44], body[44:]
    head = text[: -len(encoded)].encode()
    assert check == hashlib.sha256(head + body[4:]).digest()[:4]
    bound = {
        "strict": b"strict\0shop\0db\0password",
        "namespace": b"namespace\0shop",
        "cluster": b"cluster",
    }[said]
    assert place == hashlib.sha256(b"skep-seal:v1 place\0" + bound).digest()[:8]
    kem, hpke = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x02"
    shared = KEY.private.exchange(X25519PublicKey.from_public_bytes(enc))
    prk = labelled(kem, shared, b"", b"eae_prk")
    secret = expanded(kem, prk, b"shared_secret", enc + public, 32)
    context = (
        b"\x00"
        + labelled(hpke, b"", b"", b"psk_id_hash")
        + labelled(hpke, b"skep-seal:v1\0" + bound, b"", b"info_hash")
    )
    inner = labelled(hpke, b"", secret, b"secret")
    key = expanded(hpke, inner, b"key", context, 32)
    nonce = expanded(hpke, inner, b"base_nonce", context, 12)
    assert AESGCM(key).decrypt(nonce, sealed, b"") == value
