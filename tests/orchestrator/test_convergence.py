"""Whatever happens to a service, it comes to rest where it should, and keeps its word till then."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from api.types.service import Placement, RestartPolicy, UpdatePolicy
from api.types.task import TaskState
from tests.orchestrator.toy import Toy, service

seeds = st.integers(0, 10_000)
orders = st.sampled_from(["stop-first", "start-first"])
parallelisms = st.one_of(st.integers(0, 4), st.sampled_from(["25%", "100%"]))
actions = st.sampled_from(["pause", "continue", "rollback"])
happenings = st.lists(
    st.tuples(
        st.sampled_from(
            ["image", "scale", "lose", "return", "drain", "pause", "activate", "fail", "engine",
             "delete node", "order", "hold", "resume", "move", "lead"]
        ),
        st.integers(0, 5),
        st.integers(0, 8),  # steps until the next
    ),
    max_size=12,
)  # fmt: skip
updates = st.builds(
    UpdatePolicy,
    order=orders,
    parallelism=parallelisms,
    failure_action=actions,
    max_failure_ratio=st.sampled_from([0.0, 0.4]),
    monitor=st.sampled_from(["0s", "2s", "10s"]),
    delay=st.sampled_from(["0s", "3s"]),
    deadline=st.sampled_from(["0s", "20s"]),
)
DELAY = RestartPolicy(delay="2s")


def happen(toy: Toy, what: str, number: int) -> None:
    name = f"n{number % 3}"
    if what == "image":
        toy.image(f"web:{number}")
    elif what == "scale":
        toy.scale(number)
    elif what == "fail":
        toy.fail()
    elif what == "order":
        order = "start-first" if number % 2 else "stop-first"
        found = toy.service.spec.update
        toy.service.spec.update = msgspec.structs.replace(found, order=order, parallelism=number)
    elif what == "lead":
        toy.lead()
    elif what == "hold":
        toy.hold(True)
    elif what == "resume":
        toy.resume()
    elif what == "move":
        constraints = [f"node.hostname != {name}"] if number < 3 else []
        toy.service.spec.placement = Placement(constraints=constraints)
    elif name not in toy.nodes:
        return
    elif what == "lose":
        toy.ready(name, "Unknown")
    elif what == "engine":
        toy.ready(name, "False")
    elif what == "return":
        toy.ready(name, "True")
    elif what == "delete node" and len(toy.nodes) > 1:
        del toy.nodes[name]
    elif what in ("drain", "pause"):
        toy.availability(name, what)
    elif what == "activate":
        toy.availability(name, "active")


@settings(max_examples=150, deadline=None)
@given(seeds, happenings, updates, st.sampled_from([1.0, 0.5]))
def test_a_replicated_service_comes_to_rest(
    seed: int, story: list[tuple[str, int, int]], update: UpdatePolicy, share: float
) -> None:
    toy = Toy(service(3, restart=DELAY, update=update, rollback=UpdatePolicy()), seed=seed)
    for what, number, steps in story:
        happen(toy, what, number)
        for _ in range(steps):
            toy.step(share=share)
    toy.hold(False)
    if not toy.usable():
        toy.service.spec.update.deadline = "0s"  # it would pass again and again
    toy.converge_on()
    wanted = [task for task in toy.tasks.values() if task.live and task.wanted]
    # Without a usable node new tasks wait, and what runs on paused nodes is left alone.
    assert len({task.spec.slot for task in wanted}) == toy.service.spec.replicas
    if not toy.usable():
        return
    assert len(wanted) == toy.service.spec.replicas
    assert all(task.status.state is TaskState.RUNNING for task in wanted)
    assert {task.spec.revision for task in wanted} <= {toy.goal}
    assert len(toy.running()) == toy.service.spec.replicas
    decision = toy.decide()
    assert decision.status is not None
    assert decision.status.running == decision.status.updated == toy.service.spec.replicas


@settings(max_examples=100, deadline=None)
@given(seeds, happenings, updates, st.sampled_from([1.0, 0.5]))
def test_a_global_service_comes_to_rest(
    seed: int, story: list[tuple[str, int, int]], update: UpdatePolicy, share: float
) -> None:
    toy = Toy(service(mode="global", restart=DELAY, update=update), seed=seed)
    for what, number, steps in story:
        happen(toy, what, number)
        for _ in range(steps):
            toy.step(share=share)
    toy.hold(False)
    if not toy.usable():
        toy.service.spec.update.deadline = "0s"  # it would pass again and again
    toy.converge_on()
    usable = set(toy.usable())
    assert {task.spec.node for task in toy.running()} >= usable
    for name in usable:
        live = [t for t in toy.tasks.values() if t.spec.node == name and t.live and t.wanted]
        assert [task.spec.revision for task in live] == [toy.goal]


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 8), st.integers(1, 4), st.booleans(), st.sampled_from([1.0, 0.4]))
def test_an_update_keeps_all_but_its_parallelism_up(
    seed: int, replicas: int, parallelism: int, bad: bool, share: float
) -> None:
    toy = Toy(
        service(replicas, restart=DELAY, update=UpdatePolicy(parallelism=parallelism)), seed=seed
    )
    toy.converge()
    new = toy.image("web:2")
    if bad:
        toy.bad.add(new)
    for _ in range(60):
        toy.step(share=share)
        assert toy.slots_up() >= replicas - parallelism
    if bad:
        toy.image("web:1")
    toy.converge()
    assert len(toy.running()) == replicas


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 6), parallelisms, st.booleans())
def test_start_first_takes_nothing_down(
    seed: int, replicas: int, parallelism: int, bad: bool
) -> None:
    update = UpdatePolicy(parallelism=parallelism, order="start-first")
    toy = Toy(service(replicas, restart=DELAY, update=update), seed=seed)
    toy.converge()
    new = toy.image("web:2")
    if bad:
        toy.bad.add(new)
    for _ in range(40):
        toy.step()
        assert toy.slots_up() == replicas
    if not bad:
        toy.converge()
        assert {task.spec.revision for task in toy.running()} == {new}


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 8))
def test_a_node_lost_in_a_standing_rollout_gets_the_old_revision_back(
    seed: int, replicas: int
) -> None:
    toy = Toy(service(replicas, restart=DELAY), seed=seed)
    toy.converge()
    toy.bad.add(toy.image("web:broken"))
    for _ in range(20):
        toy.step()
    toy.ready("n0", "Unknown")
    for _ in range(40):
        toy.step()
    assert toy.slots_up() >= replicas - 1


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 6))
def test_draining_starts_the_replacement_first(seed: int, replicas: int) -> None:
    toy = Toy(service(replicas, restart=DELAY), seed=seed)
    toy.converge()
    toy.availability("n1", "drain")
    for _ in range(30):
        toy.step()
        assert toy.slots_up() == replicas
    assert all(task.spec.node != "n1" for task in toy.tasks.values() if task.live)
