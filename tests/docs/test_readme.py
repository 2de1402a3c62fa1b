"""What the README tells a reader to type works, in the order in which it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, until
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.typed import typed

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

README = ROOT / "README.md"
_SAVE = re.compile(r"[Ss]ave (?:it|this) as `([^`]+)`")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader types, with the files that the page has saved so far."""
    return tmp_path_factory.mktemp("desk")


def steps(page: Path = README) -> list[Block]:
    """What is run, and what is saved under a name."""
    found = []
    for block in blocks(page):
        if block.language == "sh" and block.info != "not-run":
            found.append(block)
        if block.language == "yaml" and saved_as(block):
            found.append(block)
    return found


def saved_as(block: Block) -> str:
    """The name that the text right after the block gives it."""
    after = block.path.read_text().splitlines()[block.line + block.text.count("\n") :]
    named = _SAVE.search(" ".join(after[1:5]))
    return named[1] if named else ""


@pytest.mark.parametrize("block", steps(), ids=str)
def test_the_readme_does_what_it_says(block: Block, cluster: Cluster, desk: Path) -> None:
    if block.language == "yaml":
        (desk / saved_as(block)).write_text(block.text)
        return
    typed(block, cluster, desk)


def test_the_readme_leaves_nothing_behind(cluster: Cluster) -> None:
    until(lambda: not cluster.containers(every=True), "its containers are gone")
