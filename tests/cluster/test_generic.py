"""Generic resources on a real engine. No GPU is needed: other devices stand for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, Document, service, until
from tests.cluster.test_template import Inside

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.etcd]

LINES = ["/dev/fuse", "/dev/kmsg"]  # there on any Linux, and in no container by itself
OPTIONS = ("--resource", f"line={','.join(LINES)}", "--resource", "gpu=GPU-1", "--resource",
           "licence=3")  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, busybox: None) -> Iterator[Cluster]:
    it = Cluster(tmp_path_factory.mktemp("cluster"), agent_options=OPTIONS)
    try:
        it.start()
        yield it
    finally:
        it.stop()


def reserving(name: str, replicas: int = 1, **generic: int) -> Document:
    return service(name, replicas=replicas, resources={"reservations": {"generic": generic}})


def given(task: Document) -> Document:
    found: Document = task["spec"]["generic"]
    return found


def lines(found: list[Inside]) -> list[str]:
    """The devices, of those that stand for lines, that the containers have."""
    look = f"ls {' '.join(LINES)} 2>/dev/null || true"
    return sorted(path for each in found for path in each.run(look).split())


def test_each_task_has_its_own_and_keeps_it_whoever_is_restarted(cluster: Cluster) -> None:
    wish = reserving("modem", 3, line=1, licence=1)
    wish["spec"]["template"]["devices"] = [{"resource": "line", "permissions": "r"}]
    cluster.apply(wish)
    words = "no suitable node (insufficient line on 1 node)"
    until(lambda: words in cluster.ctl("get", "tasks").stdout, "the third waits, and says so")
    two = until(lambda: [*cluster.tasks("modem", "Running")][1:] and cluster.tasks("modem",
                "Running"), "two run")  # fmt: skip
    inside = [Inside(cluster, task) for task in two]
    assert lines(inside) == LINES
    for each in inside:
        environment = each.environment()
        assert lines([each]) == [environment["DOCKER_RESOURCE_LINE"]] == given(each.task)["line"]
        assert environment["DOCKER_RESOURCE_LICENCE"] == "1"
        assert each.engine["HostConfig"]["Devices"][0]["CgroupPermissions"] == "r"

    wide = cluster.ctl("get", "nodes", "-o", "wide").stdout
    assert "gpu 0/1, licence 2/3, line 2/2" in wide
    shown = cluster.ctl("describe", "node", cluster.node).stdout
    assert "line: 2 of 2 used; used: /dev/fuse, /dev/kmsg" in shown
    assert "gpu: 0 of 1 used; free: GPU-1" in shown
    assert "licence: 2 of 3 used" in shown

    for part in ("agent", "manager"):
        cluster.kill(part)
    cluster.start()
    _end_one(cluster, "modem", inside[0])
    again = until(lambda: _others(cluster, inside[0]), "another takes over what it had")
    assert lines([Inside(cluster, task) for task in again]) == LINES
    cluster.ctl("delete", "service", "modem")


def _end_one(cluster: Cluster, name: str, one: Inside) -> None:
    cluster.docker("rm", "-f", one.id)
    gone = one.task["metadata"]["name"]
    until(lambda: all(t["metadata"]["name"] != gone for t in cluster.tasks(name, "Running")),
          f"the end of {gone} is known")  # fmt: skip


def _others(cluster: Cluster, gone: Inside) -> list[Document]:
    running = cluster.tasks("modem", "Running")
    without = [t for t in running if t["metadata"]["uid"] != gone.task["metadata"]["uid"]]
    return without if len(without) == 2 else []


def test_ids_go_to_the_engines_device_driver(cluster: Cluster) -> None:
    """Which this engine has not: what it says to that becomes the task's words."""
    wish = reserving("train", gpu=1)
    wish["spec"]["template"]["devices"] = [{"resource": "gpu", "driver": "nvidia"}]
    wish["spec"]["restart"] = {"condition": "none"}
    cluster.apply(wish)

    def error() -> str:
        tasks = [task for task in cluster.items("tasks") if task["spec"]["service"] == "train"]
        return str(tasks[0]["status"].get("error", "")) if tasks else ""

    said = until(error, "it says what the engine lacks")
    assert "the engine has no device driver nvidia for gpu, so it can't hand over GPU-1" in said
    assert "nvidia-container-toolkit" in said
    (made,) = cluster.running_of("train", every=True)
    asked = cluster.docker("inspect", "-f", "{{json .HostConfig.DeviceRequests}}", made)
    assert '"Driver":"nvidia"' in asked
    assert '"DeviceIDs":["GPU-1"]' in asked
    assert '"Capabilities":[["gpu"]]' in asked
    until(lambda: "gpu 0/1" in cluster.ctl("get", "nodes", "-o", "wide").stdout, "it is given back")
    cluster.ctl("delete", "service", "train")


def test_a_node_that_has_less_keeps_its_tasks(cluster: Cluster) -> None:
    cluster.apply(reserving("solver", licence=2))
    (task,) = cluster.until_running("solver", 1)
    cluster.kill("agent")
    cluster.agent_options = ("--resource", "licence=1")
    cluster.start_agent()
    until(lambda: "licence: 2 of 1 used" in cluster.ctl("describe", "node", cluster.node).stdout,
          "the node says what it has now")  # fmt: skip
    until(lambda: "1 licence more than the node has" in cluster.ctl("events", "-A").stdout,
          "an event says so")  # fmt: skip
    cluster.apply(reserving("late", licence=1))
    words = "insufficient licence on 1 node"
    until(lambda: words in cluster.ctl("get", "tasks").stdout, "nobody else gets any")
    assert cluster.until_running("solver", 1)[0]["metadata"]["uid"] == task["metadata"]["uid"]
    cluster.ctl("delete", "service", "solver")
    cluster.until_running("late", 1)
    cluster.ctl("delete", "service", "late")


def test_what_is_wrong_on_the_command_line_is_explained(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, agent_options=("--resource", "gpu"))
    cluster._start("agent", "agent", *cluster.agent_options)
    assert cluster.running.pop("agent").wait(30) == 2
    assert "'gpu' is not a resource; write it like gpu=2, gpu=GPU-1,GPU-2" in cluster.log("agent")
