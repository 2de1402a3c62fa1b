"""Files that SOPS encrypted to an age recipient are read whole, or not at all.

One file is SOPS 3.10.2's own: of fluxcd/kustomize-controller's test data (Apache-2.0), with the
identity that is published beside it. The others are made by `writer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import manifest
from api.sops import identities
from api.sops.errors import SopsError
from api.sops.file import decrypt
from api.sops.identities import Identities
from api.sops.values import mac_bytes, resolved
from tests.sops.writer import as_json, as_yaml, encrypted

HERE = Path(__file__).parent
ME = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()
TO_ME = [ME.to_public()]
SECRET = {
    "apiVersion": "skep.dev/v1",
    "kind": "Secret",
    "metadata": {"name": "db", "labels": {"app": "shop"}},
    "stringData": {"password": "hunter2", "empty": ""},
}
REGEX: dict[str, Any] = {"encrypted_regex": "^(data|stringData)$"}


def in_payload(path: list[str]) -> bool:
    return any(name in ("data", "stringData") for name in path)


def mine() -> Identities:
    return Identities([OTHER, ME], ["here"])


def values(text: str) -> list[Any]:
    return manifest.load([manifest.Source("f.yaml", text)], check=lambda _: []).objects


def clear(text: str) -> list[Any]:
    return decrypt(text, values(text), mine)


def test_a_file_of_sops_own_making() -> None:
    text = (HERE / "flux-age.yaml").read_text()
    found = identities.find({"SOPS_AGE_KEY_FILE": str(HERE / "flux-age.txt"), "HOME": "/nowhere"})
    (document,) = decrypt(text, values(text), lambda: found)
    assert document["stringData"] == {"key": "global-value"}
    assert "sops" not in document and document["metadata"]["name"] == "global-age-secret"
    changed = text.replace("namespace: default", "namespace: other")
    with pytest.raises(SopsError, match="MAC is another one"):
        decrypt(changed, values(changed), lambda: found)


LEAVES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12),
    st.integers(-(2**31), 2**31),
    st.booleans(),
    st.floats(-1e6, 1e6).map(lambda x: round(x, 3) + 0.0),
    st.none(),
)
NAMES = st.from_regex(r"[a-z]{1,6}(_unencrypted|_secret)?", fullmatch=True).filter(
    lambda name: name not in ("sops", "env", "kind", "null", "true", "false", "y", "n", "yes", "no")
)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)
RULES: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda path: not any(name.endswith("_unencrypted") for name in path)),
    (
        {"unencrypted_suffix": "_unencrypted"},
        lambda path: not any(name.endswith("_unencrypted") for name in path),
    ),
    ({"encrypted_suffix": "_secret"}, lambda path: any(n.endswith("_secret") for n in path)),
    ({"encrypted_regex": "^[a-m]"}, lambda path: any(name[0] <= "m" for name in path)),
    ({"unencrypted_regex": "^[a-m]"}, lambda path: not any(name[0] <= "m" for name in path)),
]


@settings(deadline=None)  # age takes its time, the first time
@given(st.lists(TREES, min_size=1, max_size=3), st.sampled_from(RULES), st.booleans())
def test_what_was_encrypted_comes_back(
    documents: list[dict[str, Any]], rule: tuple[dict[str, Any], Any], only: bool
) -> None:
    rules, chosen = rule
    made = encrypted(documents, TO_ME, chosen, only_encrypted=only, **rules)
    assert clear(as_yaml(made)) == documents
    if len(made) == 1:
        assert clear(as_json(made[0])) == documents


def test_comments_that_choose_are_followed_by_how_values_look() -> None:
    made = encrypted([SECRET], TO_ME, in_payload, encrypted_comment_regex="sops:enc")
    assert clear(as_yaml(made)) == [SECRET]


def test_numbers_count_in_the_mac_as_sops_reads_them() -> None:
    """Manifests read 0444 as the text that it is; SOPS as the number 292."""
    service = {"kind": "Service", "mode": 292, "day": "2026-01-02T00:00:00Z", "ratio": 1.1}
    (made,) = encrypted([service], TO_ME, lambda path: False, encrypted_regex="^nothing$")
    text = as_yaml([made]).replace("mode: 292", "mode: 0444").replace("ratio: 1.1", "ratio: 1.10")
    text = text.replace("'2026-01-02T00:00:00Z'", "2026-01-02")
    assert clear(text)[0]["mode"] == "0444"


@pytest.mark.parametrize(
    ("text", "value"),
    [("0444", 292), ("0o17", 15), ("0x1F", 31), ("-7", -7), ("1e3", 1000.0), ("yes", "yes"),
     ("TRUE", True), ("~", None), ("1.50", 1.5), ("2026-01-02", "2026-01-02T00:00:00Z")],
)  # fmt: skip
def test_plain_scalars_are_what_they_are_to_sops(text: str, value: object) -> None:
    assert resolved(text) == value and type(resolved(text)) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_count_without_exponent(value: float) -> None:
    text = mac_bytes(value).decode()
    assert "e" not in text and float(text) == value


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: db", "name: other", "MAC is another one"),
        ("  labels:\n    app: shop\n", "", "MAC is another one"),
        ("  empty: ''\n", "  empty: ''\n  more: plain\n", "not encrypted as the rest"),
        ("stringData:", "stringDate:", "MAC is another one"),
        ("password", "password2", "does not decrypt"),
        (",type:str]", ",type:int]", "no int"),
        ("mac: ENC", "mac: XNC", "MAC does not decrypt"),
        ("2026-02-03", "2026-02-04", "MAC does not decrypt"),
        ("age:", "pgp:", "not encrypted to an age recipient"),
        ("BEGIN AGE", "BEGIN EGA", "none of the age identities"),
    ],
)
def test_a_change_of_any_part_is_refused(old: str, new: str, said: str) -> None:
    text = as_yaml(encrypted([SECRET], TO_ME, in_payload, **REGEX))
    assert clear(text) == [SECRET]
    changed = text.replace(old, new, 1)
    assert changed != text
    with pytest.raises(SopsError, match=said) as caught:
        clear(changed)
    assert "hunter2" not in str(caught.value)


def test_a_value_from_another_file_is_refused_with_its_place() -> None:
    one, two = (encrypted([SECRET], TO_ME, in_payload, **REGEX)[0] for _ in range(2))
    one["stringData"]["password"] = two["stringData"]["password"]
    with pytest.raises(SopsError, match="does not decrypt") as caught:
        clear(as_yaml([one]))
    assert caught.value.path == ("stringData", "password")


def test_documents_in_another_order_are_refused() -> None:
    made = encrypted([SECRET, {"kind": "Config", "data": {"a": "b"}}], TO_ME)
    with pytest.raises(SopsError):
        clear(as_yaml([made[1], made[0]]))


def test_a_secrets_numbers_are_text_so_that_no_complaint_shows_them() -> None:
    port = {"kind": "Secret", "stringData": {"port": 5432, "on": True}}
    (found,) = clear(as_yaml(encrypted([port], TO_ME, in_payload, **REGEX)))
    assert found["stringData"] == {"port": "5432", "on": "true"}


def test_who_has_no_identity_is_told_what_to_set_and_whose_it_is(tmp_path: Path) -> None:
    text = as_yaml(encrypted([SECRET], TO_ME, in_payload, **REGEX))
    with pytest.raises(SopsError) as caught:
        decrypt(text, values(text), lambda: identities.find({"HOME": str(tmp_path)}))
    assert "SOPS_AGE_KEY_FILE" in caught.value.hint
    with pytest.raises(SopsError, match=f"is encrypted to {ME.to_public()}") as caught:
        decrypt(text, values(text), lambda: Identities([OTHER], ["keys.txt"]))
    assert str(OTHER.to_public()) in str(caught.value)
    assert str(OTHER) not in str(caught.value)


def test_identities_come_from_where_sops_takes_them(tmp_path: Path) -> None:
    usual = tmp_path / ".config" / "sops" / "age"
    usual.mkdir(parents=True)
    (usual / "keys.txt").write_text(f"# mine\n{ME}\n")
    other = tmp_path / "other.txt"
    other.write_text(f"{OTHER}\n")
    home = {"HOME": str(tmp_path)}
    both = {str(ME.to_public()), str(OTHER.to_public())}
    assert set(identities.find(home).recipients) == {str(ME.to_public())}
    assert set(identities.find(home | {"SOPS_AGE_KEY_FILE": str(other)}).recipients) == both
    assert set(identities.find(home | {"SOPS_AGE_KEY": str(OTHER)}).recipients) == both
    elsewhere = {"HOME": "/nowhere", "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    assert len(identities.find(elsewhere).keys) == 1
    with pytest.raises(SopsError, match="can't be read"):
        identities.find({"SOPS_AGE_KEY_FILE": "/nowhere/at/all"})
    with pytest.raises(SopsError, match="line 1 of SOPS_AGE_KEY") as caught:
        identities.find(home | {"SOPS_AGE_KEY": str(OTHER)[:-4]})
    assert str(OTHER)[20:40] not in str(caught.value)


def test_problems_of_what_was_decrypted_have_their_places_in_the_file() -> None:
    wrong = {**SECRET, "sort": "unknown"}
    text = as_yaml(encrypted([wrong], TO_ME, in_payload, **REGEX))
    loaded = manifest.load(
        [manifest.Source("f.yaml", text)], decrypt=lambda t, v: decrypt(t, v, mine)
    )
    line = text[: text.index("sort:")].count("\n") + 1
    (problem,) = loaded.problems
    assert (problem.line, problem.field) == (line, "sort")
    assert loaded.documents[0].encrypted
