"""YAML to values: what YAML 1.2 means, what we refuse, and where we say it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from api.manifest import Document, Loaded, load, source, yamltext
from api.schema import Problem


def no_check(obj: object) -> list[Problem]:
    return []


def read(text: str, name: str = "f.yaml") -> Loaded:
    return load([source(name, text.encode())], check=no_check)


def value(text: str) -> Any:
    """The value of `a` in a document that holds nothing else."""
    loaded = read(f"a: {text}")
    assert [str(problem) for problem in loaded.problems] == []
    return loaded.objects[0]["a"]


@pytest.fixture(params=["c", "pure"], autouse=True)
def parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs on libyaml and on PyYAML's own parser."""
    kept = yamltext.PARSER
    if request.param == "pure":
        yamltext.PARSER = yaml.SafeLoader
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML is built without libyaml")
    yield
    yamltext.PARSER = kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("OFF", "OFF"), ("y", "y"),
        ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"),
        ("null", None), ("~", None), ("", None), ("Null", None), ("nULL", "nULL"),
        ("2026-01-31", "2026-01-31"), ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("12:30:45", "12:30:45"), ("1_000", "1_000"),
        ("0", 0), ("-0", 0), ("42", 42), ("+5", 5), ("-17", -17),
        ("0444", "0444"), ("007", "007"), ("-01", "-01"), ("00.5", "00.5"),
        ("0o444", 292), ("0x1F", 31), ("0b11", "0b11"), ("-0x1", "-0x1"),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("1.2.3", "1.2.3"),
        (".", "."), ("nan", "nan"), ("inf", "inf"), ("+", "+"),
        ("9223372036854775807", 2**63 - 1),
        ("'true'", "true"), ('"1"', "1"), ("!!str 1.10", "1.10"),
        ("!!int '7'", 7), ("!!float 1", 1), ("!!null ''", None), ("!!bool 'true'", True),
        ("!!map {b: 1}", {"b": 1}), ("!!seq [b]", ["b"]),
        ("[a, 1, true, ~]", ["a", 1, True, None]), ("{b: {c: []}}", {"b": {"c": []}}),
        ("512Mi", "512Mi"), ("=", "="), ("ü 🐝", "ü 🐝"), ('"\\u00fc"', "ü"),
        ("|\n  one\n  two\n", "one\ntwo\n"), (">\n  one\n  two\n", "one two\n"),
    ],
)  # fmt: skip
def test_scalars_mean_what_yaml_1_2_says(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected) or text == "!!float 1"


def test_keys_are_text_as_written() -> None:
    loaded = read("{8080: a, true: b, on: c, 1.10: d, null: e, 0444: f}")
    assert loaded.objects == [
        {"8080": "a", "true": "b", "on": "c", "1.10": "d", "null": "e", "0444": "f"}
    ]


def test_numbers_in_env_reach_the_container_as_written() -> None:
    loaded = read("""
spec:
  env: {VERSION: 1.10, PORT: 8080, RATIO: 0.5, EXP: 1e3, HEX: 0x1F, BIG: 99999999999999999999,
        INF: .inf, PLUS: +5, DEBUG: true}
  other: {VERSION: 1.10}
""")
    assert loaded.problems == []
    spec = loaded.objects[0]["spec"]
    assert spec["env"] == {
        "VERSION": "1.10", "PORT": 8080, "RATIO": 0.5, "EXP": "1e3", "HEX": "0x1F",
        "BIG": "99999999999999999999", "INF": ".inf", "PLUS": "+5", "DEBUG": True,
    }  # fmt: skip
    assert spec["other"] == {"VERSION": 1.1}


def test_anchors_aliases_and_merge_keys() -> None:
    loaded = read("""
base: &base {a: 1, b: {c: 2}}
more: &more {d: 4, a: 9}
copy: *base
merged: {<<: *base, a: 3}
both:
  <<: [*base, *more]
quoted: {"<<": 1}
""")
    assert loaded.problems == []
    (obj,) = loaded.objects
    assert obj["copy"] == obj["base"]
    assert obj["copy"]["b"] is not obj["base"]["b"]
    assert obj["merged"] == {"a": 3, "b": {"c": 2}}
    assert obj["both"] == {"a": 1, "b": {"c": 2}, "d": 4}
    assert obj["quoted"] == {"<<": 1}


