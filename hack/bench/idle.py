"""What one machine's cluster costs while nothing happens: CPU and memory of each part.

    hack/bench/idle [--quick]

A manager with its own etcd and an agent with the machine's Docker Engine, no services; then the
same with ten containers running. CPU is of one core, over a minute after half a minute of rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import local
from measure import Row, report, row, say, version_of

IMAGE = "skep/busybox:test"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten seconds instead of a minute")
    options = parser.parse_args()
    rest, seconds = (5.0, 10.0) if options.quick else (30.0, 60.0)
    with local.engine(), local.manager() as cluster:
        local.add_agent(cluster)
        rows = idle(cluster, "no service", rest, seconds)
        local.image("busybox")
        cluster.ctl("apply", "-f", "-", stdin=json.dumps(service(10)))
        cluster.ctl("wait", "service", "idle", "--for=condition=Available", "--timeout=120s")
        rows += idle(cluster, "10 containers", rest, seconds)
        cluster.ctl("delete", "service", "idle", "--wait")
    versions = {
        "skep": version_of(str(local.BIN / "skepd"), "--version"),
        "etcd": version_of("etcd", "--version"),
        "python": sys.version.partition(" ")[0],
    }
    report("idle", rows, versions, quick=options.quick)


def idle(cluster: local.Cluster, case: str, rest: float, seconds: float) -> list[Row]:
    say(f"{case}: resting {rest:.0f} s, measuring {seconds:.0f} s")
    time.sleep(rest)
    before, start = cluster.usage(), time.monotonic()
    time.sleep(seconds)
    after, took = cluster.usage(), time.monotonic() - start
    rows = []
    for name in after:
        spent = 100 * (after[name].cpu - before[name].cpu) / took
        rows.append(row(f"{case}: {name} CPU", "%", [spent]))
        rows.append(row(f"{case}: {name} resident", "MiB", [after[name].rss / 2**20]))
    return rows


def service(replicas: int) -> dict[str, object]:
    return {
        "apiVersion": "skep.dev/v1",
        "kind": "Service",
        "metadata": {"name": "idle"},
        "spec": {
            "replicas": replicas,
            "template": {"image": IMAGE, "command": ["sleep", "100000"], "init": True},
        },
    }


if __name__ == "__main__":
    main()
