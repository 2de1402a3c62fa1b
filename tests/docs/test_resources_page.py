"""What docs/resources.md says works, with a device that any Linux has in the modem's place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.harness import IMAGE, Cluster
from tests.cluster.test_template import Inside
from tests.docs.markdown import ROOT, Block, blocks
from tests.docs.typed import typed

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

PAGE = blocks(ROOT / "docs" / "resources.md")
(STARTED,) = (block for block in PAGE if block.info == "not-run")
(MANIFEST,) = (block for block in PAGE if block.language == "yaml")
STEPS = [block for block in PAGE if block.language == "sh" and block is not STARTED]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Cluster]:
    words = STARTED.text.replace("/dev/ttyUSB0", "/dev/fuse").split()
    assert words[:2] == ["skepd", "agent"]
    it = Cluster(tmp_path_factory.mktemp("cluster"), agent_options=tuple(words[2:]))
    try:
        it.start()
        yield it
    finally:
        it.stop()


def test_the_service_gets_its_device(cluster: Cluster) -> None:
    wish = yaml.safe_load(MANIFEST.text)
    wish["spec"]["template"] |= {"image": IMAGE, "command": ["sleep", "100000"], "init": True}
    cluster.apply(wish)
    (task,) = cluster.until_running("gateway", 1)
    inside = Inside(cluster, task)
    assert inside.run("ls /dev/modem") == "/dev/modem"
    assert inside.environment()["DOCKER_RESOURCE_MODEM"] == "/dev/fuse"
    name = task["metadata"]["name"]
    assert "modem /dev/fuse" in cluster.ctl("describe", "task", name).stdout
    shown = cluster.ctl("describe", "nodes").stdout
    assert "gpu: 0 of 2 used; free: GPU-5a1c, GPU-77d0" in shown
    assert "modem: 1 of 1 used; used: /dev/fuse" in shown
    assert "licence: 1 of 3 used" in shown


@pytest.mark.parametrize("block", STEPS, ids=str)
def test_the_page_does_what_it_says(block: Block, cluster: Cluster) -> None:
    typed(block, cluster, ROOT, timeout=60)
