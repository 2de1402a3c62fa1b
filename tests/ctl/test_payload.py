from __future__ import annotations

from pathlib import Path

import pytest

from api.ctl.errors import CtlError, Usage
from api.ctl.payload import Sources, gather, texts


def collect(sources: Sources, stdin: bytes = b"", typed: str = "") -> dict[str, bytes]:
    return gather(sources, read_stdin=lambda: stdin, ask=lambda key: typed)


def test_files_give_their_bytes_under_their_name_or_a_key(tmp_path: Path) -> None:
    (tmp_path / "tls.key").write_bytes(b"\x00\xff\n")
    both = [str(tmp_path / "tls.key"), f"other={tmp_path / 'tls.key'}"]
    assert collect(Sources(files=both)) == {"tls.key": b"\x00\xff\n", "other": b"\x00\xff\n"}


def test_a_directory_gives_a_key_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    (tmp_path / "deeper").mkdir()
    assert collect(Sources(files=[str(tmp_path)])) == {"a": b"1", "b": b"2"}


def test_literals_keep_all_after_the_first_equals_sign() -> None:
    assert collect(Sources(literals=["url=a=b&c=d", "empty="])) == {
        "url": b"a=b&c=d",
        "empty": b"",
    }


def test_stdin_is_taken_byte_for_byte() -> None:
    assert collect(Sources(stdin="k"), stdin=b"x\n\x00") == {"k": b"x\n\x00"}


def test_a_prompt_gives_what_was_typed() -> None:
    assert collect(Sources(prompts=["k"]), typed="pässword") == {"k": "pässword".encode()}


def test_an_env_file_gives_its_lines(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# comment\n\nA=1\nB = two words \n")
    assert collect(Sources(env_files=[str(tmp_path / ".env")])) == {"A": b"1", "B": b" two words "}


def test_an_env_file_that_is_none_says_where(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nhunter2\n")
    with pytest.raises(CtlError, match=r"\.env:2: not of the form KEY=VALUE$"):
        collect(Sources(env_files=[str(tmp_path / ".env")]))


@pytest.mark.parametrize(
    "sources",
    [
        Sources(),
        Sources(literals=["hunter2"]),
        Sources(literals=["a=1", "a=2"]),
        Sources(literals=["a/b=1"]),
        Sources(literals=["..=1"]),
        Sources(files=["k="]),
    ],
)
def test_what_makes_no_sense_is_refused_without_repeating_a_value(sources: Sources) -> None:
    with pytest.raises(Usage) as refusal:
        collect(sources)
    assert "hunter2" not in str(refusal.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CtlError, match="/no/such/file can't be read: No such file"):
        collect(Sources(files=["k=/no/such/file"]))


def test_a_config_holds_text_as_text() -> None:
    assert texts({"a": b"text", "b": b"\xff"}) == ({"a": "text"}, {"b": b"\xff"})
