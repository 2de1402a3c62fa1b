"""What a reader types, typed: a page's block, run by a shell as it stands there."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.harness import BIN, Cluster
from tests.docs.markdown import Block


def typed(
    block: Block,
    cluster: Cluster,
    desk: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = 200,
    within: Sequence[str] = (),
) -> str:
    """What it printed; `within` is put in front of the shell. Raises AssertionError where a command
    of it fails."""
    given = cluster.environment() | dict(environment or {})
    done = subprocess.run(
        [*within, "bash", "-euxo", "pipefail", "-c", block.text],
        env=given | {"PATH": f"{BIN}:{given['PATH']}"},
        cwd=desk,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout
