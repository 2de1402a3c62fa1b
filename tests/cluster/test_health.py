"""Checks by the agent, and who gets traffic, with real containers."""

from __future__ import annotations

import json
import subprocess

from tests.cluster.harness import BIN, Cluster, Document, service, until

WEB = "mkdir /www; echo ok >/www/live; trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait"
QUICK = {"interval": "1s", "timeout": "5s", "retries": 2, "startInterval": "500ms"}


def running(cluster: Cluster, task: Document) -> Document:
    found = cluster.find("task", task["metadata"]["name"])
    assert found is not None
    return found


def inside(cluster: Cluster, task: Document, script: str) -> str:
    return cluster.docker("exec", task["status"]["container"]["id"], "sh", "-c", script).strip()


def test_who_fails_http_is_replaced_and_says_what_it_answered(cluster: Cluster) -> None:
    check = {"http": {"port": 80, "path": "/live"}, **QUICK}
    cluster.apply(service("web", WEB, healthcheck=check))
    (task,) = cluster.until_running("web", 1)
    assert task["status"]["container"]["health"] == "healthy"
    engine = json.loads(cluster.docker("inspect", task["status"]["container"]["id"]))[0]
    assert engine["State"].get("Health") is None, "nothing is run in it"
    inside(cluster, task, "rm /www/live")
    failed = until(
        lambda: (t := running(cluster, task))["status"]["state"] == "Failed" and t, "it failed"
    )
    assert "status 404" in failed["status"]["error"]
    described = cluster.ctl("describe", "task", task["metadata"]["name"]).stdout
    assert "Failed checks:" in described
    assert "status 404" in described
    cluster.until_running("web", 1)
    cluster.ctl("delete", "service", "web")


def test_who_is_not_ready_runs_on_without_traffic(cluster: Cluster) -> None:
    ready = {"tcp": {"port": 80}, **QUICK}
    script = "trap 'exit 0' TERM; while true; do sleep 1; done"
    cluster.apply(service("shy", script, readiness=ready), service("client"))
    (client,) = cluster.until_running("client", 1)

    def starting() -> Document | None:
        tasks = cluster.tasks("shy", "Starting")
        return tasks[0] if tasks and "nothing listens" in tasks[0]["status"]["message"] else None

    task = until(starting, "it waits for its readiness check")
    assert task is not None

    def found() -> bool:
        hosts = inside(cluster, client, "cat /etc/hosts")
        assert task["metadata"]["name"] in hosts, "by its own name it always is"
        return "shy.default" in hosts

    assert not found()
    inside(cluster, task, "httpd -p 80 -h /tmp")
    until(found, "its service's name leads to it")
    assert running(cluster, task)["status"]["ready"] is True
    inside(cluster, task, "killall httpd")
    until(lambda: not found(), "its service's name leads to it no more")
    until(lambda: not running(cluster, task)["status"].get("ready", False), "it says so")
    assert running(cluster, task)["status"]["state"] == "Running"
    cluster.kill("agent")
    cluster.start_agent()
    assert not found(), "another agent does not give it traffic"
    inside(cluster, task, "httpd -p 80 -h /tmp")
    until(found, "it is back")
    cluster.ctl("delete", "service", "shy", "client")


def test_services_start_in_order(cluster: Cluster) -> None:
    well = {"command": ["test", "-e", "/tmp/well"], **QUICK, "startPeriod": "60s"}
    db = service("db", healthcheck=well)
    shop = service("shop")
    shop["spec"]["dependsOn"] = [{"service": "db"}]
    cycle = service("db", healthcheck=well)
    cycle["spec"]["dependsOn"] = [{"service": "shop", "condition": "started"}]
    refused = cluster.apply(shop, cycle, check=False)
    assert refused.returncode != 0
    assert "shop → db → shop" in refused.stderr + refused.stdout
    said = cluster.apply(shop)
    assert "service default/db does not exist yet" in said.stderr + said.stdout
    cluster.apply(db)

    def waits() -> bool:
        found = cluster.find("service", "shop") or {}
        conditions = found.get("status", {}).get("conditions", [])
        words = "waiting for service db to be healthy (0/1 tasks are)"
        return any(words in condition["message"] for condition in conditions)

    until(waits, "it says what it waits for")
    refused = cluster.apply(cycle, check=False)
    assert "db → shop → db" in refused.stderr + refused.stdout
    (task,) = until(
        lambda: [t for t in cluster.tasks("db", "Starting") if t["status"].get("container")],
        "db is starting",
    )
    assert cluster.tasks("shop") == []
    inside(cluster, task, "touch /tmp/well")
    cluster.until_running("shop", 1)
    cluster.ctl("delete", "service", "db", "shop")


def test_who_stops_leaves_first(cluster: Cluster) -> None:
    script = "trap 'echo told; exit 0' TERM; while true; do sleep 0.1; done"
    before = ["sh", "-c", "echo before >/proc/1/fd/1"]
    leaver = service("leaver", script, stopDelay="5s", preStop=before)
    cluster.apply(leaver, service("witness"))
    (task,) = cluster.until_running("leaver", 1)
    (witness,) = cluster.until_running("witness", 1)
    hosts = "cat /etc/hosts"
    until(lambda: "leaver.default" in inside(cluster, witness, hosts), "it is found")
    logs = ["docker", "-H", f"unix://{cluster.socket}", "logs", "-f"]
    listener = subprocess.Popen(
        [*logs, task["status"]["container"]["id"]], stdout=subprocess.PIPE, text=True
    )
    cluster.ctl("scale", "service", "leaver", "--replicas", "0")
    until(lambda: "leaver.default" not in inside(cluster, witness, hosts), "it is found no more")
    assert len(cluster.running_of("leaver")) == 1, "and runs on"
    until(lambda: not cluster.running_of("leaver"), "it has ended")
    assert listener.communicate(timeout=10)[0].split() == ["before", "told"]
    cluster.ctl("delete", "service", "leaver", "witness")


def test_what_takes_too_long_is_killed_and_a_failing_pre_stop_is_said(cluster: Cluster) -> None:
    check = {"command": ["sleep", "7656"], "timeout": "300ms", "interval": "1s"}
    before = ["sh", "-c", "echo no such backup; exit 3"]
    slow = service("slow", readiness=check, preStop=before)
    cluster.apply(slow)

    def failed() -> list[Document]:
        tasks = cluster.tasks("slow", "Starting")
        return [t for t in tasks if len(t["status"]["container"].get("checkFailures", [])) > 2]

    (task,) = until(failed, "three checks have failed")
    assert "sleep did not end within 0.3 s" in task["status"]["message"]
    running = cluster.docker("top", task["status"]["container"]["id"], "-o", "pid,args")
    assert running.count("sleep 7656") <= 1, "but for the one that is under way"

    name = task["metadata"]["name"]
    words: set[str] = set()
    words_of = "jsonpath={.status.message}{'\\n'}"
    watch = [str(BIN / "ctl"), "get", "task", name, "-w", "-o", words_of]
    environment = cluster.environment()
    with subprocess.Popen(watch, env=environment, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        assert "readiness" in it.stdout.readline(), "the watch stands"
        cluster.ctl("delete", "service", "slow")
        for line in it.stdout:
            words.add(line.strip())
            if "preStop" in line and "stopped" in line:
                break
        it.terminate()
    assert "stopped; its preStop command failed: no such backup" in words
