"""What docs/sealing.md tells a reader to type works, in a repository, in the order it stands in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster
from tests.docs.markdown import ROOT, Block
from tests.docs.test_readme import saved_as, steps
from tests.docs.typed import typed

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.engine,
    pytest.mark.etcd,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]

PAGE = ROOT / "docs" / "sealing.md"
WHO = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "reader"), ("EMAIL", "reader@example.com"))
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk")


@pytest.mark.parametrize("block", steps(PAGE), ids=str)
def test_the_page_does_what_it_says(block: Block, cluster: Cluster, desk: Path) -> None:
    if block.language == "yaml":
        (desk / saved_as(block)).write_text(block.text)
        return
    environment = WHO | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "XDG_CACHE_HOME": str(desk.parent / "cache"),
    }
    printed = typed(block, cluster, desk, environment=environment, timeout=60)
    assert "staple" not in printed


def test_nothing_of_it_is_in_the_repository(cluster: Cluster, desk: Path) -> None:
    history = subprocess.run(
        ["git", "log", "-p", "--all"], cwd=desk, capture_output=True, text=True, check=True
    ).stdout
    assert "skep-seal:v1:" in history and "staple" not in history
    cluster.ctl("delete", "secret", "db")
