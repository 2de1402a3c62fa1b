"""Kubernetes' own client for Python: its dynamic client finds our kinds, and works with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from kubernetes.watch import Watch

from tests.cluster.harness import Cluster
from tests.kubectl.harness import Kubectl, service

WATCHED = 20  # seconds at most


@pytest.fixture(scope="module")
def api(kubectl: Kubectl) -> Iterator[client.ApiClient]:
    make: Any = config.new_client_from_config
    with make(str(kubectl.config)) as made:
        yield made
        made.rest_client.pool_manager.clear()  # or its connections stay open


@pytest.fixture(scope="module")
def services(api: client.ApiClient) -> Any:
    make: Any = dynamic.DynamicClient
    return make(api).resources.get(api_version="skep.dev/v1", kind="Service")


def test_services_are_made_read_patched_and_deleted(services: Any) -> None:
    made = services.create(body=service("client", replicas=0), namespace="default")
    assert made.metadata.generation == 1
    body = {"metadata": {"name": "client"}, "spec": {"replicas": 2}}
    patched = services.patch(
        body=body, namespace="default", content_type="application/merge-patch+json"
    )
    assert patched.spec.replicas == 2
    listed = services.get(namespace="default")
    assert [item.metadata.name for item in listed.items] == ["client"]
    assert services.get(name="client", namespace="default").spec.replicas == 2
    services.delete(name="client", namespace="default")


def test_services_are_applied_on_the_server(services: Any) -> None:
    body = service("applied", replicas=0)
    one = services.server_side_apply(body=body, namespace="default", field_manager="one")
    assert one.metadata.managedFields[0].manager == "one"
    body["spec"]["replicas"] = 1
    with pytest.raises(ApiException) as refused:
        services.server_side_apply(body=body, namespace="default", field_manager="two")
    assert refused.value.status == 409
    services.delete(name="applied", namespace="default")


def test_services_are_watched(services: Any) -> None:
    seen: list[tuple[str, str]] = []
    begun = threading.Event()

    make: Any = Watch
    watcher = make()

    def watch() -> None:
        for event in services.watch(namespace="default", timeout=WATCHED, watcher=watcher):
            if event["object"].metadata.name == "watched":
                seen.append((event["type"], str(event["object"].spec.replicas)))
                begun.set()
                if event["type"] == "DELETED":
                    watcher.stop()

    services.create(body=service("watched", replicas=0), namespace="default")
    watching = threading.Thread(target=watch)
    watching.start()
    assert begun.wait(WATCHED)
    body = {"metadata": {"name": "watched"}, "spec": {"replicas": 1}}
    services.patch(body=body, namespace="default", content_type="application/merge-patch+json")
    services.delete(name="watched", namespace="default")
    watching.join(WATCHED)
    assert not watching.is_alive()
    assert seen[0] == ("ADDED", "0")
    assert ("MODIFIED", "1") in seen
    assert seen[-1][0] == "DELETED"


def test_pods_are_listed_read_and_entered(api: client.ApiClient, cluster: Cluster) -> None:
    """With the typed client, as tools for Kubernetes use it."""
    core: Any = client.CoreV1Api(api)
    script = "echo hello; sleep 1000"
    cluster.apply(service("entered", command=["sh", "-c", script]))
    cluster.until_running("entered", 1)
    listed = core.list_namespaced_pod("default", label_selector="skep.dev/service=entered")
    (pod,) = listed.items
    assert pod.status.phase == "Running"
    assert core.read_namespaced_pod_log(pod.metadata.name, "default") == "hello\n"
    process = stream(
        core.connect_get_namespaced_pod_exec,
        pod.metadata.name,
        "default",
        command=["echo", "hi"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        _preload_content=False,  # so that its socket can be closed
    )
    process.run_forever(timeout=WATCHED)
    said = process.read_all()
    process.close()
    process.sock.shutdown()
    assert said == "hi\n"
