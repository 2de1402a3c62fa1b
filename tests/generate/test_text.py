"""Random text: of the asked form, hard to guess, and not twice the same."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.generate import text
from api.types.generated import Generate
from api.types.randomtext import ALPHABETS, CLASSES, alphabet, bits, impossible, length

CLASS_SETS = st.lists(st.sampled_from(sorted(CLASSES)), unique=True)


@pytest.mark.parametrize("charset", [*ALPHABETS, "words"])
def test_a_value_whose_length_is_not_given_has_128_bits(charset: str) -> None:
    wanted = Generate(charset=charset)
    assert 128 <= bits(wanted) < 150
    made = {text.make(wanted) for _ in range(50)}
    assert len(made) == 50
    for value in made:
        if charset == "words":
            assert re.fullmatch(rb"[a-z-]+", value)
        else:
            assert len(value) == length(wanted)
            assert set(value.decode()) <= set(ALPHABETS[charset])


@given(
    chars=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=2, max_size=95),
    size=st.integers(1, 64),
    classes=CLASS_SETS,
)
def test_what_is_possible_has_one_of_each_class(chars: str, size: int, classes: list[str]) -> None:
    wanted = Generate(alphabet=chars, length=size, classes=classes)
    # One of four rare characters in a text of four takes long, and is told by other tests.
    if impossible(wanted) or (size < 8 and len(classes) > 1):
        return
    value = text.make(wanted).decode()
    assert len(value) == size
    assert set(value) <= set(chars)
    assert all(any(map(CLASSES[name], value)) for name in classes)


def test_four_characters_can_be_one_of_each_class() -> None:
    wanted = Generate(charset="ascii", length=4, classes=["lower", "upper", "digit", "symbol"])
    found = sorted(
        next(name for name in CLASSES if CLASSES[name](char)) for char in text.make(wanted).decode()
    )
    assert found == ["digit", "lower", "symbol", "upper"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Generate(alphabet="aa"), "two different characters"),
        (Generate(classes=["symbol"]), "there is no symbol"),
        (Generate(charset="ascii", length=1, classes=["lower", "upper"]), "can't hold"),
    ],
)
def test_what_cannot_be_is_said(wanted: Generate, words: str) -> None:
    assert words in impossible(wanted)


def test_every_character_comes_about_as_often_as_any_other() -> None:
    wanted = Generate(alphabet="abcd", length=4000)
    counts = Counter(text.make(wanted).decode())
    assert alphabet(wanted) == "abcd"
    # Seven standard deviations: once in 10^11 runs.
    assert all(abs(count - 1000) < 200 for count in counts.values())


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64decode,
    "base64url": base64.urlsafe_b64decode,
    "hex": lambda value: bytes.fromhex(value.decode()),
    "raw": bytes,
}


@pytest.mark.parametrize("encoding", DECODERS)
def test_bytes_come_in_their_encoding(encoding: str) -> None:
    value = text.make(Generate(bytes=33, encoding=encoding))
    assert len(DECODERS[encoding](value)) == 33
