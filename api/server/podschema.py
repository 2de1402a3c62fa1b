"""What of a pod there is, in OpenAPI's words: for `kubectl explain pod`."""

from __future__ import annotations

from typing import Any, Final

Document = dict[str, Any]


def _text(description: str) -> Document:
    return {"type": "string", "description": description}


def _number(description: str) -> Document:
    return {"type": "integer", "description": description}


def _object(description: str, **properties: Document) -> Document:
    return {"type": "object", "description": description, "properties": properties}


def _list(description: str, items: Document) -> Document:
    return {"type": "array", "description": description, "items": items}


def _map(description: str) -> Document:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": {"type": "string"},
    }


_CONTAINER: Final = _object(
    "The task's container.",
    name=_text("The service's name."),
    image=_text("The image that it runs."),
    command=_list("The program, instead of the image's.", {"type": "string"}),
    args=_list("Its arguments.", {"type": "string"}),
    workingDir=_text("Where it starts."),
    env=_list(
        "Environment variables.",
        _object("One.", name=_text("Its name."), value=_text("Its value.")),
    ),
    ports=_list(
        "Ports that are published.",
        _object(
            "One.",
            containerPort=_number("In the container."),
            hostPort=_number("On the node."),
            protocol=_text("TCP, UDP or SCTP."),
        ),
    ),
    resources=_object(
        "What it needs and may use.",
        requests=_map("What is set aside."),
        limits=_map("What it gets at most."),
    ),
)
_STATE: Final = _object(
    "One of waiting, running, terminated.",
    waiting=_object("Not yet begun.", reason=_text("The task's state."), message=_text("Why.")),
    running=_object("Running.", startedAt=_text("Since when.")),
    terminated=_object(
        "Ended.",
        exitCode=_number("Its exit code."),
        reason=_text("Completed, Error or OOMKilled."),
        message=_text("What went wrong."),
        startedAt=_text("When it began."),
        finishedAt=_text("When it ended."),
    ),
)
POD: Final[Document] = _object(
    "A task of skep, seen as a pod. Its service makes it; it can be read and deleted.",
    apiVersion=_text("`v1`."),
    kind=_text("`Pod`."),
    metadata=_object(
        "The task's.",
        name=_text("The task's name."),
        namespace=_text("Its namespace."),
        uid=_text("The task's uid."),
        resourceVersion=_text("The task's version."),
        creationTimestamp=_text("When the task was made."),
        deletionTimestamp=_text("There where it is to be removed."),
        labels=_map(
            "Those of its service, and skep.dev/service, skep.dev/revision and skep.dev/slot."
        ),
        ownerReferences=_list("Its service.", {"type": "object"}),
    ),
    spec=_object(
        "What it runs, and where.",
        nodeName=_text("The node it is on."),
        containers=_list("One.", _CONTAINER),
        restartPolicy=_text("Never: a task is replaced by another."),
    ),
    status=_object(
        "How far it is.",
        phase=_text("Pending, Running, Succeeded, Failed or Unknown."),
        reason=_text("NodeLost where its node was lost."),
        message=_text("What it is doing, or what went wrong."),
        startTime=_text("When its container began."),
        conditions=_list(
            "PodScheduled, Initialized, ContainersReady, Ready.",
            _object(
                "One.",
                type=_text("Which."),
                status=_text("True or False."),
                reason=_text("Why not, in one word."),
                message=_text("Why not."),
                lastTransitionTime=_text("Since when."),
            ),
        ),
        containerStatuses=_list(
            "One.",
            _object(
                "Of the container.",
                name=_text("The service's name."),
                ready=_object("Whether it runs and is healthy.") | {"type": "boolean"},
                restartCount=_number("How often its slot was restarted before it."),
                state=_STATE,
            ),
        ),
    ),
)
