"""Files that change under their readers: all at once, whoever dies in between."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from controllers.agent import generations


class Text:
    """A content; `fails` dies before it is written."""

    def __init__(self, files: Mapping[str, bytes], *, fails: bool = False) -> None:
        self.files = files
        self.fails = fails

    def put(self, at: Path) -> None:
        if self.fails:
            raise OSError("killed")
        if set(self.files) != {""}:
            at.mkdir()
        for name, data in self.files.items():
            (at / name if name else at).write_bytes(data)


def contents(value: str, *, fails: bool = False) -> dict[str, Text]:
    data = value.encode() * 100
    return {"0": Text({"": data}), "1": Text({"a": data, "b": data}, fails=fails)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "task" / "tree"
    (tree / "deep").mkdir(parents=True)
    generations.swap(tree, contents("x"))
    generations.link(tree, tree / "one", "0")
    generations.link(tree, tree / "deep" / "many", "1")
    return tree


def seen(tree: Path) -> set[bytes]:
    return {(tree / name).read_bytes() for name in ("one", "deep/many/a", "deep/many/b")}


def hidden(tree: Path) -> list[str]:
    return sorted(each.name for each in tree.iterdir() if each.name.startswith(".."))


def test_all_change_together_and_the_old_one_goes(tree: Path) -> None:
    assert seen(tree) == {b"x" * 100}
    assert generations.swap(tree, contents("y"))
    assert seen(tree) == {b"y" * 100}
    assert not generations.swap(tree, contents("y")), "nothing to do"
    assert generations.tidy(tree)
    assert hidden(tree) == ["..2", "..data"]
    assert [each.name for each in tree.parent.iterdir()] == ["tree"]


def test_who_has_the_old_file_open_reads_it_to_its_end(tree: Path) -> None:
    with (tree / "one").open("rb") as reader:
        generations.swap(tree, contents("y"))
        assert not generations.tidy(tree), "somebody reads it"
        assert hidden(tree) == ["..2", "..data"], "but nobody else finds it"
        assert reader.read() == b"x" * 100
    assert generations.tidy(tree)
    assert [each.name for each in tree.parent.iterdir()] == ["tree"]


def test_an_agent_killed_at_any_step_leaves_one_whole_version(tree: Path) -> None:
    with pytest.raises(OSError, match="killed"):
        generations.swap(tree, contents("y", fails=True))
    assert seen(tree) == {b"x" * 100}
    (tree / "..next").symlink_to("..2")  # and before the rename, too
    assert generations.swap(tree, contents("y"))
    assert seen(tree) == {b"y" * 100}
    assert generations.tidy(tree)
    assert hidden(tree) == ["..3", "..data"]


def test_readers_never_see_half_of_it(tree: Path) -> None:
    """Nor nothing, nor an old file after a new one."""
    over = threading.Event()
    wrong: list[str] = []
    newest = 0

    def read() -> None:
        nonlocal newest
        while not over.is_set():
            for name in ("one", "deep/many/a", "deep/many/b"):
                data = (tree / name).read_bytes()
                value = int(data[:4]) if data[:1] != b"x" else 0
                if len({data[i : i + 4] for i in range(0, len(data), 4)}) != 1:
                    wrong.append(f"torn: {data[:20]!r}")
                if value < newest:
                    wrong.append(f"{name} is {value} after {newest}")
                newest = value

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 200):
            generations.swap(tree, contents(f"{number:04d}"))
            os.sched_yield()
    finally:
        over.set()
        reader.join()
    assert wrong == []
    assert newest > 0
