"""What a container is told of itself."""

from __future__ import annotations

from api.types.task import Task, TaskSpec
from api.types.template import TaskTemplate
from controllers.agent.environment import informed

TEMPLATE = TaskTemplate(image="shrink:1", env={"A": "b"})


def task(**spec: int) -> Task:
    return Task(spec=TaskSpec(service="shrink", revision="shrink-1", **spec))  # type: ignore[arg-type]


def test_a_jobs_task_knows_its_slot_and_run() -> None:
    told = informed(TEMPLATE, task(slot=3, run=2), {}).env
    assert told == {"A": "b", "SKEP_SLOT": 3, "SKEP_RUN": 2}
    assert TEMPLATE.env == {"A": "b"}


def test_a_global_jobs_task_has_no_number() -> None:
    assert informed(TEMPLATE, task(run=2), {}).env == {"A": "b", "SKEP_RUN": 2}


def test_what_the_template_says_itself_stays() -> None:
    own = TaskTemplate(image="shrink:1", env={"SKEP_SLOT": "mine"})
    assert informed(own, task(slot=3, run=2), {}).env["SKEP_SLOT"] == "mine"


def test_resources_are_told_whatever_the_template_says() -> None:
    own = TaskTemplate(image="train:1", env={"DOCKER_RESOURCE_GPU": "all", "A": "b"})
    spec = TaskSpec(service="s", revision="r", generic={"gpu": ["G1", "G2"], "licence": 3})
    assert informed(own, Task(spec=spec), {"DOCKER_RESOURCE_GPU": "from a secret"}).env == {
        "A": "b", "DOCKER_RESOURCE_GPU": "G1,G2", "DOCKER_RESOURCE_LICENCE": "3",
    }  # fmt: skip


def test_a_service_is_left_as_it_is() -> None:
    assert informed(TEMPLATE, task(slot=3), {}) is TEMPLATE
