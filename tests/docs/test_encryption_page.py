"""What docs/encryption.md tells a reader to type works."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.harness import BIN, Cluster
from tests.docs.markdown import ROOT, Block
from tests.docs.test_readme import steps

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


@pytest.mark.parametrize("block", steps(ROOT / "docs" / "encryption.md"), ids=str)
def test_the_page_does_what_it_says(block: Block, cluster: Cluster) -> None:
    environment = cluster.environment()
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", block.text],
        env=environment | {"PATH": f"{BIN}:{environment['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
