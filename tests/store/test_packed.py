"""Large values, made smaller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.store.keys import object_key
from api.store.packed import LARGE, pack, unpack
from api.types.kinds import CONFIG

CONFIG_KEY = object_key(CONFIG, "default", "large")


@given(st.binary(max_size=64) | st.binary(max_size=8).map(lambda end: b"\0z" + end))
def test_what_was_packed_comes_out_again(value: bytes) -> None:
    for each in (value, value + bytes(LARGE)):
        assert unpack(pack(CONFIG_KEY, each)) == each
        assert unpack(pack("/other", each)) == each


def test_only_what_is_large_is_changed() -> None:
    assert pack(CONFIG_KEY, b"{}") == b"{}"
    text = b'{"data": {"a": "' + b"\\n" * 1_024_000 + b'"}}'
    assert pack("/other", text) == text
    assert len(pack(CONFIG_KEY, text)) < LARGE < len(text)
