"""Manifests that are wrong: every error at once, at its place, in words; and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl, Done

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]

GOOD = "apiVersion: skep.dev/v1\nkind: Config\nmetadata: {name: good}\ndata: {k: v}\n"

MANY = f"""\
{GOOD}---
apiVersion: skep.dev/v1
kind: Service
metadata:
  name: Web_Server
spec:
  replica: 3
  template:
    image: busybox
    resources:
      limits: {{memory: 12 apples}}
    stopGracePeriod: soon
    ports:
      - target: -80
---
apiVersion: skep.dev/v2
kind: Config
metadata: {{name: b}}
data: {{k: v}}
---
apiVersion: skep.dev/v1
kind: Servce
metadata: {{name: c}}
---
apiVersion: skep.dev/v1
kind: Service
metadata: {{name: d}}
spec:
  replicas: "3"
  replicas: 4
  template: {{image: [busybox]}}
"""


def refused(ctl: Ctl, manifest: str | bytes) -> Done:
    """Apply from stdin: it must be invalid, and nothing must be there afterwards."""
    done = ctl("apply", "-f", "-", stdin=manifest, code=4)
    assert done.out == ""
    assert done.err.splitlines()[-1].endswith("nothing was written")
    assert ctl("get", "configs,services,secrets", "-o", "name").out == ""
    return done


def test_all_errors_of_all_documents_come_at_once(ctl: Ctl) -> None:
    (ctl.directory / "a.yaml").write_text(MANY)
    (ctl.directory / "b.yaml").write_text("apiVersion: skep.dev/v1\nkind: [\n")
    done = ctl.program("apply", "-f", "a.yaml", "-f", "b.yaml", code=4)
    lines = done.err.splitlines()
    for wanted in (
        "a.yaml:9:3: metadata.name:",
        "a.yaml:11:3: spec.replica: unknown field; did you mean replicas?",
        "a.yaml:15:16: spec.template.resources.limits.memory:",
        "a.yaml:16:5: spec.template.stopGracePeriod:",
        "a.yaml:18:9: spec.template.ports[0].target:",
        "a.yaml:20:1: configs/b: apiVersion:",
        "a.yaml:26:1: kind:",
        'a.yaml:34:3: the field "replicas" is given twice',
        "a.yaml:35:14: services/d: spec.template.image:",
        "b.yaml:3:1: ",
    ):
        file, _, words = wanted.partition(": ")
        found = [line for line in lines if line.startswith(file + ":") and words in line]
        assert found, f"{wanted!r} is not in\n{done.err}"
    assert lines[-1].startswith("error: ")
    assert ctl("get", "configs,services", "-o", "name").out == ""


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("a: b: c\n", "stdin:1:5: a ':' stands where no field can begin"),
        ("a:\n\tb: 1\n", "stdin:2:1: a tab indents this line, and YAML takes only spaces"),
        ("kind: Service\nkind: Config\n", 'stdin:2:1: the field "kind" is given twice'),
        ("a: 'open\n", "the quote that line 1 opens is never closed"),
        ("- a\n- b\n", "stdin:1:1: expected an object (apiVersion, kind, metadata, …), got a list"),
        ("just text\n", "expected an object (apiVersion, kind, metadata, …), got text"),
        ("{}\n", "kind"),
        ("a: *nowhere\n", "names no anchor"),
        ("a: !!python/object:os.system x\n", "not supported"),
        ("a: .inf\n", "infinity"),
        ("a: \x01\n", "control character"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ("a: &a [*a]\n", "contain itself"),
    ],
)  # fmt: skip
def test_yaml_that_is_none(ctl: Ctl, manifest: str, said: str) -> None:
    assert said in refused(ctl, GOOD + "---\n" + manifest if said == "" else manifest).err


def test_one_bad_document_keeps_all_from_being_written(ctl: Ctl) -> None:
    done = refused(ctl, GOOD + "---\nkind: [\n---\n" + GOOD.replace("good", "fine"))
    assert done.err.splitlines()[-1] == "error: 1 problem; nothing was written"


def test_anchors_that_explode_are_refused_at_once(ctl: Ctl) -> None:
    levels = [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    bomb = "\n".join(["data:", '  a0: &a0 "lol"', *levels])
    assert "aliases make this document explode" in refused(ctl, bomb).err


def test_a_file_of_50_megabytes_is_not_read(ctl: Ctl) -> None:
    big = ctl.directory / "big.yaml"
    with big.open("wb") as file:
        file.truncate(50_000_000)
    done = ctl.program("apply", "-f", "big.yaml", code=4)
    assert done.err.splitlines()[0] == (
        "big.yaml: is 50.0 MB, and 10.0 MB is the limit for one file; split it into several files"
    )
    assert "larger than 10.0 MB" in refused(ctl, b"# x\n" * 12_500_000).err


def test_files_that_are_no_manifests(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert "has no manifests" in ctl("apply", "-f", str(tmp_path / "m"), code=4).err
    assert "there is no such file" in ctl("apply", "-f", str(tmp_path / "none"), code=4).err
    (tmp_path / "bin").write_bytes(b"\x7fELF\0\0")
    assert "is it a binary file?" in ctl("apply", "-f", str(tmp_path / "bin"), code=4).err
    (tmp_path / "latin").write_bytes("a: ü".encode("latin-1"))
    assert "is not UTF-8" in ctl("apply", "-f", str(tmp_path / "latin"), code=4).err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"replicas": 1.5}, "spec.replicas"),
        ({"replicas": "many"}, "spec.replicas"),
        ({"replicas": None}, "spec.replicas"),
        ({"replicas": 10**30}, "64 bits"),
        ({"mode": "replcated"}, "did you mean replicated?"),
        ({"update": {"paralelism": 1}}, "did you mean parallelism?"),
        ({"update": {"delay": "-5s"}}, "spec.update.delay"),
        ({"update": {"delay": 5}}, "spec.update.delay"),
        ({"placement": {"constraints": ["node.labels.disk = ssd"]}}, "constraints"),
        ({"template": {"image": "busybox", "ports": [{"target": 70000}]}}, "ports[0].target"),
        ({"template": {"image": ""}}, "spec.template.image"),
        ({"template": {"image": "busybox", "env": ["A=1"]}}, "spec.template.env"),
        ({"template": {"image": "x", "resources": {"limits": {"cpus": -1}}}}, "limits.cpus"),
        ({"template": {"image": "x", "secrets": [{"name": "No_Name"}]}}, "secrets[0].name"),
    ],
)  # fmt: skip
def test_wrong_values_say_what_was_expected(ctl: Ctl, change: dict[str, object], said: str) -> None:
    wish = service("web")
    wish["spec"] |= change
    done = refused(ctl, text(wish))
    first = done.err.splitlines()[0]
    assert first.startswith("stdin:1:")
    assert said in first


@pytest.mark.parametrize("name", ["Web", "web_1", "-web", "web.", "w" * 64, "", "ünicode", "a b"])
def test_names_that_are_no_dns_labels(ctl: Ctl, name: str) -> None:
    assert "metadata.name: " in refused(ctl, text(config(name))).err


def test_kinds_and_versions_that_are_unknown(ctl: Ctl) -> None:
    wrong = config("a") | {"kind": "Deployment", "apiVersion": "apps/v1"}
    said = refused(ctl, text(wrong)).err
    assert "apiVersion" in said
    assert "Deployment" in said
    assert "did you mean Service?" in refused(ctl, text(config("a") | {"kind": "service"})).err
    system = {"apiVersion": "skep.dev/v1", "kind": "Task", "metadata": {"name": "a"}}
    assert "written by the system" in refused(ctl, text(system)).err


def test_amounts_and_durations_as_people_write_them(ctl: Ctl) -> None:
    limits = {"cpus": 0.5, "memory": "512Mi"}
    wish = service("web", replicas=0, stopGracePeriod="1m30s",
                   resources={"limits": limits, "reservations": {"memory": "0.5Gi"}})  # fmt: skip
    wish["spec"]["update"] = {"delay": "10s", "monitor": "500ms"}
    assert ctl("apply", "-f", "-", stdin=text(wish)).err == ""
    spec = json.loads(ctl("get", "service", "web", "-o", "json").out)["spec"]
    resources = spec["template"]["resources"]
    assert resources["limits"].items() >= limits.items()
    assert resources["reservations"]["memory"] == "0.5Gi"
    assert spec["template"]["stopGracePeriod"] == "1m30s"
    assert (spec["update"]["delay"], spec["update"]["monitor"]) == ("10s", "500ms")


def test_a_reference_to_nothing_is_a_warning(ctl: Ctl) -> None:
    wish = service("web", replicas=0, secrets=[{"name": "none"}], configs=[{"name": "no"}])
    done = ctl("apply", "-f", "-", stdin=text(wish))
    assert done.out == "service/web created\n"
    secret, conf = done.err.splitlines()
    assert secret.startswith("warning: service/web: ")
    assert "secret" in secret
    assert "none" in secret
    assert "config" in conf
    both = text(wish, config("no"))
    assert "config" not in ctl("apply", "-f", "-", stdin=both).err


def test_what_only_the_server_knows_has_its_place_too(ctl: Ctl) -> None:
    (ctl.directory / "m.yaml").write_text(
        GOOD + "---\n" + GOOD.replace("name: good", "name: b, namespace: nowhere")
    )
    done = ctl.program("apply", "-f", "m.yaml", code=4)
    assert done.err.splitlines() == [
        "m.yaml:6:1: configs/b: namespace nowhere does not exist; create it first, or apply it"
        " together with what goes into it",
        "error: 1 problem; nothing was written",
    ]  # fmt: skip
    ctl("apply", "-f", "-", stdin=text(service("web", replicas=0)))
    wish = service("web")
    wish["spec"]["mode"] = "global"
    del wish["spec"]["replicas"]
    (ctl.directory / "s.json").write_text(json.dumps(wish, indent=2))
    done = ctl.program("apply", "-f", "s.json", code=4)
    first = done.err.splitlines()[0]
    line = (ctl.directory / "s.json").read_text().splitlines()[int(first.split(":")[1]) - 1]
    assert '"mode"' in line
    assert "services/web: spec.mode: " in first


def test_no_message_repeats_what_a_secret_holds(ctl: Ctl) -> None:
    secret = {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"k": "hunter2 is no base64", "b/d": "hunter2"},
        "stringData": {"n": {"hunter2": "hunter2"}, "m": 42_424_242},
    }
    done = refused(ctl, text(secret))
    assert "hunter2 is" not in done.err
    assert "42424242" not in done.err
    assert "data" in done.err
