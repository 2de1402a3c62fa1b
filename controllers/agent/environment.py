"""What a job's container is told of itself, so that each of many can take its share of the work."""

from __future__ import annotations

import msgspec

from api.types.task import Task
from api.types.template import TaskTemplate

RUN = "SKEP_RUN"  # which run of the job it belongs to: 1, 2, 3 …
SLOT = "SKEP_SLOT"  # which of its completions it is: 1 to `job.completions`


def informed(template: TaskTemplate, task: Task) -> TaskTemplate:
    """The template of a job's task with these in its environment; what it says itself stays."""
    if not task.spec.run:
        return template
    told: dict[str, str | int | float] = {RUN: task.spec.run}
    if task.spec.slot:
        told[SLOT] = task.spec.slot
    return msgspec.structs.replace(template, env=told | template.env)
