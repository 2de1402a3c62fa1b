"""A toy world in which tasks end, and the service's status is kept as the store would keep it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from api.types.job import JobPolicy, JobStatus, Run, Schedule
from api.types.meta import Condition, condition
from api.types.service import RestartPolicy, ServiceStatus
from api.types.task import Task, TaskState
from controllers.orchestrator.decision import Decision, Observed
from tests.orchestrator.toy import Toy, service


class JobToy(Toy):
    """`failing`: the chance, from 0 to 1, that a task fails. Tasks end by chance, too."""

    def __init__(
        self,
        *,
        mode: str = "replicated-job",
        nodes: int = 3,
        seed: int = 0,
        failing: float = 0.0,
        schedule: Schedule | None = None,
        restart: RestartPolicy | None = None,
        **job: Any,
    ) -> None:
        found = service(
            1, mode=mode, job=JobPolicy(**job), schedule=schedule,
            restart=restart or RestartPolicy(delay="2s", max_delay="2s"),
        )  # fmt: skip
        super().__init__(found, nodes, seed)
        self.failing = failing
        self.ending = 0.4  # the chance that a running task ends in a step
        self.notes: list[str] = []

    def decide(self) -> Decision:
        """One look: what has to be on record first is a decision of its own here."""
        return self.look()

    def carry_out(self, decision: Decision, *, share: float = 1.0) -> None:
        if decision.record:
            assert not (decision.create or decision.update or decision.delete)
        super().carry_out(msgspec.structs.replace(decision, status=None), share=share)
        self.notes += [note.reason for note in decision.notes]
        if decision.expired:
            self.service.metadata.deletion_timestamp = self.now
        elif decision.status is not None and self.chance.random() < share:
            stored = msgspec.json.encode(decision.status)
            status = msgspec.json.decode(stored, type=ServiceStatus)
            self.service = msgspec.structs.replace(self.service, status=status)

    def _step(self, task: Task) -> None:
        if task.wanted and task.status.state is TaskState.RUNNING:
            if self.chance.random() < self.ending:
                failed = self.chance.random() < self.failing
                self.end(task, TaskState.FAILED if failed else TaskState.COMPLETE)
        else:
            super()._step(task)

    def end(self, task: Task, state: TaskState) -> None:
        self.set_state(task.metadata.name, state)

    def another_manager(self) -> None:
        """It knows what is stored, and nothing that the one before it saw."""
        self.observed = Observed()

    def force(self) -> None:
        """`ctl restart`."""
        template = self.service.spec.template
        force = template.force_update + 1
        self.service.spec.template = msgspec.structs.replace(template, force_update=force)
        self.service.metadata.generation += 1

    def settle(self, steps: int = 400) -> None:
        """Until all that was begun is over and nothing changes; fails where that never is."""
        still = 0
        for _ in range(steps):
            decision = self.step()
            changed = decision.create or decision.update or decision.delete or decision.record
            busy = changed or any(not run.over for run in self.job.runs)
            still = 0 if busy else still + 1
            if still == 30:
                return
        raise AssertionError(f"it never rests: {self.job.runs}")

    def passes(self, seconds: float, stride: float = 10.0) -> None:
        """Time in which a manager looks as often as a decision asks for, or each `stride`."""
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            decision = self.step(0)
            wait = min(stride, decision.requeue_after or stride)
            self.now = min(end, self.now + timedelta(seconds=max(wait, 0.001)))

    # What is seen

    @property
    def job(self) -> JobStatus:
        return self.service.status.job or JobStatus()

    @property
    def run(self) -> Run:
        """The newest."""
        return self.job.runs[0]

    def condition(self, kind: str) -> Condition:
        found = condition(self.service.status.conditions, kind)
        assert found is not None
        return found

    def of(self, run: int, *states: TaskState) -> list[Task]:
        return [
            task
            for task in self.tasks.values()
            if task.spec.run == run and (not states or task.status.state in states)
        ]

    def live(self, run: int | None = None) -> list[Task]:
        return [t for t in self.tasks.values() if t.live and run in (None, t.spec.run)]