def test_anchors_end_with_their_document() -> None:
    assert len(read("a: &x 1\n---\nb: *x\n").problems) == 1


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP_ALIASES = "a0: &a0 []\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 150))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("spec:\n\treplicas: 3\n", (2, 1), "a tab indents this line, and YAML takes only spaces"),
        ("a: b\n\tc: d\n", (2, 1), "a tab indents this line"),
        ("a: b: c\n", (1, 5), "a ':' stands where no field can begin"),
        ("a:\n  b: 1\n c: 2\n", (3, 2), "does not fit the mapping that begins on line 1"),
        ("a: 1\nfoo\nb: 2\n", (3, 1), "expected 'name: value', and line 2 has no ':'"),
        ("a: [1, 2\n", None, "',' or ']' for the list that line 1 opens with ["),
        ("a: {b: 1\nc: 2\n", (2, 2), "',' or '}' for the mapping that line 1 opens with {"),
        ("a: 'x\n", None, "the quote that line 1 opens is never closed"),
        ("a: @x\n", (1, 4), "a value can't begin with '@'; put the value in quotes"),
        ("a: `x`\n", (1, 4), "a value can't begin with '`'"),
        ('a: "\\q"\n', None, "an unknown escape"),
        ("a: - b\n", (1, 4), "a '- ' stands where no list can begin"),
        ("- a\nb: 1\n", (2, 1), "does not fit the list that begins on line 1"),
        ("a: |x\n  b\n", (1, 5), "text after | or >"),
        ("{a: 1}\nb: 1\n", (2, 1), "text follows after the end of the document"),
        ("%YAML 9.9\n---\na: 1\n", (1, 1), "another major version"),
        ("a: {{ .Values.x }}\n", (1, 5), "can't be the name of a field; quote it"),
        ("? [a]\n: b\n", (1, 3), "a list or mapping can't be the name of a field"),
        ("a: !foo bar\n", (1, 4), "custom tags (!…) are not supported"),
        ("a: !!binary YQ==\n", (1, 4), "the tag !!binary is not supported"),
        ("a: !!python/object:os.system {}\n", (1, 4), "is not supported"),
        ("!foo a: 1\n", (1, 1), "custom tags"),
        ("a: !!int x\n", (1, 4), "the value is no int, as its tag says"),
        ("a: *b\n", (1, 4), "this alias (*) names no anchor"),
        ("a: &a [*a]\n", (1, 8), "would contain itself"),
        ("a: &a {b: {c: *a}}\n", (1, 15), "would contain itself"),
        ("<<: 3\na: 1\n", (1, 5), "<< takes a mapping"),
        ("a: .inf\n", (1, 4), "infinity and not-a-number can't be stored"),
        ("a: 1e999\n", (1, 4), "the number is too large"),
        ("a: 9223372036854775808\n", (1, 4), "a whole number of more than 64 bits"),
        ("a: " + "9" * 10_000 + "\n", (1, 4), "a whole number of more than 64 bits"),
        ("a: 1\nb: 2\na: 3\n", (3, 1), 'the field "a" is given twice; first on line 1'),
        ("x:\n  b: 1\n  b: 2\n", (3, 3), 'the field "b" is given twice; first on line 2'),
        ("a: \x07\n", (1, 4), "a control character (U+0007)"),
        ("[" * 900, (1, 101), "nested deeper than 100 levels"),
        ("[" * 5000, None, "nested deeper than 100 levels"),
        ("- " * 5000, (1, 201), "nested deeper than 100 levels"),
        (BOMB, None, "aliases make this document explode"),
        (DEEP_ALIASES, None, "aliases make this document explode"),
        ("hello", (1, 1), "expected an object (apiVersion, kind, metadata, …), got text"),
        ("- a\n", (1, 1), "got a list; several objects: documents separated by ---"),
    ],
)
def test_what_is_wrong_is_said_in_words_at_its_place(
    text: str, place: tuple[int, int] | None, words: str
) -> None:
    (problem,) = read(text).problems
    assert words in str(problem)
    if place is not None:
        assert str(problem).startswith(f"f.yaml:{place[0]}:{place[1]}: ")


