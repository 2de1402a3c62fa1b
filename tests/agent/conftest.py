from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.ground import Ground

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def busybox() -> None:
    subprocess.run([str(ROOT / "hack/images/build"), "busybox"], check=True, capture_output=True)


@pytest.fixture(
    params=[
        "simulated",
        pytest.param("docker", marks=pytest.mark.engine),
        pytest.param("docker, its network", marks=pytest.mark.engine),
    ]
)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    kind, _, engine_network = request.param.partition(", ")
    if kind == "docker":
        request.getfixturevalue("busybox")
    it = Ground(kind, tmp_path, engine_network=bool(engine_network))
    try:
        yield it
    finally:
        await it.close()


@pytest.fixture
def port() -> int:
    """One that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])
