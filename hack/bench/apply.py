"""Documents applied from a directory: time, and memory of `ctl`, the manager and its etcd.

    hack/bench/apply            100, 1,000 and 10,000 documents, three runs each
    hack/bench/apply --quick    10, 100 and 1,000 documents, one run each

A directory holds one document a file: services of no replicas (so that nothing but applying is
measured), configs and secrets, of ten namespaces. Each size is applied to a new cluster: first all
of it is new, then nothing has changed, then one document in ten has. Times are those of the whole
command as its user waits for it, Python's start included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import local
from measure import Row, report, row, say, version_of

NAMESPACES = 10
LIMIT = 600  # seconds for one command


@dataclass
class Run:
    new: float  # seconds
    unchanged: float
    changed: float
    client: int  # bytes, ctl's most
    manager: int  # bytes, after
    etcd: int


def documents(directory: Path, count: int, generation: int = 0) -> None:
    """Writes them. In another generation, every tenth is another."""
    directory.mkdir(exist_ok=True)
    for number in range(NAMESPACES):
        (directory / f"00-namespace-{number}.yaml").write_text(
            f"apiVersion: skep.dev/v1\nkind: Namespace\nmetadata: {{name: bench-{number}}}\n"
        )
    for number in range(count - NAMESPACES):
        changed = generation if number % 10 == 0 else 0
        kind = ("service", "service", "config", "secret")[number % 4]
        (directory / f"{kind}-{number}.yaml").write_text(document(kind, number, changed))


def document(kind: str, number: int, generation: int) -> str:
    head = f"""\
apiVersion: skep.dev/v1
kind: {kind.capitalize()}
metadata:
  name: {kind}-{number}
  namespace: bench-{number % NAMESPACES}
  labels: {{app: bench, tier: t{number % 3}}}
"""
    if kind == "config":
        return f"{head}data:\n  settings.ini: |\n    number = {number}\n    turn = {generation}\n"
    if kind == "secret":
        return f"{head}stringData:\n  password: of-{number}-{generation}\n"
    return f"""{head}spec:
  replicas: 0
  template:
    image: registry.example/app:{generation}
    command: [serve, --port, "8080"]
    env: {{LOG_LEVEL: info, NUMBER: "{number}"}}
    resources:
      reservations: {{cpus: 250m, memory: 64Mi}}
      limits: {{memory: 256Mi}}
    healthcheck: {{command: [check], interval: 5s}}
  placement:
    constraints: [node.labels.zone == a]
  update: {{parallelism: 2, order: start-first}}
"""


def apply(it: local.Cluster, directory: Path) -> tuple[float, int]:
    """Seconds, and the most memory that `ctl` held. Raises RuntimeError."""
    start = time.monotonic()
    process = subprocess.Popen(
        [str(local.BIN / "ctl"), "apply", "-f", str(directory)],
        env={**os.environ, "SKEP_CONFIG": str(it.data / "admin.yaml")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    words = process.stderr.read() if process.stderr else b""
    _, status, spent = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    if process.returncode:
        raise RuntimeError(f"ctl apply failed: {words.decode(errors='replace')[-2000:]}")
    return seconds, spent.ru_maxrss * 1024


def measure(count: int) -> Run:
    with local.manager() as it:
        directory = Path(tempfile.mkdtemp(prefix="skep-apply-"))
        try:
            documents(directory, count)
            new, client = apply(it, directory)
            unchanged, _ = apply(it, directory)
            documents(directory, count, generation=1)
            changed, _ = apply(it, directory)
        finally:
            shutil.rmtree(directory)
        used = it.usage()
    say(f"{count:,} documents: new {new:.2f} s, unchanged {unchanged:.2f} s, 10 % {changed:.2f} s")
    return Run(new, unchanged, changed, client, used["manager"].rss, used["etcd"].rss)


def rows(runs: dict[int, list[Run]]) -> list[Row]:
    found = []
    for count, measured in runs.items():
        name = f"{count:,} documents"
        found += [
            row(f"{name}, all new", "s", [run.new for run in measured]),
            row(f"{name}, none changed", "s", [run.unchanged for run in measured]),
            row(f"{name}, one in ten changed", "s", [run.changed for run in measured]),
            row(f"{name}, ctl at most", "MiB", [run.client / 2**20 for run in measured]),
            row(f"{name}, manager after", "MiB", [run.manager / 2**20 for run in measured]),
            row(f"{name}, etcd after", "MiB", [run.etcd / 2**20 for run in measured]),
        ]
    small, large = sorted(runs)[-2:]
    growth = [
        (big.new / large) / (little.new / small)
        for big, little in zip(runs[large], runs[small], strict=True)
    ]
    found.append(row(f"cost a document, {large:,} beside {small:,}", "×", growth, goal=1.2))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller, and one run each")
    options = parser.parse_args()
    sizes = (10, 100, 1_000) if options.quick else (100, 1_000, 10_000)
    turns = 1 if options.quick else 3
    runs: dict[int, list[Run]] = {size: [] for size in sizes}
    say("warming up")
    measure(sizes[0])
    for _ in range(turns):
        for size in sizes:
            runs[size].append(measure(size))
    versions = {
        "skep": version_of(str(local.BIN / "skepd"), "--version"),
        "etcd": version_of("etcd", "--version"),
        "python": sys.version.partition(" ")[0],
    }
    report("apply", rows(runs), versions, quick=options.quick)


if __name__ == "__main__":
    main()