def test_reading_goes_on_with_the_next_document() -> None:
    loaded = read("a: 1\n---\nb: [\n---\nc: 'x\n--- # four\nd: 4\n---\n---x: 5\ne: @\n---\nf: 6")
    assert loaded.objects == [{"a": 1}, {"d": 4}, {"f": 6}]
    assert [problem.line for problem in loaded.problems] == [4, 6, 10]
    assert [document.line for document in loaded.documents] == [1, 7, 12]


def test_a_file_of_nothing_but_errors_is_given_up() -> None:
    loaded = read("---\n[\n" * 5000)
    assert len(loaded.problems) == 101
    assert "too many errors" in str(loaded.problems[-1])


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "---\n---\n...\n", "~"])
def test_empty_documents_are_nothing(text: str) -> None:
    loaded = read(text)
    assert (loaded.documents, loaded.problems) == ([], [])


@pytest.mark.parametrize(
    "line",
    ["password: @hunter2", "password: *hunter2", "password: !hunter2", "password: &hunter2 [",
     "password: !!int hunter2", "password: [hunter2", "password: 'hunter2", "hunter2",
     "password: hunter2: x", '"hunter2\\q"', "password: |hunter2",
     "password: .inf", "password: 123456789012345678901234567890"],
)  # fmt: skip
def test_no_message_shows_a_password_that_nobody_put_in_quotes(line: str) -> None:
    problems = [str(problem) for problem in read(f"a: b\n{line}\n").problems]
    assert problems
    assert not any("hunter2" in each or "12345678" in each for each in problems)


def test_positions_of_fields() -> None:
    (document,) = read("""# comment
kind: Service
spec:
    template: &t
        ports:
          - target: 80
            mode: x
          -
            target: 81
    list: [a, b,
        c]
    merged:
        <<: *t
        own: 1
    alias: *t
""").documents
    at = document.position
    assert at(("kind",)) == (2, 1)
    assert at(("spec",)) == (3, 1)
    assert at(("spec", "template", "ports", 0)) == (6, 13)
    assert at(("spec", "template", "ports", 0, "mode")) == (7, 13)
    assert at(("spec", "template", "ports", 1, "target")) == (9, 13)
    assert at(("spec", "list", 2)) == (11, 9)
    assert at(("spec", "merged", "ports")) == (13, 13)
    assert at(("spec", "merged", "own")) == (14, 9)
    # What an alias brings is where the alias is; what is not there, where it would be.
    assert at(("spec", "alias", "ports", 0)) == (15, 5)
    assert at(("spec", "missing")) == (3, 1)
    assert at(()) == (2, 1)


def test_positions_count_characters_and_lines_of_the_whole_file() -> None:
    loaded = read("# ü🐝\na: 1\n---\n# ü\n'ü': {b: 1, c: [x,\n  y]}\n")
    document = loaded.documents[1]
    assert document.position(("ü", "b")) == (5, 7)
    assert document.position(("ü", "c", 1)) == (6, 3)


# U+0085, U+2028 and U+2029 are line breaks to YAML 1.1's parsers.
TEXT = st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029")
# PyYAML writes YAML 1.1, where some texts need no quotes (0E0) that are numbers in 1.2.
WORDS = st.text(TEXT, max_size=12).filter(lambda text: text[:1] not in set("+-.0123456789"))
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(st.text("abc", min_size=1, max_size=4), PLAIN, max_size=4)


@settings(max_examples=60, deadline=None)
@given(MAPPINGS, st.booleans())
def test_what_pyyaml_writes_reads_back(obj: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(obj, default_flow_style=flow, allow_unicode=True)
    assert read(text).objects == [obj]


@settings(max_examples=60, deadline=None)
@given(MAPPINGS)
def test_json_reads_the_same_as_json_and_as_yaml(obj: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        text = json.dumps(obj, ensure_ascii=ascii_only, indent=1)
        assert read(text, "f.json").objects == [obj]
        assert read(text, "f.yaml").objects == [obj]


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            ["a", ": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "---\n", "'", '"', "|",
             "<<", "!!int ", "!x ", "\t", "#", "? ", ",", "1", "\\", "~", "%", "...\n", "\x00", "ü"]
        ),
        max_size=25,
    ).map("".join)
)  # fmt: skip
def test_any_text_gives_documents_or_problems_and_never_an_exception(text: str) -> None:
    for name in ("f.yaml", "f.json"):
        loaded = read(text, name)
        assert all(isinstance(document, Document) for document in loaded.documents)
        for problem in loaded.problems:
            assert str(problem).startswith(name)
