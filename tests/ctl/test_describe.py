"""`ctl describe` and `ctl events`: what an object is, what it does, and what happened to it."""

from __future__ import annotations

import signal

import pytest

from tests.cluster.harness import until
from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def test_a_service_with_its_tasks_and_events(ctl: Ctl) -> None:
    wish = service("web", replicas=2)
    wish["metadata"] |= {"labels": {"app": "shop"}, "annotations": {"note": "mine"}}
    ctl("apply", "-f", "-", "--wait", stdin=text(wish))
    until(lambda: "TasksCreated" in ctl("describe", "service", "web").out, "an event is written")
    done = ctl.program("describe", "service", "web")
    assert done.lines[:4] == [
        "Name:          web",
        f"Namespace:     {ctl.namespace}",
        "Labels:        app=shop",
        "Annotations:   note=mine",
    ]
    assert "Replicas:      2 running, 2 up to date, 2 wanted" in done.lines
    assert "Available" in done.out
    assert "web-1" in done.out
    assert "worker-1" in done.out
    assert "last-applied" not in done.out
    assert "Events:" in done.lines


def test_why_a_service_does_not_run(ctl: Ctl) -> None:
    wish = service("web")
    wish["spec"]["placement"] = {"constraints": ["node.labels.disk == ssd"]}
    ctl("apply", "-f", "-", stdin=text(wish))
    until(lambda: "no suitable node" in ctl("describe", "service", "web").out, "it is said why")
    shown = ctl("describe", "service", "web").out
    assert "node.labels.disk == ssd" in shown
    until(lambda: "no suitable node" in ctl("events", "--warnings").out, "an event says it too")


def test_a_task_that_waits_for_a_secret_says_for_which(ctl: Ctl) -> None:
    wish = service("web", secrets=[{"name": "password"}])
    applied = ctl("apply", "-f", "-", stdin=text(wish))
    assert applied.out == "service/web created\n"
    assert "warning: service/web: " in applied.err
    assert "password" in applied.err

    words = f"waiting for secret {ctl.namespace}/password, which does not exist"
    until(lambda: words in ctl("get", "tasks").out, "the task says what it waits for", 20)
    assert words in ctl("describe", "service", "web").out
    ctl("create", "secret", "password", "--from-stdin", "password", stdin="hunter2")
    ctl("wait", "service", "web", "--for=condition=Available", "--timeout=20s")


def test_a_task_a_node_and_a_namespace(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web", ports=[{"target": 80}])))
    task = ctl("get", "tasks", "-o", "name").out.strip()
    done = ctl("describe", task)
    for line in ("Service:       web", "Node:          worker-1", "Desired:       Running"):
        assert line in done.lines
    assert any(line.startswith("Port:") and line.endswith("→ 80/tcp") for line in done.lines)
    node = ctl("describe", "node", "worker-1")
    assert "Status:        Ready" in node.lines
    assert "Memory:        64.0GiB" in node.lines
    assert task.removeprefix("task/") in node.out
    assert "Name:          default" in ctl("describe", "namespaces").lines


def test_a_secret_without_its_values(ctl: Ctl) -> None:
    ctl("create", "secret", "s", "--from-stdin", "k", stdin="hunter2")
    done = ctl("describe", "secret", "s")
    assert "  k: 7 bytes" in done.lines
    assert "hunter2" not in done.out


def test_several_and_none(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(config("a"), config("b")))
    done = ctl("describe", "configs")
    assert [line for line in done.lines if line.startswith("Name:")] == [
        "Name:          a", "Name:          b",
    ]  # fmt: skip
    assert "does not exist" in ctl("describe", "config", "c", code=3).err
    assert "there are no services to describe" in ctl("describe", "services").err


def test_events_come_with_the_newest_last(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", "--wait", stdin=text(service("web")))
    until(lambda: len(ctl("events").lines) == 2, "the first event is written")
    ctl("apply", "-f", "-", "--wait", stdin=text(service("db")))
    until(lambda: len(ctl("events").lines) == 3, "the second event is written")
    done = ctl.program("events")
    assert done.rows[0] == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert [row[3] for row in done.rows[1:]] == ["service/web", "service/db"]
    ours = ctl("events", "--for", "service/web", "-o", "jsonpath={.items[*].reason}")
    assert ours.out == "TasksCreated"
    assert len(ctl("events", "-A").lines) >= 3
    assert ctl("events", "--warnings").out == ""
    assert ctl("events", "--for", "service/none").out == ""


def test_events_are_followed(ctl: Ctl) -> None:
    with ctl.started("events", "-w") as process:
        assert process.stdout is not None
        ctl("apply", "-f", "-", stdin=text(service("web")))
        assert process.stdout.readline().startswith("LAST SEEN")
        assert "/web" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_what_a_crashing_service_printed_last_and_when_it_is_tried_again(ctl: Ctl) -> None:
    wish = service("web", "echo no license found; exit 3")
    ctl("apply", "-f", "-", stdin=text(wish))
    until(lambda: "CrashLoop" in ctl("get", "services", "-o", "wide").out, "it is seen", 20)
    waits = "5 in a row ended so, the next try is at 20"  # for eight seconds
    until(lambda: waits in ctl("describe", "service", "web").out, "it waits", 30)
    shown = ctl.program("describe", "service", "web")
    assert waits in shown.out
    assert shown.lines[-1] == "  no license found"
    name = shown.lines[-2].removeprefix("Last output of ").removesuffix(":")
    assert name.startswith("web-1-")
    task = ctl("describe", "task", name)
    assert task.lines[-2:] == [f"Last output of {name}:", "  no license found"]
    assert "Exit code:     3" in task.lines
