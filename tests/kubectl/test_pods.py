"""Tasks seen as pods, their logs and commands in them, events, and who may do what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.harness import Cluster, until
from tests.kubectl.harness import Kubectl, service


@pytest.fixture(scope="module")
def pod(cluster: Cluster, kubectl: Kubectl) -> Iterator[str]:
    """The name of one of two pods of a service `web` that has printed two lines."""
    words = ["sh", "-c", "echo hello; echo world; sleep 1000"]
    document = service("web", replicas=2, command=words, env={"A": "1"}, ports=[{"target": 80}])
    document["metadata"]["labels"] = {"app": "web"}
    kubectl.apply(document)
    cluster.until_running("web", 2)
    yield kubectl("get", "pods", "-o", "jsonpath={.items[0].metadata.name}")


def test_get_pods(kubectl: Kubectl, pod: str) -> None:
    header, *rows = kubectl("get", "pods").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row.split()[1:4] for row in rows] == [["1/1", "Running", "0"]] * 2
    assert "NODE" in kubectl("get", "po", "-o", "wide").splitlines()[0]


def test_get_a_pod(kubectl: Kubectl, pod: str) -> None:
    shown = kubectl.object("pod", pod)
    (container,) = shown["spec"]["containers"]
    assert (container["name"], container["image"]) == ("web", "demo/web:1")
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert shown["status"]["phase"] == "Running"
    assert shown["metadata"]["ownerReferences"][0]["name"] == "web"


def test_get_pods_selected(kubectl: Kubectl, pod: str) -> None:
    named = "get", "pods", "-o", "name"
    assert len(kubectl(*named, "-l", "app=web,skep.dev/service=web").split()) == 2
    assert kubectl(*named, "-l", "skep.dev/slot=1").split()
    assert kubectl(*named, "-l", "app!=web") == ""
    assert len(kubectl(*named, "--field-selector", "status.phase=Running").split()) == 2
    assert kubectl(*named, "--field-selector", "spec.nodeName=nowhere") == ""


def test_get_pods_watch(kubectl: Kubectl, cluster: Cluster, pod: str) -> None:
    watching = kubectl.start("get", "pods", "-w", "--no-headers", "-l", "app=late")
    try:
        assert watching.stdout is not None
        document = service("late")
        document["metadata"]["labels"] = {"app": "late"}
        kubectl.apply(document)
        assert watching.stdout.readline().startswith("late-1-")
        kubectl("delete", "svc", "late")
    finally:
        watching.terminate()
        watching.communicate(timeout=10)


def test_wait_for_pods(kubectl: Kubectl, pod: str) -> None:
    said = kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=20s")
    assert said.count("condition met") == 2


def test_describe_pod(kubectl: Kubectl, cluster: Cluster, pod: str) -> None:
    said = kubectl("describe", "pod", pod)
    assert f"Node:           {cluster.node}/" in said
    assert "Controlled By:  Service/web" in said
    assert "Port:          80/TCP" in said
    assert "Ready             True" in said


def test_logs(kubectl: Kubectl, pod: str) -> None:
    assert kubectl("logs", pod) == "hello\nworld\n"
    assert kubectl("logs", pod, "-c", "web", "--tail=1") == "world\n"
    assert kubectl("logs", pod, "--since=1h") == "hello\nworld\n"
    assert kubectl("logs", pod, "--limit-bytes=7") == "hello\nw"
    stamped = kubectl("logs", pod, "--timestamps").splitlines()
    assert stamped[0].endswith("Z hello")
    since = stamped[0].split()[0]
    assert kubectl("logs", pod, f"--since-time={since}").endswith("world\n")
    both = kubectl("logs", "-l", "app=web", "--prefix").splitlines()
    assert sum(line.endswith("hello") for line in both) == 2


def test_logs_follow(kubectl: Kubectl, pod: str) -> None:
    following = kubectl.start("logs", "-f", pod)
    try:
        assert following.stdout is not None
        assert following.stdout.readline() == "hello\n"
        assert following.stdout.readline() == "world\n"
        assert following.poll() is None
    finally:
        following.terminate()
        following.communicate(timeout=10)


def test_logs_of_what_is_not_there(kubectl: Kubectl, pod: str) -> None:
    assert "(NotFound)" in kubectl.fails("logs", "nope")
    said = kubectl.fails("logs", pod, "-c", "sidecar")
    assert "container sidecar is not valid" in said
    assert "another pod's" in kubectl.fails("logs", pod, "--previous")


def test_exec(kubectl: Kubectl, pod: str) -> None:
    assert kubectl("exec", pod, "--", "echo", "a b", "c") == "a b c\n"
    assert kubectl("exec", "-i", pod, "--", "cat", stdin="in\nand out\n") == "in\nand out\n"
    done = kubectl.run("exec", pod, "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert "(NotFound)" in kubectl.fails("exec", "nope", "--", "true")


def test_delete_a_pod(kubectl: Kubectl, cluster: Cluster) -> None:
    """Its service makes another."""
    kubectl.apply(service("healing"))
    cluster.until_running("healing", 1)
    words = "get", "pods", "-l", "skep.dev/service=healing", "-o", "name"
    first = kubectl(*words).strip()
    kubectl("delete", first)
    until(lambda: kubectl(*words).strip() not in ("", first), "another pod is there")
    kubectl("delete", "svc", "healing")


def test_a_pod_cannot_be_made(kubectl: Kubectl) -> None:
    said = kubectl.fails("run", "mine", "--image=demo/web:1")
    assert "they are tasks, which their service makes" in said


def test_get_events(kubectl: Kubectl, pod: str) -> None:
    assert "created a task of revision" in kubectl("get", "events")
    lines = kubectl("events", "--for", "svc/web").splitlines()
    assert len(lines) == 2
    assert "TasksCreated" in lines[1]
    about = "involvedObject.kind=Service,involvedObject.name=web"
    assert kubectl("get", "events", "--field-selector", about, "-o", "name").split()


def test_describe_shows_events(kubectl: Kubectl, pod: str) -> None:
    events = kubectl("describe", "svc", "web").partition("Events:")[2]
    assert "created a task of revision" in events


# Who may do what


@pytest.fixture(scope="module")
def visitor(cluster: Cluster, kubectl: Kubectl) -> Kubectl:
    """kubectl of a user who may only look."""
    context = cluster.home / "visitor.yaml"
    cluster.ctl("user", "create", "visitor", "--role", "viewer", "--out", str(context))
    return Kubectl(cluster, cluster.home / "visitor", context)


def test_whoami_and_can_i_of_another(visitor: Kubectl, pod: str) -> None:
    assert "visitor" in visitor("auth", "whoami")
    assert visitor("auth", "can-i", "list", "pods") == "yes\n"
    done = visitor.run("auth", "can-i", "create", "services")
    assert (done.returncode, done.stdout.split()[0]) == (1, "no")
    assert visitor.run("auth", "can-i", "create", "pods", "--subresource=exec").returncode == 1
    assert visitor("get", "pods", "-o", "name").split()
    assert visitor("logs", pod) == "hello\nworld\n"
    assert "(Forbidden)" in visitor.fails("delete", "svc", "web")
    assert "may not create tasks/exec" in visitor.fails("exec", pod, "--", "true")


def test_whoami(kubectl: Kubectl) -> None:
    said = kubectl("auth", "whoami")
    assert "admin" in said.splitlines()[1]


def test_can_i(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "services") == "yes\n"
    assert kubectl("auth", "can-i", "get", "pods", "--subresource=log") == "yes\n"
    assert kubectl("auth", "can-i", "*", "*") == "yes\n"
    assert "no" in kubectl.run("auth", "can-i", "create", "deployments.apps").stdout
    listed = kubectl("auth", "can-i", "--list")
    assert "services.skep.dev/scale" in listed
