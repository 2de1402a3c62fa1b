"""Start order: a service's first start waits for others, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.types.dependency import Dependency
from api.types.job import JobStatus, Run
from api.types.meta import Metadata
from api.types.service import Service, ServiceSpec, ServiceStatus
from api.types.task import Task, TaskSpec, TaskState
from api.types.template import TaskTemplate
from controllers.orchestrator.decide import decide
from controllers.orchestrator.decision import World
from controllers.orchestrator.dependencies import Other, waits_for
from tests.orchestrator.toy import Toy, service


def other(name: str, *states: TaskState, mode: str = "replicated", replicas: int = 1) -> Other:
    spec = ServiceSpec(template=TaskTemplate(image="a:1"), mode=mode, replicas=replicas)
    tasks = [
        Task(
            metadata=Metadata(name=f"{name}-{slot}"),
            spec=TaskSpec(service=name, revision="r", slot=slot),
        )
        for slot in range(1, len(states) + 1)
    ]
    for task, state in zip(tasks, states, strict=True):
        task.status.state = state
    return Other(Service(metadata=Metadata(name=name), spec=spec), tasks)


def words(condition: str, db: Other | None) -> str:
    return waits_for([Dependency(service="db", condition=condition)], lambda name: db)


STARTING, RUNNING, COMPLETE = TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE


@pytest.mark.parametrize(
    ("condition", "db", "said"),
    [
        ("healthy", None, "service db, which does not exist"),
        ("healthy", other("db"), "service db to be healthy (0/1 tasks are)"),
        ("healthy", other("db", STARTING), "service db to be healthy (0/1 tasks are)"),
        ("healthy", other("db", RUNNING), ""),
        ("healthy", other("db", RUNNING, replicas=2), "service db to be healthy (1/2 tasks are)"),
        ("healthy", other("db", replicas=0), "service db to be healthy (0/1 tasks are)"),
        ("started", other("db", TaskState.READY), "service db to be started (0/1 tasks are)"),
        ("started", other("db", STARTING), ""),
        ("started", other("db", COMPLETE), ""),
        ("completed", other("db", RUNNING), "service db to complete"),
        ("completed", other("db", COMPLETE), ""),
        ("completed", other("db", TaskState.FAILED), "service db to complete"),
    ],
)
def test_what_is_waited_for(condition: str, db: Other | None, said: str) -> None:
    assert words(condition, db) == said


@pytest.mark.parametrize(
    ("result", "said"), [("Failed", "service db to complete"), ("Complete", "")]
)
def test_a_job_completes_with_a_run(result: str, said: str) -> None:
    job = other("db", mode="replicated-job")
    job.service.status = ServiceStatus(job=JobStatus(runs=[Run(number=1, result=result)]))
    assert words("completed", job) == said


def test_a_service_that_waits_has_no_tasks_and_says_why() -> None:
    toy = Toy(service(2))
    held = World(toy.nodes, toy.observed, toy.now, waits_for="service db to be healthy")
    decision = decide(toy.service, toy.revision, [], [], held)
    assert not decision.create
    assert decision.revision is None
    assert decision.status is not None
    assert {c.message for c in decision.status.conditions} == {
        "Pending: waiting for service db to be healthy"
    }
    toy.carry_out(decision)
    decision = toy.decide()
    assert len(decision.create) == 2
    toy.carry_out(decision)
    assert decision.status is not None
    assert not any(c.reason == "WaitsForService" for c in decision.status.conditions)


def test_only_the_first_start_waits() -> None:
    toy = Toy(service(2))
    toy.carry_out(toy.decide())
    toy.tasks.clear()
    held = World(toy.nodes, toy.observed, toy.now, waits_for="service db to be healthy")
    again = decide(toy.service, toy.revision, [], list(toy.revisions.values()), held)
    assert len(again.create) == 2


@given(st.data())
def test_all_come_up_each_after_what_it_needs(data: st.DataObject) -> None:
    """Any order without a cycle, looked at in any order."""
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 8)))]
    needs = {
        name: data.draw(st.lists(st.sampled_from(names[:number]), unique=True)) if number else []
        for number, name in enumerate(names)
    }
    there = {name: other(name) for name in names}
    started: list[str] = []
    for _ in names:
        for name in data.draw(st.permutations(names)):
            wanted = [Dependency(service=need) for need in needs[name]]
            if name not in started and not waits_for(wanted, there.get):
                assert set(needs[name]) <= set(started)
                there[name] = other(name, RUNNING)
                started.append(name)
    assert sorted(started) == sorted(names)
