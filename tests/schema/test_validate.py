"""What people are told about objects that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.schema import Code, Problem, default, for_kind, settle, validate
from api.types.kinds import BY_NAME, KINDS, SERVICE
from controllers.placement import constraints
from tests.schema.objects import JUNK, minimal, service, templated
from tests.schema.test_standard import agreed


def said(obj: Any) -> list[str]:
    """What people are told; the quick yes must never be a yes to it."""
    problems = validate(obj)
    if isinstance(obj, dict) and obj.get("kind") in BY_NAME:
        agreed(obj["kind"], obj)
    return [str(problem) for problem in problems]


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_the_least_of_each_kind_is_valid(kind: str) -> None:
    assert said(minimal(kind)) == []


def test_all_problems_come_at_once_each_with_its_path() -> None:
    obj = templated(image="", ports=[{"target": 80}, {"target": 0}], environment={})
    obj["metadata"] = {"name": "Web", "labels": {"a": 1}}
    obj["spec"]["replica"] = 3
    assert [problem.field for problem in validate(obj)] == [
        "metadata.name",
        "metadata.labels.a",
        "spec.template.image",
        "spec.template.ports[1].target",
        "spec.template.environment",
        "spec.replica",
    ]


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (service(replicas="three"), 'spec.replicas: expected a whole number, got text "three"'),
        (service(replicas="3"), "remove the quotes"),
        (service(replicas=-1), "expected 0 or more, got the number -1"),
        (service(replicas=2.5), "expected a whole number, got the number 2.5"),
        (service(replicas=3.0), "expected a whole number, got the number 3.0"),
        (service(replicas=True), "expected a whole number, got true"),
        (service(replicas=None), "got nothing (null); give a value, or leave the field out"),
        (service(replica=3), "spec.replica: unknown field; did you mean replicas?"),
        (service(Replicas=3), "did you mean replicas?"),
        (service(restart_policy={}), "it is called restart here"),
        (service(mode="globl"), "global-job, got \"globl\"; did you mean global?"),
        (service(mode="job"), "expected one of replicated, global, replicated-job, global-job"),
        (service(mode=3), "global-job, got the number 3"),
        (service(mode="replicated-job", schedule={}), "spec.schedule.cron: is required"),
        (service(mode="replicated-job", job={"activeDeadlineSeconds": 5}), "called deadline here"),
        (service(update=[]), "spec.update: expected a mapping, got a list"),
        (service(update={"delay": "10"}), "expected a duration such as 10s, 1m30s"),
        (service(update={"delay": 10}), "expected text, got the number 10"),
        (service(update={"delay": "99999h"}), "at most ten years"),
        (service(update={"maxFailureRatio": 1.5}), "expected 1 or less"),
        (service(rollback={"failureAction": "rollback"}), "one of pause, continue"),
        (templated(replicas=3), "spec.template.replicas: unknown field; it belongs to spec"),
        (templated(memory="1Gi"), "it belongs to spec.template.resources.reservations or"),
        (templated(constraints=[]), "it belongs to spec.placement"),
        (templated(env={"A": True}), 'env.A: expected text or a number, got true; put it in'),
        (templated(env={"A": None}), 'quote it ("", "null")'),
        (templated(env={"A": [1]}), "expected text or a number, got a list"),
        (templated(env={"A=B": "1"}), "a variable's name, without '='"),
        (templated(env=["A=1"]), "env: expected a mapping, got a list"),
        (templated(command="redis"), 'got text "redis"; for example: [redis-server'),
        (templated(command=[1]), 'command[0]: expected text, got the number 1; put it'),
        (templated(user=1000), 'put it in quotes: "1000"'),
        (templated(init="yes"), "expected true or false, got text \"yes\"; write true, without"),
        (templated(image="a b"), "an image's name: [registry/]name[:tag][@digest]"),
        (templated(image="Redis:7"), "the name in lowercase letters"),
        (templated(image="registry.example//redis"), "an image's name"),
        (templated(image="redis:7@sha256:12"), "an image's name"),
        (templated(image=None), "image: expected text, got nothing (null)"),
        (templated(workdir="srv"), "an absolute path"),
        (templated(workdir="/a/../b"), "an absolute path without '..'"),
        (templated(workdir="/a\n/../b"), "an absolute path without '..'"),
        (templated(ports=[{"target": "80"}]), "remove the quotes"),
        (templated(ports=[{"target": 70000}]), "expected 65535 or less"),
        (templated(ports=[{}]), "ports[0].target: is required but not given; for example: target"),
        (templated(ports=[{"target": 1, "mode": "ingress"}]), "ingress: publishing on every node"),
        (templated(ports=[{"containerPort": 80}]), "it is called target here"),
        (templated(ports=[{"target": 1, "protocol": "TCP"}]), "did you mean tcp?"),
        (templated(secrets=["db"]), "secrets[0]: expected a mapping, got text \"db\""),
        (templated(secrets=[{"name": "db", "mode": 444}]), 'put it in quotes: "444"'),
        (templated(secrets=[{"name": "db", "mode": "0999"}]), "octal permissions"),
        (templated(secrets=[{"name": "db", "target": "../x"}]), "without '..'"),
        (templated(secrets=[{"name": "db", "target": "a/"}]), "without '/' at its end"),
        (templated(secrets=[{"name": "db", "key": ".."}]), "a key of the secret"),
        (templated(secrets=[{"name": "db", "uid": -1}]), "expected 0 or more"),
        (templated(resources={"limits": {"memory": "512MB"}}), "such as 512Mi, 0.5Gi"),
        (templated(resources={"limits": {"memory": "-1"}}), "it must not be negative"),
        (templated(resources={"limits": {"memory": "99999999999Ti"}}), "below 8 EiB"),
        (templated(resources={"limits": {"cpus": "half"}}), "2, 0.5 or 250m"),
        (templated(resources={"limits": {"cpu": 1}}), "it is called cpus here"),
        (templated(labels={"skep.dev/task": "x"}), "which are skep's own"),
        (templated(capabilities={"add": ["net_admin"]}), "a capability that Linux has"),
        (templated(healthcheck={"retries": 0}), "expected 1 or more"),
        (templated(healthcheck={"test": []}), "it is called command here"),
        (templated(stopSignal="15x"), "a signal such as SIGTERM"),
        (templated(stopSignal="SIGFOO"), "a signal such as SIGTERM"),
        (templated(stopSignal="65"), "a signal such as SIGTERM"),
        (templated(capabilities={"drop": ["NOPE"]}), "a capability that Linux has"),
        (service(placement={"constraints": ["node.labels.zone = a"]}), "a constraint: `key == v"),
        (service(placement={"constraints": ["node.zone == a"]}), "a constraint: `key == v"),
        (service(placement={"preferences": [{"spread": "zone"}]}), "node.labels.<label>"),
        (minimal("Namespace") | {"spec": {}}, "spec: unknown field; known here: apiVersion"),
        (minimal("Node") | {"metadata": {"name": "a", "namespace": "b"}}, "no namespace"),
        (minimal("Service") | {"metadata": {}}, "metadata.name: is required but not given"),
        (minimal("Service") | {"metadata": {"name": "a.b"}}, "a DNS label"),
        (minimal("Service") | {"metadata": {"name": "a\n"}}, "a DNS label"),
        (minimal("Service") | {"metadata": {"name": "a" * 64}}, "at most 63 characters, got 64"),
        (minimal("Service") | {"metadata": {"name": ""}}, "metadata.name: must not be empty"),
        (minimal("Service") | {"metadata": {"name": "My_Web"}}, 'for example "my-web"'),
        (minimal("Service") | {"metadata": {"name": 7}}, 'put it in quotes: "7"'),
        (minimal("Config") | {"data": {"a/b": ""}}, 'data["a/b"]: expected a file name'),
    ],
)  # fmt: skip
def test_words(obj: dict[str, Any], words: str) -> None:
    (only,) = said(obj)
    assert words in only


@pytest.mark.parametrize(
    "obj",
    [
        service(placement={"constraints": [each]})
        for each in (
            "node.labels.zone == east",
            "node.labels.zone==east",
            "node.labels.example.com/zone != a b",
            "node.ip == 10.0.0.0/8",
            "node.role in (worker, manager)",
            "engine.labels.os notin (a,b)",
            "node.labels.gpu",
            "!node.labels.gpu",
            "  node.platform.arch == arm64 ",
        )
    ]
    + [
        templated(env={"A": "", "B": 1, "C": 1.5, "lower.case-x": "y"}),
        templated(resources={"limits": {"memory": "0.5Gi", "cpus": "250m"}}),
        templated(resources={"limits": {"memory": 512_000_000, "cpus": 1.5}}),
        templated(healthcheck={"interval": "1m30s", "command": ["sh", "-c", "exit 0"]}),
        templated(secrets=[{"name": "a", "target": "/etc/a..b/c"}]),
        templated(mounts=[{"target": "/a"}, {"source": "vol", "target": "/b"}]),
        minimal("Service") | {"metadata": {"name": "web", "namespace": ""}},
        minimal("Service") | {"metadata": {"name": "web", "labels": {"a.b/c": "", "D": "e_f"}}},
        minimal("Node") | {"metadata": {"name": "worker-1.example.com"}},
        minimal("Service") | {"status": {"whatever": 1}},
    ],
    ids=str,
)
def test_right_values(obj: dict[str, Any]) -> None:
    assert said(obj) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"apiVersion": "v1"}, ['apiVersion: unknown "v1", there is skep.dev/v1']),
        ({"apiVersion": "skep.dev/v2"}, ['apiVersion: unknown version "skep.dev/v2"']),
        ({"apiVersion": 1}, ["apiVersion: expected text, got the number 1"]),
        ({"kind": "service"}, ["did you mean Service?"]),
        ({"kind": "Servcie"}, ["did you mean Service?"]),
        ({"kind": "Deployment"}, ["did you mean Service?"]),
        ({"kind": "ConfigMap"}, ["did you mean Config?"]),
        (
            {"kind": "Banana"},
            ['unknown kind "Banana", expected one of Namespace, Node, User, Secret'],
        ),
        ({"kind": None}, ["kind: expected one of Namespace"]),
        ({"kind": "Banana", "metadata": {"nam": 1}}, ["Banana", "did you mean name?"]),
    ],
)
def test_kind_and_version(change: dict[str, Any], words: list[str]) -> None:
    found = said(minimal("Service") | change)
    assert len(found) == len(words)
    for each, expected in zip(found, words, strict=True):
        assert expected in each


def test_a_misspelt_required_field_is_one_problem() -> None:
    (problem,) = validate(service(template={"imge": "redis"}))
    assert problem.text == "unknown field; did you mean image?"


def test_an_empty_object_is_told_what_it_needs() -> None:
    assert [problem.field for problem in validate({})] == ["apiVersion", "kind", "metadata"]


def test_what_is_no_object_is_said_so() -> None:
    values: list[Any] = [None, [], "hunter2", 3]
    for value in values:
        (problem,) = validate(value)
        assert problem.message == "expected a mapping"


@pytest.mark.parametrize(
    "secret",
    [
        {"data": {"p": 1234567}},
        {"data": {"p": True, "q": "hunter2!"}},
        {"data": "hunter2"},
        {"stringData": ["hunter2"]},
        {"stringData": {"p": ["hunter2"]}},
        {"stringData": {"p": {"q": "hunter2"}}},
        {"stringData": {"p": 1234567.5}},
        {"data": {"p": "hunter2"}, "stringData": {"p": "hunter2"}},
    ],
)
def test_no_message_shows_what_a_secret_holds(secret: dict[str, Any]) -> None:
    obj = {**minimal("Secret"), "stringData": {"a": "b"}, **secret}
    found = said(obj)
    assert found
    assert not [each for each in found if "hunter2" in each or "1234567" in each]


def test_a_list_of_wrong_items_is_cut_short() -> None:
    problems = validate(templated(command=list(range(5000))))
    assert 100 <= len(problems) < 200


def test_codes_are_kubernetes_words() -> None:
    codes = {problem.field: problem.code for problem in validate(templated(x=1, init=3))}
    assert codes == {"spec.template.x": Code.UNKNOWN, "spec.template.init": Code.TYPE}
    assert str(Code.TYPE) == "FieldValueTypeInvalid"


def test_a_problem_as_text() -> None:
    problem = Problem(("a", "b.c", 0, "d"), "is wrong", "change it")
    assert str(problem) == 'a["b.c"][0].d: is wrong; change it'


CONSTRAINT = for_kind(SERVICE)["properties"]["spec"]["properties"]["placement"]["properties"][
    "constraints"
]["items"]["pattern"]


@settings(max_examples=200, deadline=None)
@given(st.from_regex(CONSTRAINT))
def test_placement_understands_the_constraints_that_pass(text: str) -> None:
    if not validate(service(placement={"constraints": [text]})):
        assert constraints.parse(text).text == text


def test_long_values_and_names_are_shortened() -> None:
    problem, other = validate(service(**{"x" * 10**6: 1}, mode="y" * 10**6))
    assert len(str(problem)) + len(str(other)) < 700


def test_settle_drops_what_a_merge_left_over() -> None:
    merged = service(mode="global", replicas=3)
    assert settle(merged, service(mode="global")) == service(mode="global")
    assert settle(merged, merged) == merged


ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "apiVersion": st.just("skep.dev/v1") | JUNK,
        "kind": st.sampled_from([kind.name for kind in KINDS]) | JUNK,
        "metadata": st.fixed_dictionaries(
            {}, optional={"name": st.just("web") | JUNK, "labels": JUNK, "finalizers": JUNK}
        )
        | JUNK,
        "data": JUNK,
        "stringData": JUNK,
        "binaryData": JUNK,
        "status": JUNK,
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "mode": JUNK,
                "replicas": JUNK,
                "update": JUNK,
                "placement": JUNK,
                "template": st.fixed_dictionaries(
                    {},
                    optional={
                        name: JUNK | st.lists(st.dictionaries(st.sampled_from(
                            ["name", "target", "source", "type", "published", "mode"]
                        ), JUNK), max_size=3)
                        for name in ("env", "ports", "mounts", "secrets", "resources", "image")
                    } | {"healthcheck": st.fixed_dictionaries({}, optional={"command": JUNK})},
                )
                | JUNK,
            },
        )
        | JUNK,
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(ENVELOPES | JUNK)
def test_nothing_raises_whatever_the_shape(obj: Any) -> None:
    for problem in validate(obj):
        assert isinstance(str(problem), str)
    if isinstance(obj, dict):
        filled = default(obj)
        assert default(filled) == filled
        assert settle(obj, obj) == obj


def test_values_too_large_to_show_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    values: list[Any] = [1 << 20000, deep, {"a": deep}]
    for value in values:
        for obj in (service(replicas=value, mode=value), templated(image=value, command=[value])):
            assert len(validate(obj)) == 2


def test_a_field_that_must_go_is_also_told_that_it_is_wrong() -> None:
    codes = [problem.code for problem in validate(service(mode="global", replicas="x"))]
    assert sorted(codes) == [Code.FORBIDDEN, Code.TYPE]


def test_fields_too_many_and_too_few_are_counted() -> None:
    def mount(**how: Any) -> list[str]:
        return said(templated(secrets=[{"name": "db", "onChange": how}]))

    both = mount(signal="SIGHUP", command=["reload"])
    assert both == ["spec.template.secrets[0].onChange: expected at most 1 field, got 2"]
    none = mount(command=[])
    assert none == ["spec.template.secrets[0].onChange.command: expected at least 1 item, got 0"]
    assert mount() == ["spec.template.secrets[0].onChange: expected at least 1 field, got 0"]


def test_keys_that_are_no_text_are_a_problem() -> None:
    assert "got the number 1" in said({**minimal("Service"), 1: 2})[0]
