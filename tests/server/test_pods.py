"""Tasks and events as Kubernetes' core group has them, and reviews of who may do what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.server import reviews
from api.server.status import Failure
from api.types.event import Event, ObjectReference
from api.types.meta import Metadata
from api.types.revision import Revision, RevisionSpec
from api.types.task import ContainerStatus, TaskState
from api.types.template import Port, TaskTemplate
from tests.server.harness import Running, service, task
from tests.server.raw import opened, request

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
PODS = "//api/v1/namespaces/default/pods"
EVENTS = "//api/v1/namespaces/default/events"


async def pod(server: Running, name: str) -> Any:
    answer = await request(server, "GET", f"{PODS}/{name}")
    assert answer.code == 200, answer.body
    return await answer.json()


@pytest.mark.parametrize(
    ("state", "phase", "word"),
    [
        (TaskState.NEW, "Pending", "waiting"),
        (TaskState.PREPARING, "Pending", "waiting"),
        (TaskState.STARTING, "Running", "running"),
        (TaskState.RUNNING, "Running", "running"),
        (TaskState.COMPLETE, "Succeeded", "terminated"),
        (TaskState.SHUTDOWN, "Succeeded", "terminated"),
        (TaskState.FAILED, "Failed", "terminated"),
        (TaskState.REJECTED, "Failed", "terminated"),
        (TaskState.ORPHANED, "Unknown", "terminated"),
    ],
)
async def test_each_state_has_its_phase(
    server: Running, state: TaskState, phase: str, word: str
) -> None:
    obj = task("web-1", node="a", state=state)
    obj.status.since = NOW
    await server.put(obj)
    shown = (await pod(server, "web-1"))["status"]
    assert shown["phase"] == phase
    (container,) = shown["containerStatuses"]
    assert list(container["state"]) == [word]
    ready = next(c for c in shown["conditions"] if c["type"] == "Ready")
    assert ready["status"] == ("True" if state == TaskState.RUNNING else "False")


async def test_a_pod_says_what_its_revision_says(server: Running) -> None:
    template = TaskTemplate(
        image="demo/web:7", command=["run"], env={"A": 1}, ports=[Port(target=80)]
    )
    await server.put(
        Revision(
            metadata=Metadata(name="web-1", namespace="default", uid="r"),
            spec=RevisionSpec(service="web", number=1, template=template),
        )
    )
    obj = task("web-1-x", node="a", state=TaskState.FAILED)
    obj.status.container = ContainerStatus(id="c1", exit_code=137, oom_killed=True)
    obj.status.error = "killed for its memory"
    await server.put(obj)
    shown = await pod(server, "web-1-x")
    (container,) = shown["spec"]["containers"]
    assert (container["image"], container["command"]) == ("demo/web:7", ["run"])
    assert container["env"] == [{"name": "A", "value": "1"}]
    ended = shown["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


async def test_pods_bear_the_labels_of_their_service(server: Running) -> None:
    document = service()
    document["metadata"]["labels"] = {"app": "shop"}
    await request(server, "POST", "/namespaces/default/services", json=document)
    await server.put(task("web-1", node="a"))
    found = await request(server, "GET", f"{PODS}?labelSelector=app%3Dshop")
    (item,) = (await found.json())["items"]
    assert item["metadata"]["labels"] == {
        "app": "shop",
        "skep.dev/service": "web",
        "skep.dev/revision": "web-1",
    }
    none = await request(server, "GET", f"{PODS}?labelSelector=app%3Dother")
    assert (await none.json())["items"] == []


async def test_a_watch_of_pods(server: Running) -> None:
    path = f"{PODS}?watch=true&fieldSelector=spec.nodeName%3Da"
    await server.put(task("here", node="a"))
    await server.put(task("elsewhere", node="b"))
    async with opened(server, path) as response:
        event = msgspec.json.decode(await response.content.readline())
        assert (event["type"], event["object"]["kind"]) == ("ADDED", "Pod")
        await server.put(task("more", node="a"))
        event = msgspec.json.decode(await response.content.readline())
        assert event["object"]["metadata"]["name"] == "more"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_pods_are_not_written(server: Running, method: str) -> None:
    await server.put(task("web-1", node="a"))
    path = PODS if method == "POST" else f"{PODS}/web-1"
    answer = await request(server, method, path, json={})
    assert answer.code == 405
    assert "their service makes" in (await answer.json())["message"]


async def test_deleting_a_pod_removes_its_task(server: Running) -> None:
    obj = task("web-1", node="a", state=TaskState.RUNNING)
    obj.status.since = NOW
    await server.put(obj)
    answer = await request(server, "DELETE", f"{PODS}/web-1")
    assert (await answer.json())["metadata"]["deletionTimestamp"] == "2026-01-31T12:00:00Z"
    item = await request(server, "GET", "/namespaces/default/tasks/web-1")
    assert (await item.json())["spec"]["desiredState"] == "Remove"


async def test_what_happened_to_a_task_happened_to_a_pod(server: Running) -> None:
    about = ObjectReference(kind="Task", namespace="default", name="web-1", uid="uid-web-1")
    await server.put(
        Event(
            metadata=Metadata(name="web-1.1", namespace="default", uid="e"),
            involved_object=about,
            reason="Failed",
            last_timestamp=NOW,
        )
    )
    wanted = "involvedObject.kind%3DPod,involvedObject.uid%3Duid-web-1"
    answer = await request(server, "GET", f"{EVENTS}?fieldSelector={wanted}")
    (item,) = (await answer.json())["items"]
    assert item["apiVersion"] == "v1"
    assert item["involvedObject"]["kind"] == "Pod"
    assert item["lastTimestamp"] == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize("path", ["services", "secrets", "nodes", "namespaces", "pods/x/status"])
async def test_nothing_else_is_in_the_core_group(server: Running, path: str) -> None:
    for where in (f"//api/v1/{path}", f"//api/v1/namespaces/default/{path}"):
        assert (await request(server, "GET", where)).code == 404


async def test_an_agent_reads_no_pods(server: Running) -> None:
    answer = await request(server, "GET", PODS, tls=server.tls(node="a"))
    assert answer.code == 403


# Reviews


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def protobuf(spec: bytes) -> bytes:
    """As kubectl sends it."""
    return b"k8s\0" + field(1, field(1, b"x")) + field(2, field(2, spec))


async def review(server: Running, body: bytes, **more: Any) -> Any:
    path = "//apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await request(server, "POST", path, data=body, **more)
    assert answer.code == 201, answer.body
    return await answer.json()


async def test_a_review_in_protobuf_and_in_json(server: Running) -> None:
    attributes = field(2, b"create") + field(3, b"skep.dev") + field(5, b"services")
    said = await review(server, protobuf(field(1, attributes)))
    assert said["spec"]["resourceAttributes"] == {
        "verb": "create",
        "group": "skep.dev",
        "resource": "services",
    }
    assert said["status"] == {"allowed": True}
    same = {"spec": {"resourceAttributes": said["spec"]["resourceAttributes"]}}
    assert (await review(server, msgspec.json.encode(same)))["status"] == {"allowed": True}


async def test_a_review_of_an_agent(server: Running) -> None:
    attributes = {"verb": "get", "group": "skep.dev", "resource": "secrets", "namespace": "x"}
    body = msgspec.json.encode({"spec": {"resourceAttributes": attributes}})
    said = await review(server, body, tls=server.tls(node="a"))
    assert said["status"]["allowed"] is False


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_review_or_a_refusal(tail: bytes) -> None:
    for body in (tail, b"k8s\0" + tail):
        try:
            spec = reviews._spec(body)
        except Failure as failure:
            assert failure.code == 400
        else:
            assert isinstance(spec, dict)
