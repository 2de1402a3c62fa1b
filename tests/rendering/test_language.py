"""What the text of a file made from secrets may say, and what it comes to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.rendering import needed, secret_names
from api.rendering.language import FIELDS, Wrong, program
from api.rendering.rendering import Unrenderable, render
from api.types.template import SecretFile, SecretMount, SecretVariable, TaskTemplate

VALUES = {"db": {"user": b"me", "password": b"p w"}, "api-key": {"value": b"k"}}
UNKNOWN = "is not known (there are "
TOLD: dict[str, str | int] = {field: field for field in FIELDS} | {"task.slot": 3}


def made(content: str) -> str:
    return render(content, VALUES, TOLD).decode()


@pytest.mark.parametrize(
    ("content", "becomes"),
    [
        ("plain\n", "plain\n"),
        ("{{ secrets.db.user }}:{{ secrets['db']['password'] }}", "me:p w"),
        ('{{ secrets["api-key"] }}', "k"),
        ('{{ secrets["api-key"].value }}', "k"),
        ("{{ secrets.db.password|urlencode }}", "p%20w"),
        ("{{ secrets.db.password|quote }}", "'p w'"),
        ("{{ secrets.db.password|b64encode|b64decode|upper }}", "P W"),
        ("{{ {} }}".replace("{}", 'secrets.db.password|tojson ~ "<"'), '"p w"<'),
        ("{{ secrets.db.none|default('-') }}", "-"),
        ("{% if secrets.db.none is defined %}a{% elif task.slot == 3 %}b{% endif %}", "b"),
        ("{% if node.name in ['a', 'node.name'] %}in{% endif %}", "in"),
        ("{{ 'one' if task.slot < 2 else 'many' }}", "many"),
        ("a:\n  {{ 'x\\ny'|indent(2) }}\n", "a:\n  x\n  y\n"),
        ("{% raw %}{{ kept }}{% endraw %}{# not said #}", "{{ kept }}"),
        ("{% if true %}\nno line is left of a tag\n{% endif %}\n", "no line is left of a tag\n"),
        ("<{{ secrets.db.user }}&>", "<me&>"),
    ],
)
def test_a_text_becomes(content: str, becomes: str) -> None:
    assert made(content) == becomes


def test_every_field_is_told() -> None:
    for field in FIELDS:
        assert made(f"{{{{ {field} }}}}") == str(TOLD[field])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "\n{{ secret.db }}",
            f"2: secret {UNKNOWN}secrets, node, service, task); did you mean secrets?",
        ),
        (
            "{{ node.nam }}",
            f"1: node.nam {UNKNOWN}node.name, node.hostname); did you mean node.name?",
        ),
        ("{{ secrets }}", 'line 1: which secret? write secrets["name"], or secrets["name"]["key"]'),
        (
            "{{ secrets.api-key }}",
            "'-' is a minus here; a name with one is written secrets[\"a-name\"]",
        ),
        ("{{ secrets.db.user.a }}", "line 1: secrets.db.user.a: there is nothing inside a key"),
        ("{{ secrets[node.name] }}", "and fields can be looked into, by fixed names"),
        ("{{ secrets.db.user|uper }}", "uper is no filter (there are b64decode, "),
        ("{{ secrets.db.user is odd }}", "odd is no test (there are defined, undefined)"),
        ("{% for k in secrets.db %}{% endfor %}", "line 1: loops can't be used here"),
        ("{% macro a() %}{% endmacro %}", "line 1: macros can't be used here"),
        ("{% set a = 1 %}", "line 1: assignments ({% set %}) can't be used here"),
        ("{{ secrets.db.user.upper() }}", "line 1: calls can't be used here"),
        ("{{ secrets.db.user[0:3] }}", "can be looked into, by fixed names"),
        ("{{ unclosed", "line 1: unexpected end of template"),
        ("a\n{% if x", "line 2: "),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "line 1: is nested more than 60 deep"),
        ("{{ " + "not " * 500 + "1 }}", "line 1: is nested more than 60 deep"),
        ("x" * 65537, "line 1: has 65537 characters, and at most 65536 are allowed"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(content: str, words: str) -> None:
    with pytest.raises(Wrong) as wrong:
        program(content)
    assert words in str(wrong.value)


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(Wrong) as wrong:
        program("{{ a }}\n{{ b }}\n{{ c|d }}")
    assert [fault.line for fault in wrong.value.faults] == [1, 2, 3, 3]


def test_a_secret_of_several_keys_needs_one_named() -> None:
    with pytest.raises(Unrenderable, match=r'secrets\["db"\] is one of several keys \(password, '):
        made("{{ secrets.db }}")


TEXTS = st.lists(
    st.sampled_from(
        ["{{", "}}", "{%", "%}", " ", "secrets", "node", ".db", ".user", "['db']", "[1]", "|upper",
         "|replace", "('a', 'b')", "if ", "else ", "endif", "for x in ", "'x'", "1", " ~ ", ".",
         "_", "__class__", ".name", "is defined", "(", ")", "[", "]", "*", "**", "import ", "self",
         "\n", "set ", "=", "range(9)", "{#", "#}", "True", ",", "%", "lipsum", "{", "}", ":"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(TEXTS)
def test_whatever_is_written_is_refused_or_rendered(content: str) -> None:
    """What is let in renders to text, or to an error in words; nothing else comes out."""
    try:
        known = program(content)
    except Wrong as wrong:
        assert all(fault.line >= 1 and fault.text for fault in wrong.faults)
        return
    assert all(reference.secret for reference in known.references)
    try:
        assert isinstance(render(content, VALUES, TOLD), bytes)
    except Unrenderable as error:
        assert "p w" not in str(error)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_pass_unharmed(value: bytes) -> None:
    data = {"a": {"k": value}}
    assert render("<{{ secrets.a }}>", data, {}) == b"<" + value + b">"
    assert render("{{ secrets.a|b64encode|b64decode }}", data, {}) == value


def test_what_a_template_needs() -> None:
    template = TaskTemplate(
        image="i",
        image_credentials="login",
        secrets=[SecretMount(name="mounted", key="k")],
        secret_env={"A": SecretVariable(secret="variable", key="v")},
        secret_files=[
            SecretFile(target="a", content="{{ secrets.one }}{{ secrets.two.key }}"),
            SecretFile(target="b", content="{{ secrets.three.maybe|default('') }}"),
            SecretFile(target="c", content="{{ wrong"),
        ],
    )
    found = {(mount.name, mount.key) for mount in needed(template)}
    assert found == {
        ("mounted", "k"),
        ("login", ""),
        ("variable", "v"),
        ("one", ""),
        ("two", "key"),
        ("three", ""),
    }
    assert secret_names(template) == {name for name, _ in found}
