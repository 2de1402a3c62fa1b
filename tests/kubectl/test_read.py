"""kubectl learns what there is, reads it, and shows it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import pytest

from tests.cluster.harness import Cluster
from tests.kubectl.harness import Kubectl, service

KINDS = {
    "configs",
    "events",
    "namespaces",
    "nodes",
    "revisions",
    "secrets",
    "services",
    "tasks",
    "users",
}


@pytest.fixture(scope="module")
def web(cluster: Cluster, kubectl: Kubectl) -> Iterator[str]:
    """A service of two tasks that run."""
    document = service("web", replicas=2)
    document["metadata"]["labels"] = {"app": "web"}
    kubectl.apply(document)
    cluster.until_running("web", 2)
    yield "web"


def test_kubeconfig_is_private(kubectl: Kubectl) -> None:
    assert stat.S_IMODE(kubectl.config.stat().st_mode) == 0o600
    assert "client-key-data" in kubectl.config.read_text()


def test_api_resources(kubectl: Kubectl) -> None:
    listed = kubectl("api-resources", "--api-group=skep.dev", "-o", "name").split()
    assert {name.partition(".")[0] for name in listed} == KINDS
    assert "skep.dev/v1" in kubectl("api-versions").split()


def test_version(kubectl: Kubectl) -> None:
    assert json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"] == "v0.1.0"


@pytest.mark.parametrize("word", ["service", "services", "svc", "services.skep.dev", "Service"])
def test_get_by_any_of_its_names(kubectl: Kubectl, web: str, word: str) -> None:
    assert kubectl("get", word, "-o", "name").split() == ["service.skep.dev/web"]


def test_get_shows_the_columns_of_ctl(kubectl: Kubectl, web: str) -> None:
    header, row = kubectl("get", "svc").splitlines()
    assert header.split() == ["NAME", "MODE", "REPLICAS", "IMAGE", "PORTS", "AGE"]
    assert row.split()[:4] == ["web", "replicated", "2/2", "demo/web:1"]


def test_get_wide_and_in_all_namespaces(kubectl: Kubectl, web: str) -> None:
    header, row = kubectl("get", "svc", "-A", "-L", "app", "-o", "wide").splitlines()
    assert header.split()[0] == "NAMESPACE"
    assert header.split()[-3:] == ["REVISION", "CONDITION", "APP"]
    assert row.split()[0] == "default"
    assert row.split()[-2:] == ["Available", "web"]


def test_get_all(kubectl: Kubectl, web: str) -> None:
    names = kubectl("get", "all", "-o", "name").split()
    assert "service.skep.dev/web" in names
    assert sum(name.startswith("task.skep.dev/web-") for name in names) == 2


def test_get_in_other_outputs(kubectl: Kubectl, web: str) -> None:
    assert kubectl.object("svc", web)["spec"]["replicas"] == 2
    assert "replicas: 2" in kubectl("get", "svc", web, "-o", "yaml")
    assert kubectl("get", "svc", web, "-o", "jsonpath={.status.running}") == "2"
    assert kubectl("get", "svc", "-o", "custom-columns=N:.metadata.name").split() == ["N", "web"]
    assert kubectl("get", "svc", "-o", "go-template={{len .items}}") == "1"


def test_get_sorted(kubectl: Kubectl, web: str) -> None:
    rows = kubectl("get", "tasks", "--sort-by=.spec.slot", "--no-headers").splitlines()
    slots = [kubectl.object("task", row.split()[0])["spec"]["slot"] for row in rows]
    assert slots == [1, 2]


def test_get_in_chunks(kubectl: Kubectl, web: str) -> None:
    assert len(kubectl("get", "tasks", "--chunk-size=1", "-o", "name").split()) == 2


def test_get_selected(kubectl: Kubectl, web: str) -> None:
    assert kubectl("get", "svc", "-l", "app in (web)", "-o", "name").split()
    assert kubectl("get", "svc", "-l", "app!=web", "-o", "name") == ""
    running = kubectl("get", "tasks", "--field-selector", "status.state=Running", "-o", "name")
    assert len(running.split()) == 2


def test_get_what_is_not_there(kubectl: Kubectl) -> None:
    said = kubectl.fails("get", "svc", "nope")
    assert said.strip() == ("Error from server (NotFound): service default/nope does not exist")


def test_get_raw(kubectl: Kubectl, web: str) -> None:
    assert kubectl("get", "--raw", "/readyz") == "ok"


def test_describe(kubectl: Kubectl, cluster: Cluster, web: str) -> None:
    said = kubectl("describe", "svc", web)
    assert "Message:               2/2 running" in said
    assert "Image:" in said


def test_explain(kubectl: Kubectl) -> None:
    said = kubectl("explain", "service.spec.replicas")
    assert "FIELD: replicas <integer>" in said
    assert "How many tasks to keep running" in said


def test_explain_recursive(kubectl: Kubectl) -> None:
    for kind in sorted(KINDS):
        assert "metadata\t<Object>" in kubectl("explain", kind, "--recursive")
    assert "containerStatuses\t<[]Object>" in kubectl("explain", "pod", "--recursive")
    said = kubectl("explain", "services.skep.dev", "--recursive")
    assert "maxReplicasPerNode\t<integer>" in said


def test_get_watch(kubectl: Kubectl, cluster: Cluster, web: str) -> None:
    watching = kubectl.start("get", "svc", "-w", "--no-headers")
    try:
        lines = watching.stdout
        assert lines is not None
        assert lines.readline().split()[0] == "web"
        kubectl.apply(service("late", replicas=0))
        assert lines.readline().split()[0] == "late"
        kubectl("delete", "svc", "late")
    finally:
        watching.terminate()
        watching.communicate(timeout=10)


def test_wait_for_condition(kubectl: Kubectl, web: str) -> None:
    assert kubectl("wait", "--for=condition=Available", f"svc/{web}", "--timeout=20s") == (
        "service.skep.dev/web condition met\n"
    )
    kubectl("wait", "--for=jsonpath={.status.running}=2", f"svc/{web}", "--timeout=20s")


def test_wait_for_delete(kubectl: Kubectl) -> None:
    kubectl.apply(service("brief"))
    waiting = kubectl.start("wait", "--for=delete", "svc/brief", "--timeout=30s")
    kubectl("delete", "svc", "brief", "--wait=false")
    out, error = waiting.communicate(timeout=40)
    assert waiting.returncode == 0, error
    assert "condition met" in out or out == ""


def test_what_does_not_work_says_what_does(kubectl: Kubectl) -> None:
    said = kubectl.fails("create", "namespace", "shop")
    assert "namespaces are skep.dev/v1's here" in said
    said = kubectl.fails("create", "secret", "generic", "x", "--from-literal=a=b")
    assert "secrets are skep.dev/v1's here" in said
