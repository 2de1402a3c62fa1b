"""Real containers that end again and again, and one that does so once."""

from __future__ import annotations

import pytest

from tests.cluster.harness import Cluster, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd, pytest.mark.deadline(180)]


def test_a_crash_loop_slows_down_says_why_and_ends_when_it_is_mended(cluster: Cluster) -> None:
    broken = service("broken", env={"WHY": "no license found"})
    broken["spec"]["template"]["command"] = ["sh", "-c", 'echo "$WHY"; exit 3']
    cluster.apply(broken)
    waits = "4 in a row ended so, the next try is at 20"  # for four seconds
    until(lambda: waits in cluster.ctl("describe", "service", "broken").stdout, "it waits")
    shown = cluster.ctl("describe", "service", "broken").stdout
    assert "CrashLoop" in shown
    assert "exit code 3; 4 in a row" in shown
    assert shown.rstrip().endswith("no license found")

    # Mended, it does not wait for the time of the next try.
    until(
        lambda: "6 in a row ended so, the next" in str(cluster.find("service", "broken")),
        "it waits for long",
    )
    cluster.apply(service("broken"))
    cluster.until_running("broken", 1, limit=10)


def test_a_container_that_is_killed_once_is_back_at_once(cluster: Cluster) -> None:
    cluster.apply(service("once", replicas=2))
    cluster.until_running("once", 2)
    victim = sorted(cluster.running_of("once"))[0]
    cluster.docker("kill", victim)
    until(lambda: len(cluster.running_of("once") - {victim}) == 2, "another one runs", 20)
    found = cluster.find("service", "once") or {}
    assert "CrashLoop" not in str(found["status"])
