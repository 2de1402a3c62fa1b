"""Jobs with real containers: they run to their end, and no more of them than was asked for."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.cluster.harness import Cluster, Document, service, until

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]


def job(name: str, script: str, *, schedule: Document | None = None, **rules: Any) -> Document:
    wish = service(name, command=["sh", "-c", f"trap 'exit 1' TERM; {script}"])
    wish["spec"].pop("replicas")
    wish["spec"] |= {"mode": "replicated-job", "job": rules}
    if schedule is not None:
        wish["spec"]["schedule"] = schedule
    return wish


def runs(cluster: Cluster, name: str) -> list[Document]:
    """The newest first."""
    found = cluster.find("service", name) or {}
    listed: list[Document] = found.get("status", {}).get("job", {}).get("runs", [])
    return listed


def tasks(cluster: Cluster, name: str) -> list[Document]:
    return [task for task in cluster.items("tasks") if task["spec"]["service"] == name]


def remove(cluster: Cluster, name: str) -> None:
    cluster.ctl("delete", "service", name)
    until(lambda: not cluster.running_of(name, every=True), "its containers are gone")


def test_a_job_completes_a_few_at_a_time_and_its_output_stays(cluster: Cluster) -> None:
    cluster.apply(
        job(
            "shards",
            "echo shard $SKEP_SLOT of run $SKEP_RUN; sleep 1",
            completions=3,
            parallelism=1,
        )
    )
    cluster.ctl("wait", "service/shards", "--for=condition=Complete", "--timeout=120s")
    found = tasks(cluster, "shards")
    assert sorted(task["spec"]["slot"] for task in found) == [1, 2, 3]
    assert {task["status"]["state"] for task in found} == {"Complete"}
    assert {task["status"]["container"].get("exitCode") for task in found} == {0}
    spans = sorted(
        [datetime.fromisoformat(task["status"][key]) for key in ("startedAt", "finishedAt")]
        for task in found
    )
    for before, after in pairwise(spans):
        assert before[1] <= after[0]
    said = cluster.ctl("logs", "service/shards").stdout
    assert all(f"shard {slot} of run 1\n" in said for slot in (1, 2, 3))
    assert not cluster.running_of("shards")
    remove(cluster, "shards")


def test_a_job_that_fails_is_tried_again_and_given_up(cluster: Cluster) -> None:
    cluster.apply(job("broken", "echo no disk >&2; exit 3", backoffLimit=2))
    cluster.ctl("wait", "service/broken", "--for=condition=Failed", "--timeout=120s")
    (run,) = runs(cluster, "broken")
    assert (run["reason"], run["failed"]) == ("BackoffLimitExceeded", 3)
    assert "3 tasks failed, and job.backoffLimit is 2" in run["message"]
    assert "exit code 3" in run["message"]
    assert [task["status"]["container"]["exitCode"] for task in tasks(cluster, "broken")] == [3] * 3
    remove(cluster, "broken")


def test_the_deadline_stops_what_runs(cluster: Cluster) -> None:
    cluster.apply(job("slow", "sleep 1000 & wait", deadline="4s"))
    until(lambda: cluster.running_of("slow"), "it runs")
    cluster.ctl("wait", "service/slow", "--for=condition=Failed", "--timeout=120s")
    assert runs(cluster, "slow")[0]["reason"] == "DeadlineExceeded"
    until(lambda: not cluster.running_of("slow"), "its container has stopped")
    remove(cluster, "slow")


def test_a_killed_manager_neither_loses_a_run_nor_starts_it_twice(cluster: Cluster) -> None:
    cluster.apply(job("steady", "sleep 6", completions=2))
    until(lambda: len(cluster.running_of("steady")) == 2, "both run")
    cluster.kill("manager")
    until(lambda: not cluster.running_of("steady"), "both have ended while nobody looked")
    cluster.start_manager()
    cluster.ctl("wait", "service/steady", "--for=condition=Complete", "--timeout=120s")
    assert len(cluster.running_of("steady", every=True)) == 2
    assert [run["number"] for run in runs(cluster, "steady")] == [1]
    remove(cluster, "steady")


def test_a_global_job_runs_on_the_node_and_is_deleted_when_its_time_is_over(
    cluster: Cluster,
) -> None:
    wish = job("everywhere", "true", ttlAfterFinish="3s")
    wish["spec"]["mode"] = "global-job"
    cluster.apply(wish)
    cluster.ctl("wait", "service/everywhere", "--for=condition=Complete", "--timeout=120s")
    until(lambda: cluster.find("service", "everywhere") is None, "it deleted itself")
    until(lambda: not cluster.running_of("everywhere", every=True), "its containers are gone")


def test_a_schedule_runs_it_each_minute_and_a_request_at_once(cluster: Cluster) -> None:
    cluster.apply(job("minutely", "date", schedule={"cron": "* * * * *"}))
    cluster.ctl("job", "run", "minutely", "--wait", "--timeout", "90s")

    def by_schedule() -> list[Document]:
        return [run for run in runs(cluster, "minutely") if run["cause"] == "Schedule"]

    until(lambda: by_schedule() and by_schedule()[0].get("result"), "its time has come", 100)
    run = by_schedule()[0]
    assert run["result"] == "Complete"
    due = datetime.fromisoformat(run["scheduledAt"])
    assert due.second == due.microsecond == 0
    assert (datetime.fromisoformat(run["startedAt"]) - due).total_seconds() < 5
    remove(cluster, "minutely")
