"""Values from files and programs, and what nobody gets out of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from controllers.fetcher.command import Command
from controllers.fetcher.contract import FetchError, Wanted
from controllers.fetcher.definitions import FileRoot, Program
from controllers.fetcher.files import Files, read_below
from controllers.fetcher.values import mapped

CANARY = "canary-77aa10"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    below = tmp_path / "shop"
    (below / "db").mkdir(parents=True)
    (below / "db" / "password").write_text("p")
    (below / "db" / "user").write_text("u")
    (below / "db" / ".hidden").write_text("h")
    (below / "token").write_text("t")
    (tmp_path / "outside").write_text(CANARY)
    (below / "link").symlink_to(tmp_path / "outside")
    (below / "linked").symlink_to(tmp_path)
    (below / "db" / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(below / "fifo")
    return tmp_path


async def test_a_file_is_a_value_and_a_directory_several(root: Path) -> None:
    files = Files(FileRoot(directory=f"{root}/{{namespace}}"))
    assert await files.fetch(Wanted("shop", "x", "token")) == {"token": b"t"}
    assert await files.fetch(Wanted("shop", "x", "db")) == {"password": b"p", "user": b"u"}
    with pytest.raises(FetchError, match="directory can't be opened"):
        await files.fetch(Wanted("blog", "x", "token"))


@pytest.mark.parametrize(
    "path",
    ["../outside", "db/../../outside", "link", "linked/outside", "db/link", "/etc/passwd",
     "db//user", "./token", "token/x", "nothing", "fifo", "..", "."],
)  # fmt: skip
def test_nothing_beside_the_directory_is_read(root: Path, path: str) -> None:
    with pytest.raises(FetchError) as caught:
        read_below(root / "shop", path)
    assert CANARY not in str(caught.value)


def test_what_is_too_large_is_said(root: Path) -> None:
    (root / "shop" / "large").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(FetchError, match="too large"):
        read_below(root / "shop", "large")


def shell(script: str, **fields: str) -> Command:
    return Command(Program(argv=["/bin/sh", "-c", script], **fields))


ASK = Wanted("shop", "db", "")


async def test_a_program_prints_an_object_or_one_value() -> None:
    script = """printf '{"password": "p", "port": 5432, "none": null}'"""
    assert await shell(script).fetch(ASK) == {"password": b"p", "port": b"5432"}
    assert await shell("echo p", format="text").fetch(ASK) == {"value": b"p"}
    assert await shell("echo p", format="raw", key="k").fetch(ASK) == {"k": b"p\n"}


async def test_it_is_told_for_whom_and_nothing_of_the_managers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    found = await shell("env | sort; ls -l /proc/self/fd", format="text").fetch(ASK)
    told = found["value"].decode()
    assert "SKEP_NAMESPACE=shop\nSKEP_SECRET=db" in told
    assert CANARY not in told


async def test_its_complaints_are_not_repeated() -> None:
    with pytest.raises(FetchError, match="exit code 3") as caught:
        await shell(f"echo {CANARY}; echo {CANARY} >&2; exit 3").fetch(ASK)
    assert CANARY not in str(caught.value)
    with pytest.raises(FetchError, match="one JSON object") as caught:
        await shell(f"echo {CANARY}").fetch(ASK)
    assert CANARY not in str(caught.value)


async def test_it_is_killed_with_its_children_when_it_takes_too_long(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(FetchError, match="did not end within 300ms"):
        await shell(f"sleep 1000 & echo $! > {pid}; wait", timeout="300ms").fetch(ASK)
    assert time.monotonic() - began < 30
    assert is_over(pid.read_text().strip())


def is_over(pid: str) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


async def test_it_is_killed_when_it_prints_too_much() -> None:
    with pytest.raises(FetchError, match="more than a secret can hold"):
        await shell("yes").fetch(ASK)


async def test_a_program_that_is_gone_is_said() -> None:
    with pytest.raises(FetchError, match="can't be started"):
        await Command(Program(argv=["/nothing"])).fetch(ASK)


def test_keys_are_mapped_and_collisions_refused() -> None:
    found = {"a": b"1", "b": b"2"}
    assert mapped(found, {}, []) == found
    assert mapped(found, {"x": "a", "y": "a"}, ["b"]) == {"x": b"1", "y": b"1"}
    for keys, taken, words in (
        ({"x": "c"}, [], "it has no c; there is a, b"),
        ({}, ["b"], "from elsewhere"),
    ):
        with pytest.raises(FetchError, match=words):
            mapped(found, keys, taken)
    with pytest.raises(FetchError, match="can't be a secret's key"):
        mapped({"a/b": b"1"}, {}, [])
    with pytest.raises(FetchError, match="nothing in it"):
        mapped({}, {}, [])
