"""`ctl get`: what there is, as a table for people and in forms that scripts can rely on."""

from __future__ import annotations

import itertools
import json
import select
import signal
from typing import Any

import pytest
import yaml

from tests.cluster.harness import until
from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl, at_end

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def web(name: str = "web", **labels: str) -> dict[str, Any]:
    wish = service(name, replicas=2, ports=[{"target": 80}])
    wish["metadata"]["labels"] = labels
    return wish


@pytest.fixture
def running(ctl: Ctl) -> Ctl:
    """With two services, one running with two tasks."""
    ctl("apply", "-f", "-", "--wait", stdin=text(web(app="shop"), service("idle", replicas=0)))
    return ctl


def test_a_table_for_people(running: Ctl) -> None:
    done = running.program("get", "services")
    assert done.rows[0] == ["NAME", "MODE", "REPLICAS", "IMAGE", "PORTS", "AGE"]
    assert [row[:5] for row in done.rows[1:]] == [
        ["idle", "replicated", "0/0", "busybox", "<none>"],
        ["web", "replicated", "2/2", "busybox", "*:80/tcp"],
    ]
    assert "\x1b" not in done.out
    assert running("get", "services", "--no-headers").rows[0][0] == "idle"


def test_wide_has_more_columns(running: Ctl) -> None:
    done = running("get", "svc", "-o", "wide")
    assert done.rows[0][-2:] == ["REVISION", "CONDITION"]
    assert done.rows[2][-1] == "Available"
    tasks = running("get", "tasks", "-o", "wide")
    assert {"PORTS", "CONTAINER"} <= set(tasks.rows[0])
    assert {row[2] for row in tasks.rows[1:]} == {"worker-1"}


def test_one_object_as_yaml_and_json(running: Ctl) -> None:
    as_yaml = yaml.safe_load(running("get", "service", "web", "-o", "yaml").out)
    as_json = json.loads(running("get", "service/web", "-o", "json").out)
    assert as_yaml == as_json
    assert as_json["kind"] == "Service"
    assert as_json["apiVersion"] == "skep.dev/v1"
    assert as_json["spec"]["replicas"] == 2
    assert as_json["status"]["running"] == 2


def test_several_objects_are_a_list(running: Ctl) -> None:
    found = json.loads(running("get", "services", "-o", "json").out)
    assert (found["kind"], [item["metadata"]["name"] for item in found["items"]]) == (
        "List", ["idle", "web"],
    )  # fmt: skip
    assert json.loads(running("get", "configs", "-o", "json").out)["items"] == []


def test_what_get_prints_can_be_applied_again(running: Ctl) -> None:
    printed = running("get", "services", "-o", "yaml").out
    running("apply", "-f", "-", stdin=printed)
    done = running("apply", "-f", "-", stdin=printed)
    assert done.lines == ["service/idle unchanged", "service/web unchanged"]
    generation = running("get", "service", "web", "-o", "jsonpath={.metadata.generation}").out
    assert generation == "1"


def test_names(running: Ctl) -> None:
    assert running("get", "services", "-o", "name").lines == ["service/idle", "service/web"]
    assert running("get", "service", "web", "-o", "name").out == "service/web\n"


def test_jsonpath(running: Ctl) -> None:
    def path(template: str, *words: str) -> str:
        return running("get", *(words or ("services",)), "-o", f"jsonpath={template}").out

    assert path("{.items[*].metadata.name}") == "idle web"
    assert path("{.spec.replicas}", "service", "web") == "2"
    assert path('{range .items[*]}{.metadata.name}={.spec.replicas}{"\\n"}{end}') == (
        "idle=0\nweb=2\n"
    )
    assert path("{.items[?(@.spec.replicas>1)].metadata.name}") == "web"
    assert (
        "is not valid at character"
        in running("get", "services", "-o", "jsonpath={.items[", code=2).err
    )


def test_custom_columns(running: Ctl) -> None:
    done = running(
        "get", "services", "-o", "custom-columns=N:.metadata.name,A:.metadata.labels.app"
    )
    assert done.rows == [["N", "A"], ["idle", "<none>"], ["web", "shop"]]


def test_an_unknown_format_names_the_formats(ctl: Ctl) -> None:
    done = ctl("get", "services", "-o", "jsno", code=2)
    assert "custom-columns=HEADER:.path" in done.err


def test_several_kinds_at_once(running: Ctl) -> None:
    done = running("get", "services,configs,tasks")
    assert "service/web" in done.out
    assert "task/web-1" in done.out
    found = json.loads(running("get", "services,tasks", "-o", "json").out)
    assert [item["kind"] for item in found["items"]] == ["Service"] * 2 + ["Task"] * 2
    everything = running("get", "all", "-o", "name").lines
    assert everything[:2] == ["service/idle", "service/web"]
    assert len(everything) == 4
    named = running("get", "service/web", "config/none", code=3)
    assert "service/web" in named.out
    assert "config" in named.err


