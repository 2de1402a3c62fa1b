"""What a task's container is told of itself."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from api.types.task import Task
from api.types.template import TaskTemplate

RUN = "SKEP_RUN"  # which run of the job it belongs to: 1, 2, 3 …
SLOT = "SKEP_SLOT"  # which of its completions it is: 1 to `job.completions`
RESOURCE = "DOCKER_RESOURCE_"  # and a kind: Swarm's name, which programs and runtimes know


def informed(template: TaskTemplate, task: Task, secrets: Mapping[str, str]) -> TaskTemplate:
    """The template with `secrets` in its environment, and with what a job's task is told, so that
    each of many can take its share of the work; what the template says itself stays.

    But not of the resources that the task was given: NVIDIA's runtime takes these variables for
    the devices to hand over."""
    job: dict[str, str | int | float] = {}
    if task.spec.run:
        job[RUN] = task.spec.run
        if task.spec.slot:
            job[SLOT] = task.spec.slot
    given = {
        f"{RESOURCE}{kind.upper()}": str(amount) if isinstance(amount, int) else ",".join(amount)
        for kind, amount in (task.spec.generic or {}).items()
    }
    if not job and not secrets and not given:
        return template
    return msgspec.structs.replace(template, env={**job, **template.env, **secrets, **given})


class Told(NamedTuple):
    """What files made from secrets may say of their task, beside secrets."""

    namespace: str
    fields: dict[str, str | int]  # as `api.rendering.language.FIELDS` lists them


def told(template: TaskTemplate, task: Task) -> Told:
    metadata = task.metadata
    fields: dict[str, str | int] = {
        "node.name": task.spec.node,
        "node.hostname": platform.node(),
        "service.name": task.spec.service,
        "service.namespace": metadata.namespace,
        "service.revision": task.spec.revision,
        "task.name": metadata.name,
        "task.uid": metadata.uid,
        "task.slot": task.spec.slot,
        "task.hostname": template.hostname or metadata.name,
    }
    return Told(metadata.namespace, fields)
