"""The real kubectl, driven as a user would, against a live manager."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.harness import BIN, Cluster

Document = dict[str, Any]
PROGRAM = shutil.which("kubectl") or ""
PATIENCE = 60.0  # seconds for one command


class Kubectl:
    """Runs kubectl with the kubeconfig that `ctl context export` wrote."""

    def __init__(self, cluster: Cluster, home: Path, context: Path | None = None) -> None:
        self.cluster = cluster
        self.home = home
        self.config = home / "kubeconfig"
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [str(BIN / "ctl"), "context", "export", "--kubeconfig", str(self.config)],
            env=cluster.environment() | ({"SKEP_CONFIG": str(context)} if context else {}),
            check=True,
            capture_output=True,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """With a home of its own: kubectl caches discovery there."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
        return kept | {"HOME": str(self.home), "KUBECONFIG": str(self.config)} | more

    def run(
        self, *words: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *words],
            env=self.environment(**environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def __call__(self, *words: str, stdin: str = "", **environment: str) -> str:
        """What it prints. Raises AssertionError where it fails."""
        done = self.run(*words, stdin=stdin, **environment)
        if done.returncode:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def fails(self, *words: str, stdin: str = "", **environment: str) -> str:
        """What it complains of. Raises AssertionError where it succeeds."""
        done = self.run(*words, stdin=stdin, **environment)
        if not done.returncode:
            raise AssertionError(f"kubectl {' '.join(words)} succeeded:\n{done.stdout}")
        return done.stderr

    def apply(self, *documents: Document, words: tuple[str, ...] = ()) -> str:
        return self("apply", "-f", "-", *words, stdin=manifests(*documents))

    def object(self, *words: str) -> Document:
        found: Document = json.loads(self("get", *words, "-o", "json"))
        return found

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that is to be watched while it runs; end it with `ended`."""
        return subprocess.Popen(
            [PROGRAM, *words],
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def manifests(*documents: Document) -> str:
    return "\n".join(json.dumps(document) for document in documents)


def service(name: str, *, replicas: int | None = 1, **template: Any) -> Document:
    """A service whose containers run until they are stopped."""
    spec: Document = {"template": {"image": "demo/web:1", **template}}
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }
