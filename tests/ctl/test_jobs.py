"""Jobs as people see them: run, waited for, described, run again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.harness import until
from tests.ctl.objects import Document, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(60)]


def job(name: str, script: str, *, schedule: Document | None = None, **rules: Any) -> Document:
    wish = service(name, script)
    wish["spec"].pop("replicas")
    wish["spec"] |= {"mode": "replicated-job", "job": rules}
    if schedule is not None:
        wish["spec"]["schedule"] = schedule
    return wish


def test_a_job_completes_and_can_be_waited_for(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(job("five", "echo done", completions=5)))
    ctl("wait", "service/five", "--for=condition=Complete", "--timeout=30s")
    row = ctl("get", "services", "-o", "wide").rows[1]
    assert row[:3] == ["five", "replicated-job", "5/5"]
    assert row[-1] == "Complete"
    assert ctl("logs", "service/five").out.count("done") == 5


def test_a_failed_job_says_what_its_task_said(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(job("bad", "exit 3", backoffLimit=1)))
    ctl("wait", "service/bad", "--for=condition=Failed", "--timeout=40s")
    described = ctl("describe", "service", "bad").out
    assert "BackoffLimitExceeded" in described
    assert "2 tasks failed, and job.backoffLimit is 1" in described
    assert ctl("get", "services", "-o", "wide").rows[1][-1] == "Failed"
    assert f"job {ctl.namespace}/bad: run 1: 0/1 completed; 2 tasks failed" in ctl("status").out


def test_a_job_runs_again_when_it_is_asked_for(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(job("again", "echo done")))
    done = ctl("job", "run", "again", "--wait", "--timeout=40s")
    assert "service/again is to run" in done.out
    lines = ctl("describe", "service", "again").lines
    start = lines.index("Runs:")
    assert [line.split()[:2] for line in lines[start + 2 : start + 4]] == [
        ["2", "Complete"],
        ["1", "Complete"],
    ]


def test_a_run_that_fails_is_an_error_of_who_waits_for_it(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(job("fails", "exit 1", backoffLimit=0)))
    failed = ctl("job", "run", "fails", "--wait", "--timeout=40s", code=1)
    assert "0/1 completed; a task failed, and job.backoffLimit is 0" in failed.err


def test_a_schedule_is_seen_suspended_and_resumed(ctl: Ctl) -> None:
    wish = job("nightly", "echo done", schedule={"cron": "30 2 1 1 *"})
    ctl("apply", "-f", "-", "--wait", stdin=text(wish))
    assert ctl("get", "services", "-o", "wide").rows[1][-1] == "Scheduled"
    assert "Next time:" in ctl("describe", "service", "nightly").out
    ctl("job", "suspend", "nightly")
    until(
        lambda: ctl("get", "services", "-o", "wide").rows[1][-1] == "Suspended",
        "it is suspended",
        20,
    )
    ctl("job", "run", "nightly", "--wait", "--timeout=40s")
    ctl("job", "resume", "nightly")
    ctl("wait", "service/nightly", "--for=jsonpath={.status.job.nextScheduleTime}", "--timeout=20s")
    assert ctl("get", "services").rows[1][2] == "1/1"


def test_a_job_is_made_from_a_command_line(ctl: Ctl) -> None:
    made = ctl(
        "create", "job", "quick", "--image", "busybox", "--completions", "2", "--",
        "sh", "-c", "echo -n hi",
    )  # fmt: skip
    assert made.out == "service/quick created\n"
    ctl("wait", "service/quick", "--for=condition=Complete", "--timeout=30s")
    assert ctl("get", "services").rows[1][2] == "2/2"
    assert "State:     Complete" in ctl("rollout", "status", "quick").out
    refused = ctl(
        "create", "job", "never", "--image", "busybox", "--schedule", "30 25 * * *", code=None
    )
    assert refused.code != 0
    assert "spec.schedule.cron: the field for hour can't be read" in refused.err
    assert "exists already" in ctl("create", "job", "quick", "--image", "busybox", code=5).err


def test_what_is_no_job_is_told_so(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(service("web"), job("once", "echo done")))
    assert "is no job: its mode is replicated" in ctl("job", "run", "web", code=1).err
    assert "has no schedule" in ctl("job", "suspend", "once", code=1).err
    assert "job.completions says" in ctl("scale", "service", "once", "--replicas=2", code=1).err
