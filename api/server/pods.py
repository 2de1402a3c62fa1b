"""Tasks seen as Kubernetes' pods: what `kubectl get pods`, `logs`, `exec` and `describe` look at.

A pod has one container, which bears its service's name. Labels are those of its service, and
`skep.dev/service`, `skep.dev/revision`, `skep.dev/slot`. Nothing can be written here: a pod is
deleted as its task is, and all else is the service's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from api.server.selectors import FieldRequirement, Selection, parse_fields, parse_labels, reader
from api.server.tables import View
from api.store.cache import Cache
from api.types.columns import NONE, Column, age, field, text
from api.types.kinds import EVENT, REVISION, SERVICE, TASK
from api.types.meta import API_VERSION, Object
from api.types.task import TERMINAL, ContainerStatus, Task, TaskState
from api.types.template import TaskTemplate

Document = dict[str, Any]

_PHASES: Final = {
    TaskState.STARTING: "Running",
    TaskState.RUNNING: "Running",
    TaskState.COMPLETE: "Succeeded",
    TaskState.SHUTDOWN: "Succeeded",
    TaskState.FAILED: "Failed",
    TaskState.REJECTED: "Failed",
    TaskState.ORPHANED: "Unknown",
}
_FIELDS: Final = {"spec.nodeName": "spec.node"}
_PODS: Final = "Pod"
_DECODER = msgspec.json.Decoder(Task)


def phase(task: Task) -> str:
    return _PHASES.get(task.status.state, "Pending")


class Pods:
    """Converts, with what the cache knows of a task's service and revision."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.view = View("v1", _PODS, _POD_COLUMNS, self.convert)

    def convert(self, served: bytes) -> bytes:
        return msgspec.json.encode(self.pod(_DECODER.decode(served)))

    def pod(self, task: Task) -> Document:
        template = self._template(task)
        return {
            "apiVersion": "v1",
            "kind": _PODS,
            "metadata": self._metadata(task),
            "spec": _spec(task, template),
            "status": _status(task, template),
        }

    def labels(self, obj: Object) -> Mapping[str, str]:
        task: Task = obj  # type: ignore[assignment]
        service = self._cache.get(SERVICE, task.metadata.namespace, task.spec.service)
        given = service.obj.metadata.labels if service is not None else {}
        own = {"skep.dev/service": task.spec.service, "skep.dev/revision": task.spec.revision}
        if task.spec.slot:
            own["skep.dev/slot"] = str(task.spec.slot)
        return {**given, **task.metadata.labels, **own}

    def selection(self, labels: str, fields: str) -> Selection:
        """Raises SelectorError."""
        given = parse_fields(fields)
        wanted = tuple(each._replace(path=_FIELDS.get(each.path, each.path)) for each in given)
        readers = tuple(
            _read_phase if each.path == "status.phase" else reader(TASK.type, each.path)
            for each in wanted
        )
        return Selection(parse_labels(labels), wanted, readers, self.labels)

    def _template(self, task: Task) -> TaskTemplate | None:
        item = self._cache.get(REVISION, task.metadata.namespace, task.spec.revision)
        return None if item is None else item.obj.spec.template

    def _metadata(self, task: Task) -> Document:
        given = task.metadata
        service = self._cache.get(SERVICE, given.namespace, task.spec.service)
        metadata: Document = {
            "name": given.name,
            "namespace": given.namespace,
            "uid": given.uid,
            "resourceVersion": given.resource_version,
            "creationTimestamp": _time(given.creation_timestamp),
            "labels": dict(self.labels(task)),
        }
        if given.annotations:
            metadata["annotations"] = given.annotations
        if task.spec.desired_state == TaskState.REMOVE:
            metadata["deletionTimestamp"] = _time(task.status.since or given.creation_timestamp)
            metadata["deletionGracePeriodSeconds"] = 0
        if service is not None:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": API_VERSION,
                    "kind": SERVICE.name,
                    "name": service.name,
                    "uid": service.obj.metadata.uid,
                    "controller": True,
                }
            ]
        return metadata


def _spec(task: Task, template: TaskTemplate | None) -> Document:
    container: Document = {"name": task.spec.service, "image": template.image if template else ""}
    if template is not None:
        if template.command:
            container["command"] = template.command
        if template.args:
            container["args"] = template.args
        if template.workdir:
            container["workingDir"] = template.workdir
        container["env"] = [{"name": k, "value": str(v)} for k, v in template.env.items()]
        published = {(port.target, port.protocol): port.published for port in task.status.ports}
        container["ports"] = [
            {
                "containerPort": port.target,
                "hostPort": published.get((port.target, port.protocol), port.published),
                "protocol": port.protocol.upper(),
            }
            for port in template.ports
        ]
        container["resources"] = _resources(template)
    spec: Document = {"containers": [container], "restartPolicy": "Never"}
    if task.spec.node:
        spec["nodeName"] = task.spec.node
    return spec


def _resources(template: TaskTemplate) -> Document:
    found: Document = {}
    for name, given in (
        ("requests", template.resources.reservations),
        ("limits", template.resources.limits),
    ):
        amounts = {"cpu": given.cpus, "memory": given.memory}
        kept = {key: str(value) for key, value in amounts.items() if value not in (0, "", "0")}
        if kept:
            found[name] = kept
    return found


