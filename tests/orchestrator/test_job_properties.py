"""Whatever happens to a job and to its managers, a run keeps its word."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.task import TaskState
from tests.orchestrator.jobtoy import JobToy

seeds = st.integers(0, 10_000)
shares = st.sampled_from([1.0, 0.5, 0.3])  # of what was decided that is done before a crash
chances = st.sampled_from([0.0, 0.2, 0.5, 1.0])
ENDED = (TaskState.COMPLETE, TaskState.FAILED)


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(0, 3), st.integers(0, 4), chances, shares)
def test_a_run_never_does_too_much_and_does_not_give_up_early(
    seed: int, completions: int, parallelism: int, limit: int, failing: float, share: float
) -> None:
    toy = JobToy(
        seed=seed, failing=failing, completions=completions, parallelism=parallelism,
        backoff_limit=limit,
    )  # fmt: skip
    most = parallelism or completions
    still = 0
    for _ in range(2000):
        toy.step(share=share)
        assert len(toy.live()) <= most
        slots = [task.spec.slot for task in toy.live()]
        assert len(slots) == len(set(slots))
        still = still + 1 if toy.job.runs and toy.run.over and not toy.live() else 0
        if still == 40:
            break
        if toy.chance.random() < 0.1:
            toy.another_manager()
        if toy.chance.random() < 0.1:
            # Its tasks stop, and are started elsewhere when they have. One node stays.
            toy.availability(
                toy.chance.choice(["n1", "n2"]), toy.chance.choice(["drain", "active"])
            )
    assert still == 40, toy.job
    assert len(toy.job.runs) == 1
    done = [task.spec.slot for task in toy.of(1, TaskState.COMPLETE)]
    assert len(done) == len(set(done))
    if toy.run.result == "Complete":
        assert sorted(done) == list(range(1, completions + 1))
        assert toy.run.failed <= limit
    else:
        assert toy.run.reason == "BackoffLimitExceeded"
        # Those that were under way together may fail together, and nothing is started after.
        assert limit < toy.run.failed <= limit + most


happenings = st.lists(
    st.tuples(
        st.sampled_from(
            ["lose", "return", "drain", "activate", "engine", "delete node", "join", "manager"]
        ),
        st.integers(0, 4),
        st.integers(0, 6),  # steps until the next
    ),
    max_size=10,
)


def happen(toy: JobToy, what: str, number: int) -> None:
    name = f"n{number}"
    if what == "join":
        toy.join(name)
    elif what == "manager":
        toy.another_manager()
    elif name not in toy.nodes:
        return
    elif what == "lose":
        toy.ready(name, "Unknown")
    elif what == "engine":
        toy.ready(name, "False")
    elif what == "return":
        toy.ready(name, "True")
    elif what == "delete node":
        del toy.nodes[name]
    else:
        toy.availability(name, "drain" if what == "drain" else "active")


def heal(toy: JobToy) -> None:
    """All nodes are well, and there is one at least."""
    if not toy.nodes:
        toy.join("n0")
    for name in toy.nodes:
        toy.ready(name, "True")
        toy.availability(name, "active")


@settings(max_examples=120, deadline=None)
@given(seeds, happenings, st.integers(1, 5), st.integers(0, 3), shares)
def test_a_replicated_job_completes_whatever_happens_to_nodes(
    seed: int,
    story: list[tuple[str, int, int]],
    completions: int,
    parallelism: int,
    share: float,
) -> None:
    toy = JobToy(seed=seed, completions=completions, parallelism=parallelism, backoff_limit=0)
    for what, number, steps in story:
        happen(toy, what, number)
        for _ in range(steps):
            toy.step(share=share)
    heal(toy)
    toy.settle()
    assert (toy.run.result, toy.run.failed) == ("Complete", 0)
    assert len({task.spec.slot for task in toy.of(1, TaskState.COMPLETE)}) == completions
    assert not toy.live()
    assert len(toy.job.runs) == 1


@settings(max_examples=120, deadline=None)
@given(seeds, happenings, st.integers(0, 2), shares)
def test_a_global_job_ends_once_on_every_node(
    seed: int, story: list[tuple[str, int, int]], parallelism: int, share: float
) -> None:
    toy = JobToy(mode="global-job", seed=seed, parallelism=parallelism, backoff_limit=0)
    for what, number, steps in story:
        happen(toy, what, number)
        for _ in range(steps):
            toy.step(share=share)
            there = [task for task in toy.live() if task.spec.node in toy.usable()]
            nodes = [task.spec.node for task in there]
            assert len(nodes) == len(set(nodes))
    heal(toy)
    toy.settle()
    assert toy.run.result == "Complete"
    for name in toy.nodes:
        done = [task for task in toy.of(1, TaskState.COMPLETE) if task.spec.node == name]
        assert len(done) >= 1
    assert not toy.live()


@settings(max_examples=60, deadline=None)
@given(seeds, st.lists(st.integers(0, 25), min_size=1, max_size=4), chances, shares)
def test_each_change_is_one_run_and_runs_do_not_overlap(
    seed: int, gaps: list[int], failing: float, share: float
) -> None:
    toy = JobToy(
        seed=seed, failing=failing, completions=3, parallelism=2, backoff_limit=2,
        keep_succeeded=9, keep_failed=9,
    )  # fmt: skip
    for number, steps in enumerate(gaps):
        toy.image(f"web:{number}")
        for _ in range(steps):
            toy.step(share=share)
            assert len({task.spec.run for task in toy.live()}) <= 1
    toy.settle()
    # A change that nobody looked at before the next one is none.
    changes = 1 + sum(steps > 0 for steps in gaps[:-1])
    assert len(toy.job.runs) <= len(gaps)
    if share == 1.0:
        assert len(toy.job.runs) == changes
    assert toy.run.revision == toy.revision
    assert [run.number for run in toy.job.runs] == list(range(len(toy.job.runs), 0, -1))
