"""Each row of docs/kubectl.md that says "works" is proven by tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT

PAGE = ROOT / "docs" / "kubectl.md"
TESTS = ROOT / "tests" / "kubectl"
_NAMED = re.compile(r"`(test_\w+)`")
_DEFINED = re.compile(r"^def (test_\w+)\(", re.MULTILINE)


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "verb"]


def defined() -> set[str]:
    pages: list[Path] = sorted(TESTS.glob("test_*.py"))
    return {name for page in pages for name in _DEFINED.findall(page.read_text())}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_says_whether_it_works_and_is_proven_or_explained(row: list[str]) -> None:
    verb, works, why, tests = row
    assert works in ("works", "does not")
    named = set(_NAMED.findall(tests))
    if works == "works":
        assert named, f"{verb}: which test proves it?"
        assert named <= defined()
    else:
        assert why, f"{verb}: why not?"