def _status(task: Task, template: TaskTemplate | None) -> Document:
    given = task.status
    ready = given.state == TaskState.RUNNING
    status: Document = {
        "phase": phase(task),
        "conditions": [
            _condition("PodScheduled", bool(task.spec.node), task, "Unschedulable"),
            _condition("Initialized", True, task, ""),
            _condition("ContainersReady", ready, task, str(given.state)),
            _condition("Ready", ready, task, str(given.state)),
        ],
    }
    if given.error or given.message:
        status["message"] = given.error or given.message
    if given.state == TaskState.ORPHANED:
        status["reason"] = "NodeLost"
    if given.started_at is not None:
        status["startTime"] = _time(given.started_at)
    container = given.container
    status["containerStatuses"] = [
        {
            "name": task.spec.service,
            "image": template.image if template else "",
            "imageID": _image_id(template, container),
            "containerID": f"skep://{container.id}" if container and container.id else "",
            "ready": ready,
            "started": given.state in (TaskState.STARTING, TaskState.RUNNING),
            "restartCount": task.spec.restarts,
            "state": _state(task),
        }
    ]
    return status


def _image_id(template: TaskTemplate | None, container: ContainerStatus | None) -> str:
    if template is None or container is None or not container.digest:
        return ""
    return f"{template.image.partition('@')[0]}@{container.digest}"


def _condition(type: str, holds: bool, task: Task, reason: str) -> Document:
    condition: Document = {"type": type, "status": "True" if holds else "False"}
    if task.status.since is not None:
        condition["lastTransitionTime"] = _time(task.status.since)
    if not holds:
        condition |= {"reason": reason, "message": task.status.error or task.status.message}
    return condition


def _state(task: Task) -> Document:
    given = task.status
    if given.state in (TaskState.STARTING, TaskState.RUNNING):
        return {"running": {"startedAt": _time(given.started_at or given.since)}}
    if given.state not in TERMINAL:
        return {"waiting": {"reason": str(given.state), "message": given.message}}
    container = given.container
    code = container.exit_code if container is not None else None
    if code is None:
        code = 0 if given.state in (TaskState.COMPLETE, TaskState.SHUTDOWN) else 255
    oom = container is not None and container.oom_killed
    reason = "OOMKilled" if oom else "Completed" if code == 0 else "Error"
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": given.error,
            "startedAt": _time(given.started_at),
            "finishedAt": _time(given.finished_at or given.since),
        }
    }


def _time(moment: datetime | None) -> str | None:
    """Whole seconds, as Kubernetes' times are."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_phase(obj: Object) -> str:
    task: Task = obj  # type: ignore[assignment]
    return phase(task)


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = field(pod, "status", "containerStatuses") or [{}]
    found: Mapping[str, Any] = statuses[0]
    return found


def _pod_state(pod: Mapping[str, Any], now: datetime) -> str:
    if field(pod, "metadata", "deletionTimestamp"):
        return "Terminating"
    state = _container(pod).get("state", {})
    for words in state.values():
        if words.get("reason"):
            return str(words["reason"])
    return text(pod, "status", "phase")


def _pod_ready(pod: Mapping[str, Any], now: datetime) -> str:
    return "1/1" if _container(pod).get("ready") else "0/1"


_POD_COLUMNS: Final = (
    Column("NAME", lambda pod, now: text(pod, "metadata", "name"), description="The task's name."),
    Column("READY", _pod_ready, description="Whether its container runs and is healthy."),
    Column("STATUS", _pod_state, description="Its phase, or what it waits for or ended with."),
    Column("RESTARTS", lambda pod, now: str(_container(pod).get("restartCount", 0))),
    Column("AGE", lambda pod, now: age(field(pod, "metadata", "creationTimestamp"), now)),
    Column("NODE", lambda pod, now: text(pod, "spec", "nodeName", default=NONE), wide=True),
    Column("IMAGE", lambda pod, now: str(_container(pod).get("image", "")), wide=True),
)


# Events


def event(served: bytes) -> bytes:
    """One of our events in core/v1's words: what happened to a task happened to a pod."""
    given: Document = msgspec.json.decode(served)
    given |= {"apiVersion": "v1", "kind": "Event"}
    about = given.get("involvedObject", {})
    if about.get("kind") == TASK.name:
        given["involvedObject"] = {**about, "kind": _PODS, "apiVersion": "v1"}
    given.setdefault("type", "Normal")
    given.setdefault("count", 1)
    given["source"] = {"component": given.get("reportingComponent", "")}
    for moment in ("firstTimestamp", "lastTimestamp"):
        given[moment] = _whole_seconds(given.get(moment))
    return msgspec.json.encode(given)


def event_selection(labels: str, fields: str) -> Selection:
    """Raises SelectorError."""
    wanted = tuple(_about_a_task(each) for each in parse_fields(fields))
    readers = tuple(
        _nothing if each.path in _NOT_KEPT else reader(EVENT.type, each.path) for each in wanted
    )
    return Selection(parse_labels(labels), wanted, readers)


_NOT_KEPT: Final = frozenset({"involvedObject.resourceVersion", "involvedObject.fieldPath"})


def _nothing(obj: Object) -> str:
    return ""


def _about_a_task(wanted: FieldRequirement) -> FieldRequirement:
    if wanted.path == "involvedObject.kind" and wanted.value == _PODS:
        return wanted._replace(value=TASK.name)
    if wanted.path == "source":
        return wanted._replace(path="reportingComponent")
    return wanted


def _whole_seconds(moment: Any) -> str | None:
    return f"{str(moment)[:19]}Z" if moment else None
