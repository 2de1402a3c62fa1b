"""`decide`, from every state in which anything can be cut off. Its invariants are in its module."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api.types.task import RANK, TERMINAL, TaskState, TaskStatus, forward
from controllers.agent.drivers.contract import Container, Phase
from controllers.agent.states import Do, Failure, Sight, decide, exit_words, status_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES = [state for state in TaskState if state is not TaskState.REMOVE]
BEFORE_START = [state for state in STATES if RANK[state] < RANK[TaskState.STARTING]]

containers = st.builds(
    Container,
    id=st.just("id"),
    task_uid=st.just("uid"),
    task_name=st.just("web.1"),
    namespace=st.just("default"),
    phase=st.sampled_from(Phase),
    exit_code=st.sampled_from([None, 0, 1, 126, 127, 137, 143, 255]),
    oom_killed=st.booleans(),
    health=st.sampled_from(["", "starting", "healthy", "unhealthy"]),
    health_output=st.sampled_from(["", "it aches"]),
    error=st.sampled_from(["", "the engine's words"]),
    started_at=st.sampled_from([None, NOW]),
    finished_at=st.sampled_from([None, NOW + timedelta(seconds=1)]),
)
statuses = st.builds(
    TaskStatus,
    state=st.sampled_from(STATES),
    message=st.sampled_from(["", "as it was"]),
    error=st.sampled_from(["", "as it failed"]),
    since=st.sampled_from([None, NOW]),
)
sights = st.builds(
    Sight,
    status=statuses,
    wanted=st.booleans(),
    container=st.none() | containers,
    waits_for=st.sampled_from(["", "secret default/late"]),
    failure=st.none()
    | st.sampled_from([Failure(TaskState.REJECTED, "no"), Failure(TaskState.FAILED, "broke")]),
)


def running(sight: Sight) -> bool:
    return sight.container is not None and sight.container.phase is Phase.RUNNING


@given(sights)
def test_a_state_never_goes_backwards_and_a_final_one_stays(sight: Sight) -> None:
    step = decide(sight)
    assert step.state == sight.status.state or forward(sight.status.state, step.state)


@given(sights)
def test_what_is_over_or_not_wanted_is_only_ever_stopped(sight: Sight) -> None:
    step = decide(sight)
    if not sight.wanted or sight.status.state in TERMINAL:
        assert step.do is (Do.STOP if running(sight) else Do.NOTHING)
        if step.do is Do.NOTHING:
            assert step.state in TERMINAL, "and then it is over"


@given(sights)
def test_a_wanted_task_that_runs_is_left_running(sight: Sight) -> None:
    step = decide(sight)
    if sight.wanted and running(sight) and sight.status.state not in TERMINAL:
        assert step.do in (Do.NOTHING, Do.STOP)
        if sight.failure is None and sight.container and sight.container.health != "unhealthy":
            assert step.do is Do.NOTHING
            assert step.state in (TaskState.STARTING, TaskState.RUNNING)


@given(sights)
def test_nothing_is_made_or_started_twice(sight: Sight) -> None:
    step = decide(sight)
    if step.do is Do.MAKE:
        assert sight.container is None
        assert step.state in BEFORE_START
        assert not sight.waits_for
    if step.do is Do.START:
        assert sight.container is not None
        assert sight.container.phase is Phase.CREATED
        assert RANK[step.state] <= RANK[TaskState.STARTING]


@given(sights)
def test_every_end_that_was_not_asked_for_says_why(sight: Sight) -> None:
    step = decide(sight)
    if step.state in (TaskState.FAILED, TaskState.REJECTED) and (
        sight.status.state not in TERMINAL
    ):
        assert step.error


@given(sights)
def test_where_nothing_is_to_do_nothing_more_is_said(sight: Sight) -> None:
    step = decide(sight)
    said = status_of(step, sight, NOW)
    if step.do is Do.NOTHING:
        again = msgspec.structs.replace(sight, status=said)
        assert decide(again).do is Do.NOTHING
        assert status_of(decide(again), again, NOW + timedelta(hours=1)) == said


@given(sights)
def test_a_final_status_has_an_end(sight: Sight) -> None:
    step = decide(sight)
    if step.state in TERMINAL and step.do is Do.NOTHING:
        assert status_of(step, sight, NOW).finished_at is not None


class Interrupted(RuleBasedStateMachine):
    """An agent that is cut off between any two moves, and what happens meanwhile.

    `view` is what the manager was told; a new agent begins from it and from the engine. Reports
    may be lost with the agent that would have made them.
    """

    @initialize(there=st.booleans())
    def assigned(self, there: bool) -> None:
        self.view = TaskStatus(state=TaskState.ASSIGNED)
        self.status = self.view
        self.wanted = True
        self.waits_for = "" if there else "secret default/late"
        self.failure: Failure | None = None
        self.container: Container | None = None
        self.pending: Do | None = None  # decided and said, not done yet
        self.made = 0
        self.clock = NOW

    # The agent.

    @precondition(lambda self: self.pending is None)
    @rule()
    def decides(self) -> None:
        sight = self.sight()
        step = decide(sight)
        status = status_of(step, sight, self.clock)
        assert status.state == self.status.state or forward(self.status.state, status.state)
        self.status = status
        self.pending = None if step.do is Do.NOTHING else step.do

    @precondition(lambda self: self.pending is not None)
    @rule(works=st.booleans())
    def acts(self, works: bool) -> None:
        do, self.pending = self.pending, None
        now = self.container
        if do is Do.MAKE:
            assert now is None, "made over another"
            if works:
                self.made += 1
                self.container = self.fresh()
            else:
                self.failure = Failure(TaskState.REJECTED, "no such image")
        elif do is Do.START and now is not None and now.phase is Phase.CREATED:
            if works:
                self.change(phase=Phase.RUNNING, started_at=self.clock)
            else:
                self.failure = Failure(TaskState.FAILED, "it could not be started")
        elif do is Do.STOP and now is not None and now.phase is Phase.RUNNING:
            self.change(phase=Phase.EXITED, exit_code=143, finished_at=self.clock)

    @rule()
    def reports(self) -> None:
        assert self.status.state == self.view.state or forward(self.view.state, self.status.state)
        self.view = self.status

    @rule()
    def is_killed_and_comes_back(self) -> None:
        self.status, self.failure, self.pending = self.view, None, None

    # The world. What changes while something is pending is what the engine knows first.

    @precondition(lambda self: self.pending is None)
    @rule()
    def is_not_wanted_any_more(self) -> None:
        self.wanted = False

    @rule()
    def what_it_waits_for_comes(self) -> None:
        self.waits_for = ""

    @precondition(lambda self: self.runs and self.pending is None)
    @rule(code=st.sampled_from([0, 1, 137]), oom=st.booleans())
    def ends_by_itself(self, code: int, oom: bool) -> None:
        self.change(phase=Phase.EXITED, exit_code=code, oom_killed=oom, finished_at=self.clock)

    @precondition(lambda self: self.runs and self.pending is None)
    @rule(health=st.sampled_from(["starting", "healthy", "unhealthy"]))
    def health_changes(self, health: str) -> None:
        self.change(health=health)

    @precondition(lambda self: self.container is not None and self.pending is None)
    @rule()
    def is_removed_by_somebody(self) -> None:
        self.container = None

    @precondition(lambda self: self.container is not None and self.pending is None)
    @rule()
    def is_started_by_somebody(self) -> None:
        self.change(phase=Phase.RUNNING, exit_code=None, started_at=self.clock, finished_at=None)

    @rule()
    def time_passes(self) -> None:
        self.clock += timedelta(seconds=1)

    # What holds.

    @invariant()
    def it_comes_to_rest(self) -> None:
        """Left alone, by an agent that works, it is where it should be within a few moves."""
        sight = self.sight()
        for _ in range(6):
            step = decide(sight)
            status = status_of(step, sight, self.clock)
            container = sight.container
            if step.do is Do.NOTHING:
                break
            if step.do is Do.MAKE:
                container = self.fresh()
            elif container is not None and step.do is Do.START:
                container = msgspec.structs.replace(container, phase=Phase.RUNNING)
            elif container is not None:
                container = msgspec.structs.replace(container, phase=Phase.EXITED, exit_code=143)
            sight = msgspec.structs.replace(sight, status=status, container=container)
        assert step.do is Do.NOTHING
        runs = sight.container is not None and sight.container.phase is Phase.RUNNING
        if not self.wanted:
            assert (step.state in TERMINAL, runs) == (True, False)
        elif step.state in TERMINAL:
            assert not runs
        elif not runs:
            assert (sight.container, bool(sight.waits_for)) == (None, True)

    def sight(self) -> Sight:
        return Sight(
            status=self.status,
            wanted=self.wanted,
            container=self.container,
            waits_for=self.waits_for if self.container is None else "",
            failure=self.failure,
        )

    def fresh(self) -> Container:
        return Container(
            id=f"made-{self.made}",
            task_uid="uid",
            task_name="web.1",
            namespace="default",
            phase=Phase.CREATED,
        )

    @property
    def runs(self) -> bool:
        return self.container is not None and self.container.phase is Phase.RUNNING

    def change(self, **fields: object) -> None:
        assert self.container is not None
        self.container = msgspec.structs.replace(self.container, **fields)


TestInterrupted = Interrupted.TestCase
TestInterrupted.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# Words.


def ended(**fields: object) -> Container:
    base = Container(
        id="id", task_uid="uid", task_name="web.1", namespace="default", phase=Phase.EXITED
    )
    return msgspec.structs.replace(base, **fields)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (ended(exit_code=1), "exit code 1"),
        (ended(exit_code=126), "exit code 126: usually a command that may not be run"),
        (ended(exit_code=127), "exit code 127: usually a command that is not in the image"),
        (ended(exit_code=139), "killed by SIGSEGV (exit code 139)"),
        (ended(exit_code=255), "exit code 255"),
        (ended(exit_code=128, error="no space left"), "no space left (exit code 128)"),
        (
            ended(exit_code=137, oom_killed=True),
            "out of memory: killed at its limit of 16Mi (exit code 137); "
            "raise resources.limits.memory, or use less",
        ),
    ],
)
def test_why_a_process_ended(container: Container, words: str) -> None:
    assert exit_words(container, "16Mi") == words


def test_killed_after_its_grace_is_not_out_of_memory() -> None:
    sight = Sight(
        status=TaskStatus(state=TaskState.RUNNING),
        wanted=False,
        container=ended(exit_code=137),
        grace=3,
    )
    step = decide(sight)
    assert step.state is TaskState.SHUTDOWN
    assert step.message == "killed: it did not end within its 3 s of grace"


def test_an_unhealthy_one_is_remembered_by_the_next_agent() -> None:
    """The agent is cut off while it stops it: the reason must not become an exit code."""
    ill = msgspec.structs.replace(
        ended(), phase=Phase.RUNNING, health="unhealthy", health_output="it aches"
    )
    sight = Sight(status=TaskStatus(state=TaskState.RUNNING), wanted=True, container=ill)
    step = decide(sight)
    assert step.do is Do.STOP
    said = status_of(step, sight, NOW)
    later = Sight(status=said, wanted=True, container=ended(exit_code=143))
    assert decide(later).state is TaskState.FAILED
    assert decide(later).error == "health check failed: it aches"