def test_labels_and_fields_select(running: Ctl) -> None:
    assert running("get", "services", "-l", "app=shop", "-o", "name").lines == ["service/web"]
    assert running("get", "services", "-l", "!app", "-o", "name").lines == ["service/idle"]
    fields = ("--field-selector", "spec.service=web,status.state=Running")
    assert len(running("get", "tasks", *fields, "-o", "name").lines) == 2
    nothing = running("get", "tasks", "--field-selector", "spec.service=none")
    assert (nothing.out, nothing.err) == (
        "", f"there are no tasks that match in namespace {running.namespace}\n",
    )  # fmt: skip
    assert "selector" in running("get", "services", "-l", "a in (", code=None).err


def test_all_namespaces(running: Ctl) -> None:
    done = running("get", "services", "-A")
    assert done.rows[0][0] == "NAMESPACE"
    assert [running.namespace, "web"] in [row[:2] for row in done.rows]
    assert "give -n NAMESPACE" in running("get", "service", "web", "-A", code=2).err


def test_sorting(ctl: Ctl) -> None:
    wishes = [service(name, replicas=0) for name in ("s-10", "s-2", "s-1")]
    for wish, number in zip(wishes, (3, 10, 1), strict=True):
        wish["spec"]["template"]["env"] = {"N": str(number)}
        wish["metadata"]["annotations"] = {"n": str(number)}
        wish["spec"]["update"] = {"parallelism": number}
    ctl("apply", "-f", "-", stdin=text(*wishes))
    names = [row[0] for row in ctl("get", "services", "--no-headers").rows]
    assert names == ["s-1", "s-2", "s-10"]
    by_number = ctl("get", "services", "--sort-by", ".spec.update.parallelism", "--no-headers")
    assert [row[0] for row in by_number.rows] == ["s-1", "s-10", "s-2"]


def test_what_is_not_there(ctl: Ctl) -> None:
    done = ctl.program("get", "service", "web", code=3)
    assert done.err == f"error: service {ctl.namespace}/web does not exist\n"
    assert ctl("get", "service", "web", "--ignore-not-found").out == ""
    assert ctl("get", "services").err == f"there are no services in namespace {ctl.namespace}\n"
    assert "did you mean services?" in ctl("get", "servcies", code=2).err
    assert "the kinds are" in ctl("get", "xyzzy", code=2).err


def test_a_watch_shows_each_change_until_it_is_interrupted(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(config("a")))
    with ctl.started("get", "configs", "-w") as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["NAME", "KEYS", "SIZE", "AGE"]
        assert process.stdout.readline().startswith("a   ")
        ctl("apply", "-f", "-", stdin=text(config("b", k="four")))
        assert process.stdout.readline().split()[:3] == ["b", "k", "4B"]
        ctl("delete", "config", "b")
        assert process.stdout.readline().rstrip().endswith("(deleted)")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_only_changes(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(config("a"), config("b")))
    numbers = itertools.count()

    def changed() -> bool:
        """Change `b` until the watch, which takes its time to begin, has seen it."""
        ctl("annotate", "config", "b", f"n={next(numbers)}", "--overwrite")
        return bool(select.select([output.fileno()], [], [], 0.2)[0])

    with ctl.started("get", "configs", "--watch-only", "-o", "name") as process:
        assert process.stdout is not None
        output = process.stdout
        until(changed, "the watch has seen a change", 20)
        assert output.readline() == "config/b\n"


def test_a_watch_ends_with_its_manager(ctl: Ctl) -> None:
    with ctl.started("get", "configs", "-w", "--server", "https://127.0.0.1:1") as process:
        assert process.wait(20) == 6
        assert process.stderr is not None
        assert "no manager answers at https://127.0.0.1:1" in process.stderr.read()


def test_a_terminal_has_colours_and_a_width(running: Ctl) -> None:
    with running.terminal("get", "tasks", size=(24, 70)) as child:
        child.expect("\x1b\\[32mRunning")
        code, shown = at_end(child)
    assert code == 0
    assert all(len(line) <= 80 for line in shown.splitlines())
    with running.terminal("get", "tasks", NO_COLOR="1") as child:
        code, shown = at_end(child)
        assert "Running" in shown


def test_the_managers_parts(ctl: Ctl) -> None:
    done = ctl("get", "components")
    assert done.rows[0] == ["NAME", "STATE", "RESTARTS", "MESSAGE"]
    assert {row[1] for row in done.rows[1:]} == {"Running"}
    assert json.loads(ctl("get", "components", "-o", "json").out)[0]["name"]


def test_a_reader_that_goes_away_is_no_error(running: Ctl) -> None:
    with running.started("get", "services", "-w") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        running("label", "service", "web", "touched=yes")
        assert process.wait(10) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""
