"""What docs/secrets-generated.md tells a reader to type works, and its providers are valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from controllers.fetcher.definitions import parse
from tests.cluster.harness import Cluster
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.test_readme import saved_as, steps
from tests.docs.typed import typed

PAGE = ROOT / "docs" / "secrets-generated.md"
LOCAL = {  # what is not on this machine
    "      ca: /etc/skep/vault-ca.pem\n": "",
    "/usr/local/bin/hsm-get": "/bin/cat",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk")


@pytest.mark.cluster
@pytest.mark.engine
@pytest.mark.etcd
@pytest.mark.parametrize("block", steps(PAGE), ids=str)
def test_the_page_does_what_it_says(block: Block, cluster: Cluster, desk: Path) -> None:
    if block.language == "yaml":
        (desk / saved_as(block)).write_text(block.text)
        return
    typed(block, cluster, desk)


def test_the_providers_of_the_page_are_valid() -> None:
    (block,) = [each for each in blocks(PAGE) if each.text.startswith("providers:")]
    text = block.text
    for there, here in LOCAL.items():
        assert there in text
        text = text.replace(there, here)
    assert [each.name for each in parse(text.encode(), "page")] == [
        "corp-vault",
        "machine-files",
        "hsm",
    ]
