"""What docs/secrets.md tells a reader to type works, in the order in which it stands there."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.harness import BIN, Cluster
from tests.docs.markdown import ROOT, Block, blocks

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

STEPS = [
    block
    for block in blocks(ROOT / "docs" / "secrets.md")
    if block.language == "sh" and block.info != "not-run"
]


@pytest.mark.parametrize("block", STEPS, ids=str)
def test_the_page_does_what_it_says(block: Block, cluster: Cluster) -> None:
    environment = cluster.environment()
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", block.text],
        env=environment | {"PATH": f"{BIN}:{environment['PATH']}"},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
