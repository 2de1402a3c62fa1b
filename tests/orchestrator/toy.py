"""A toy world for decisions: tasks and nodes as plain data, time as a number, no loop."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from api.types.meta import Condition, Metadata
from api.types.node import Node, NodeSpec, NodeStatus
from api.types.revision import Revision, revision_name
from api.types.service import RESUME, Service, ServiceSpec, UpdateStatus
from api.types.task import TERMINAL, Task, TaskState
from api.types.template import TaskTemplate
from controllers.orchestrator.decide import decide
from controllers.orchestrator.decision import Decision, Observed, World
from controllers.orchestrator.slots import never_assigned
from controllers.orchestrator.update import HALTED, halt_of
from controllers.placement.suitable import Requirements

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NEXT = {
    TaskState.ASSIGNED: TaskState.PREPARING,
    TaskState.PREPARING: TaskState.STARTING,
    TaskState.STARTING: TaskState.RUNNING,
}


def service(replicas: int = 3, **spec: Any) -> Service:
    return Service(
        metadata=Metadata(name="web", namespace="default", uid="u-web", generation=1),
        spec=ServiceSpec(template=TaskTemplate(image="web:1"), replicas=replicas, **spec),
    )


def node(name: str, **labels: str) -> Node:
    ready = Condition(type="Ready", status="True")
    return Node(
        metadata=Metadata(name=name, uid=name, labels=labels),
        spec=NodeSpec(),
        status=NodeStatus(hostname=name, os="linux", architecture="amd64", conditions=[ready]),
    )


class Toy:
    """`bad` images never run. All randomness comes from `chance`."""

    def __init__(self, found: Service, nodes: int = 3, seed: int = 0) -> None:
        self.service = found
        self.nodes = {f"n{number}": node(f"n{number}") for number in range(nodes)}
        self.tasks: dict[str, Task] = {}
        self.revisions: dict[str, Revision] = {}
        self.observed = Observed()
        self.now = EPOCH
        self.bad: set[str] = set()
        self.chance = random.Random(seed)

    @property
    def update(self) -> UpdateStatus | None:
        return self.service.status.update

    @property
    def state(self) -> str:
        return "" if self.update is None else self.update.state

    @property
    def goal(self) -> str:
        """The revision that its tasks should come to, once all is over."""
        rolled_back = self.update is not None and self.state == "rollback_completed"
        return self.update.previous if self.update and rolled_back else self.revision

    @property
    def revision(self) -> str:
        return revision_name("web", self.service.spec.template)

    def decide(self) -> Decision:
        """What is to be done once the turns of an update are on record."""
        for _ in range(5):
            decision = self.look()
            if not decision.record:
                return decision
            self.record(decision)
        raise AssertionError("an update turns for ever")

    def record(self, decision: Decision) -> None:
        assert decision.record
        assert not (decision.create or decision.update or decision.delete or decision.drop)
        self.carry_out(decision)

    def look(self) -> Decision:
        world = World(nodes=self.nodes, observed=self.observed, now=self.now)
        tasks = list(self.tasks.values())
        self.chance.shuffle(tasks)  # a decision may not depend on the order it finds them in
        return decide(self.service, self.revision, tasks, list(self.revisions.values()), world)

    def carry_out(self, decision: Decision, *, share: float = 1.0) -> None:
        """Do what was decided, or by chance only a share of it: the process died meanwhile."""

        def lucky() -> bool:
            return self.chance.random() < share

        if decision.status is not None and (decision.record or lucky()):
            # Seldom: it is written when there is time.
            self.service = msgspec.structs.replace(self.service, status=decision.status)
        if decision.revision is not None:
            self.revisions[decision.revision.metadata.name] = decision.revision
        for task in decision.create:
            assert task.metadata.name not in self.tasks, "a name is used twice"
            if lucky():
                self.tasks[task.metadata.name] = task
        for task, desired in decision.update:
            if lucky():
                spec = msgspec.structs.replace(task.spec, desired_state=desired)
                self._put(msgspec.structs.replace(task, spec=spec))
                self.observed.told.setdefault(task.metadata.uid, self.now)
        for task in decision.delete:
            assert not task.live or never_assigned(task), "a live task was deleted"
            if lucky():
                del self.tasks[task.metadata.name]
        for old in decision.drop:
            del self.revisions[old.metadata.name]

    def _put(self, task: Task) -> None:
        self.tasks[task.metadata.name] = task

    def usable(self) -> list[str]:
        requirements = Requirements(self.service.spec.placement)
        return [
            name
            for name, found in self.nodes.items()
            if found.spec.availability == "active"
            and found.status.conditions[0].status == "True"
            and requirements.met_by(found)
        ]

    def schedule(self) -> None:
        usable = self.usable()
        for task in list(self.tasks.values()):
            if task.status.state is TaskState.PENDING and task.wanted:
                name = task.spec.node or (self.chance.choice(usable) if usable else "")
                if name in usable:
                    spec = msgspec.structs.replace(task.spec, node=name)
                    self._put(msgspec.structs.replace(task, spec=spec))
                    self.set_state(task.metadata.name, TaskState.ASSIGNED)

    def agents(self, pace: float = 0.7) -> None:
        """Each task moves a step by chance, where its node is there."""
        for task in list(self.tasks.values()):
            found = self.nodes.get(task.spec.node)
            here = found is not None and found.status.conditions[0].status == "True"
            if not here or never_assigned(task) or not task.live or self.chance.random() > pace:
                continue
            self._step(task)

    def _step(self, task: Task) -> None:
        name, state = task.metadata.name, task.status.state
        if not task.wanted:
            self.set_state(name, TaskState.SHUTDOWN)
        elif state is TaskState.STARTING and task.spec.revision in self.bad:
            self.set_state(name, TaskState.FAILED)
        elif state in NEXT:
            self.set_state(name, NEXT[state])

    def set_state(self, name: str, state: TaskState) -> None:
        task = self.tasks[name]
        status = msgspec.structs.replace(task.status, state=state, since=self.now)
        if state is TaskState.STARTING:
            status.started_at = self.now
        elif state is TaskState.RUNNING:
            self.observed.running[task.metadata.uid] = self.now
        elif state in TERMINAL:
            status.finished_at = self.now
        self._put(msgspec.structs.replace(task, status=status))
        if not self.tasks[name].live:
            self.observed.ended.setdefault(task.metadata.uid, self.now)

    def reap(self) -> None:
        for task in list(self.tasks.values()):
            gone = task.spec.node and task.spec.node not in self.nodes
            if task.spec.desired_state is TaskState.REMOVE and (
                not task.live or never_assigned(task) or gone
            ):
                del self.tasks[task.metadata.name]
            elif gone and task.live and not never_assigned(task):
                self.set_state(task.metadata.name, TaskState.ORPHANED)
            elif task.spec.desired_state is TaskState.SHUTDOWN and never_assigned(task):
                self.set_state(task.metadata.name, TaskState.SHUTDOWN)
        slots: dict[object, list[Task]] = {}
        for task in self.tasks.values():
            if not task.live:
                key = (task.spec.run, task.spec.slot or task.spec.node)
                slots.setdefault(key, []).append(task)
        for history in slots.values():
            history.sort(key=lambda t: t.metadata.creation_timestamp or EPOCH)
            for task in history[:-5]:
                del self.tasks[task.metadata.name]

    def step(self, seconds: float = 1.0, *, share: float = 1.0, pace: float = 0.7) -> Decision:
        self.now += timedelta(seconds=seconds)
        decision = self.decide()
        self.carry_out(decision, share=share)
        self.schedule()
        self.agents(pace)
        self.reap()
        return decision

    # What the world does

    def image(self, image: str) -> str:
        self.service.spec.template = TaskTemplate(image=image)
        self.service.metadata.generation += 1
        return self.revision

    def join(self, name: str) -> None:
        self.nodes[name] = node(name)

    def scale(self, replicas: int) -> None:
        self.service.spec.replicas = replicas
        self.service.metadata.generation += 1

    def lead(self) -> None:
        """Another manager decides from now on: it has seen nothing of what was before."""
        self.observed = Observed()
        for task in self.tasks.values():
            if task.status.state is TaskState.RUNNING and task.status.since is not None:
                self.observed.running[task.metadata.uid] = task.status.since
            if task.live and not task.wanted:
                self.observed.told[task.metadata.uid] = self.now
        for name, found in self.nodes.items():
            if found.spec.availability == "drain":
                self.observed.draining[name] = self.now

    def hold(self, paused: bool) -> None:
        self.service.spec.paused = paused
        self.service.metadata.generation += 1

    def resume(self) -> None:
        """What `ctl rollout resume` does."""
        self.hold(False)
        if self.update is not None:
            self.service.metadata.annotations[RESUME] = halt_of(self.update)

    def ready(self, name: str, status: str) -> None:
        found = self.nodes[name]
        condition = Condition(type="Ready", status=status, last_transition_time=self.now)
        status_ = msgspec.structs.replace(found.status, conditions=[condition])
        self.nodes[name] = msgspec.structs.replace(found, status=status_)

    def availability(self, name: str, word: str) -> None:
        found = self.nodes[name]
        self.nodes[name] = msgspec.structs.replace(found, spec=NodeSpec(availability=word))
        self.observed.draining.pop(name, None)
        if word == "drain":
            self.observed.draining[name] = self.now

    def fail(self) -> None:
        running = self.running()
        if running:
            self.set_state(self.chance.choice(running).metadata.name, TaskState.FAILED)

    # What is seen

    def running(self) -> list[Task]:
        """Running and wanted, where the node is there."""
        return [
            task
            for task in self.tasks.values()
            if task.status.state is TaskState.RUNNING
            and task.wanted
            and task.spec.node in self.nodes
            and self.nodes[task.spec.node].status.conditions[0].status == "True"
        ]

    def slots_up(self) -> int:
        return len({task.spec.slot or task.spec.node for task in self.running()})

    def converge(self, steps: int = 300) -> None:
        """Step until a decision changes nothing twenty times in a row; fail if that never is."""
        still = 0
        for _ in range(steps):
            decision = self.step()
            changed = decision.create or decision.update or decision.delete or decision.revision
            still = 0 if changed else still + 1
            if still == 90:
                return
        raise AssertionError(f"it never rests: {[t for t in self.tasks.values() if t.live]}")

    def converge_on(self) -> None:
        """Converge, as often as somebody resumes what failures have paused."""
        for _ in range(5):
            self.converge()
            if self.state not in HALTED:
                return
            self.resume()
        raise AssertionError(f"it halts again and again: {self.update}")
