"""What docs/secrets.md tells a reader to type works, in the order in which it stands there."""

from __future__ import annotations

import pytest

from tests.cluster.harness import Cluster
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.typed import typed

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

STEPS = [
    block
    for block in blocks(ROOT / "docs" / "secrets.md")
    if block.language == "sh" and block.info != "not-run"
]


@pytest.mark.parametrize("block", STEPS, ids=str)
def test_the_page_does_what_it_says(block: Block, cluster: Cluster) -> None:
    typed(block, cluster, ROOT)
