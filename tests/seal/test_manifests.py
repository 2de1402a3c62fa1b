"""A manifest in which values were sealed differs in these values, and in no other character."""

from __future__ import annotations

import difflib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from api.seal.errors import SealError
from api.seal.manifests import (
    PLAIN,
    Uneditable,
    edited,
    replace_values,
    seal_all,
    secrets,
    set_value,
)
from api.seal.place import Place, Scope
from api.seal.sealed import Sealed
from tests.docs.markdown import ROOT

TEXT = """\
# The shop's password, and who to ask for it
apiVersion: skep.dev/v1
kind: Config
metadata: {name: settings}   # not ours
data:
    a.conf: |
        x = 1

---
apiVersion: skep.dev/v1
kind: Secret
metadata:
  name: db
stringData:
  # changed every spring
  password: "hunter2"     # the old one
  pem: |
    line 1
    line 2

  # last
  user: me
---
# trailing
apiVersion: skep.dev/v1
kind: Secret
metadata: {name: web}
data:
  key: aHVudGVyMg==
"""


def sealed_all(text: str) -> str:
    """Every value as S(its key)."""

    def meant(obj: Any) -> Any:
        if obj["kind"] != "Secret":
            return obj
        keys = {key for field in PLAIN for key in obj.get(field) or {}}
        rest = {k: v for k, v in obj.items() if not (k in PLAIN and v)}
        return rest | {"sealed": {**obj.get("sealed", {}), **{key: f"S({key})" for key in keys}}}

    splices = []
    for secret in secrets("f.yaml", text):
        keys = [key for field in PLAIN for key in secret.texts(field)]
        splices += seal_all(text, secret, {key: f"S({key})" for key in keys})
    return edited("f.yaml", text, splices, meant)


def test_only_names_and_values_change() -> None:
    changed = sealed_all(TEXT)
    lines = [
        line
        for line in difflib.unified_diff(TEXT.splitlines(), changed.splitlines(), n=0, lineterm="")
        if line[0] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert lines == [
        "-stringData:",
        "+sealed:",
        '-  password: "hunter2"     # the old one',
        "-  pem: |",
        "-    line 1",
        "-    line 2",
        "+  password: S(password)     # the old one",
        "+  pem: S(pem)",
        "-  user: me",
        "+  user: S(user)",
        "-data:",
        "-  key: aHVudGVyMg==",
        "+sealed:",
        "+  key: S(key)",
    ]
    assert sealed_all(changed) == changed


def test_two_blocks_become_one_with_their_comments() -> None:
    text = """\
kind: Secret
data:
    # of a
    a: YQ==
metadata: {name: x}
stringData:
  # of b
  b: b   # beside
  c: >-
    folded
    text
type: t
"""
    assert (
        sealed_all(text)
        == """\
kind: Secret
sealed:
    # of a
    a: S(a)
    # of b
    b: S(b)   # beside
    c: S(c)
metadata: {name: x}
type: t
"""
    )


def test_what_is_plain_joins_what_is_sealed() -> None:
    text = "kind: Secret\nmetadata: {name: x}\nsealed:\n  a: S(a)\nstringData:\n  b: b"
    expected = "kind: Secret\nmetadata: {name: x}\nsealed:\n  a: S(a)\n  b: S(b)"
    assert sealed_all(text).rstrip("\n") == expected


def test_json_and_braces_are_changed_in_place() -> None:
    text = '{"kind": "Secret", "metadata": {"name": "x"},\n "stringData": {"a": "b", "c": "d"}}\n'
    changed = sealed_all(text)
    assert changed == (
        '{"kind": "Secret", "metadata": {"name": "x"},\n "sealed": {"a": "S(a)", "c": "S(c)"}}\n'
    )
    assert sealed_all("kind: Secret\nmetadata: {name: x}\nstringData: {a: b}\n") == (
        'kind: Secret\nmetadata: {name: x}\nsealed: {a: "S(a)"}\n'
    )


def test_line_ends_of_windows_stay() -> None:
    text = "kind: Secret\r\nmetadata:\r\n  name: x\r\nstringData:\r\n  a: b\r\n"
    assert sealed_all(text) == text.replace("stringData", "sealed").replace(": b", ": S(a)")
    (secret,) = secrets("f", text)
    changed = edited(
        "f", text, set_value(text, secret, "z", "S"), lambda o: o | {"sealed": {"z": "S"}}
    )
    assert changed == text + "sealed:\r\n  z: S\r\n"


def test_an_alias_is_refused_and_says_what_to_write() -> None:
    for text in (
        "kind: Secret\nmetadata: {name: x}\nstringData:\n  a: &a one\n  b: *a\n",
        "kind: Secret\nmetadata:\n  name: x\n  labels: {l: &a one}\nstringData:\n  b: *a\n",
    ):
        with pytest.raises(Uneditable, match="a line each"):
            sealed_all(text)
    with pytest.raises(Uneditable, match="in a List"):
        sealed_all("kind: List\nitems:\n- kind: Secret\n  metadata: {name: x}\n")


def test_what_is_no_yaml_is_refused_with_its_place() -> None:
    with pytest.raises(SealError, match=r"^f\.yaml:2:"):
        sealed_all("kind: Secret\n  bad: [\n")


KEYS = st.from_regex(r"[-._A-Za-z0-9]{1,12}", fullmatch=True).filter(lambda k: k not in (".", ".."))


@given(st.dictionaries(KEYS, st.text(max_size=8), min_size=1), KEYS, st.booleans())
def test_a_value_is_set_and_nothing_else_changes(
    values: dict[str, str], key: str, exists: bool
) -> None:
    text = (
        "# head\n"
        + yaml.safe_dump(
            {"kind": "Secret", "metadata": {"name": "x"}} | ({"sealed": values} if exists else {}),
            allow_unicode=True,
            sort_keys=False,
        )
        + "# tail\n---\nkind: Namespace\nmetadata: {name: y}\n"
    )
    (secret,) = secrets("f", text)
    before = secret.object.get("sealed", {})

    def meant(obj: Any) -> Any:
        return obj | {"sealed": {**before, key: "S:x"}} if obj["kind"] == "Secret" else obj

    changed = edited("f", text, set_value(text, secret, key, "S:x"), meant)
    if exists and key in before:
        (again,) = secrets("f", changed)
        assert again.texts("sealed")[key] == "S:x"
    else:
        kept = [line for line in text.splitlines() if line in changed.splitlines()]
        assert kept == text.splitlines()


def test_some_values_are_replaced() -> None:
    text = "kind: Secret\nmetadata: {name: x}\nsealed:\n  a: A # one\n  b: B\n  c: 'C'\n"
    (secret,) = secrets("f", text)
    meant = {"a": "A", "b": "new", "c": "newer"}
    changed = edited(
        "f",
        text,
        replace_values(secret, {"b": "new", "c": "newer"}),
        lambda o: o | {"sealed": meant},
    )
    assert changed == text.replace(": B", ": new").replace("'C'", "newer")
    assert secret.place("b") == "f:5:3"


def test_the_example_is_whole_and_in_its_place() -> None:
    path = ROOT / "manifests" / "examples" / "secret-sealed.yaml"
    (secret,) = secrets(path.name, path.read_text())
    scopes = set()
    for key, text in secret.texts("sealed").items():
        sealed = Sealed.parse(text)
        sealed.require(Place(secret.namespace, secret.name, key))
        scopes.add(sealed.scope)
    assert scopes == {Scope.STRICT, Scope.NAMESPACE}
