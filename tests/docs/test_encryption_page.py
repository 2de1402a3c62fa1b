"""What docs/encryption.md tells a reader to type works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.harness import Cluster
from tests.docs.markdown import ROOT, Block
from tests.docs.test_readme import steps
from tests.docs.typed import typed

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


@pytest.mark.parametrize("block", steps(ROOT / "docs" / "encryption.md"), ids=str)
def test_the_page_does_what_it_says(block: Block, cluster: Cluster, tmp_path: Path) -> None:
    typed(block, cluster, tmp_path, timeout=60)
