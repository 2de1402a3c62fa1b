"""Which files are read, and what is refused unread."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from api.manifest import Source, load, read_paths, read_stream, source


def names(sources: list[Source], root: Path) -> list[str]:
    return [str(Path(each.name).relative_to(root)) for each in sources]


def words(sources: list[Source]) -> list[str]:
    return [str(problem) for problem in load(sources).problems]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.yaml", "a.yml", "c.json", "d.txt", ".hidden.yaml", "b.yaml~", "#b.yaml#", ".b.yaml.swp",
        "sub/z.yaml", "sub/deeper/y.yaml", "asub/x.yaml", ".git/w.yaml",
    ):  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return tmp_path


def test_a_directory_gives_its_manifests_sorted(tree: Path) -> None:
    assert names(read_paths([tree]), tree) == ["a.yml", "b.yaml", "c.json"]


def test_recursion_is_asked_for(tree: Path) -> None:
    assert names(read_paths([tree], recursive=True), tree) == [
        "a.yml",
        "b.yaml",
        "c.json",
        "asub/x.yaml",
        "sub/z.yaml",
        "sub/deeper/y.yaml",
    ]


def test_loops_of_links_end(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "sub" / "self").symlink_to(tree / "sub" / "self")
    (tree / "link.yaml").symlink_to(tree / "b.yaml")
    found = names(read_paths([tree], recursive=True), tree)
    assert len(found) == 6


def test_a_link_to_nowhere_is_said(tree: Path) -> None:
    (tree / "gone.yaml").symlink_to(tree / "nowhere")
    assert "gone.yaml: there is no such file" in words(read_paths([tree]))[0]


def test_a_file_named_twice_is_read_once(tree: Path) -> None:
    assert len(read_paths([tree / "b.yaml", tree, tree / "b.yaml"])) == 3


def test_a_named_file_needs_no_suffix(tree: Path) -> None:
    (tree / "d.txt").write_text("a: 1")
    assert load(read_paths([tree / "d.txt"])).objects == [{"a": 1}]


def test_what_is_not_there_does_not_hide_the_rest(tree: Path) -> None:
    (tree / "b.yaml").write_text("a: b: c")
    found = words(read_paths([tree / "nope.yaml", tree / "b.yaml"]))
    assert "nope.yaml: there is no such file or directory" in found[0]
    assert "b.yaml:1:5: " in found[1]


def test_a_directory_without_manifests_is_a_problem(tmp_path: Path) -> None:
    (only,) = words(read_paths([tmp_path]))
    assert "has no manifests (.yaml, .yml, .json); -R looks into the directories in it too" in only


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tree: Path) -> None:
    (tree / "b.yaml").chmod(0)
    assert "permission denied" in words(read_paths([tree / "b.yaml"]))[0]


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(50_000_000)
    (only,) = words(read_paths([file]))
    assert "is 50.0 MB, and 10.0 MB is the limit for one file; split it" in only
    assert read_paths([file], max_bytes=60_000_000)[0].problems != ()  # of NULs: it was read


def test_a_stream_is_read_up_to_the_limit() -> None:
    assert read_stream(io.BytesIO(b"a: 1"), "stdin").text == "a: 1"
    (only,) = words([read_stream(io.BytesIO(b"x" * 101), "stdin", max_bytes=100)])
    assert "stdin: is larger than 100 bytes, the limit for one file" in only
    assert read_paths(["-"], stdin=io.BytesIO(b"a: 1"))[0] == Source("stdin", "a: 1")


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a: 1\n" * 30_000,))
    writer.start()
    (found,) = read_paths([pipe])
    writer.join()
    assert len(found.text) == 150_000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xff\xfea\0", "f:1:1: is UTF-16; save it as UTF-8"),
        (b"a: 1\nb: \0\n", "f:2:1: holds a NUL byte, which no manifest has; is it a binary file?"),
        (b"a: 1\nb: \xe9\n", "f:2:4: is not UTF-8: byte 0xe9 can't stand here; save it as UTF-8"),
    ],
)
def test_bytes_that_are_no_text(data: bytes, expected: str) -> None:
    assert words([source("f", data)]) == [expected]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert source("f", b"\xef\xbb\xbfa: 1").text == "a: 1"
