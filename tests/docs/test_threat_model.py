"""docs/threat-model.md: each thief has a chapter, and the tests that it names exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.markdown import ROOT

TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[^`:]+\.py)::([^`]+)`", TEXT)))
THIEVES = (
    "etcd's disk",
    "A backup",
    "A manager",
    "A worker",
    "A container on it",
    "A client's context",
    "A git repository",
    "A join token",
    "The key provider's socket",
)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[f"{f}::{n}" for f, n in NAMED])
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    defined = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in defined


def test_nothing_that_looks_like_a_test_is_named_otherwise() -> None:
    assert len(NAMED) > 30
    assert len(re.findall(r"tests/\S+", TEXT)) == len(
        re.findall(r"`tests/[^`:]+\.py::[^`]+`", TEXT)
    )


@pytest.mark.parametrize("thief", THIEVES)
def test_each_thief_is_said_to_have_something_and_not_everything(thief: str) -> None:
    _, _, after = TEXT.partition(f"# {thief}\n")
    chapter = re.split(r"\n#+ ", after)[0]
    assert chapter.strip(), "there is a chapter"
    if "as etcd's disk" not in chapter and "everything" not in chapter:
        assert "- Has" in chapter and "Has not" in chapter
