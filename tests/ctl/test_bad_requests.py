"""Requests that are wrong, straight at the API of a real manager: a Status in words, nothing
written."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from api.context import load
from tests.ctl.objects import Document, config, service
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]

BASE = "/apis/skep.dev/v1"


class Answer(NamedTuple):
    code: int
    body: Document
    headers: Mapping[str, str]

    @property
    def message(self) -> str:
        assert self.body["kind"] == "Status"
        assert self.body["status"] == "Failure"
        assert self.body["code"] == self.code
        return str(self.body["message"])

    @property
    def causes(self) -> dict[str, str]:
        causes = self.body["details"]["causes"]
        return {cause["field"]: cause["message"] for cause in causes}


def ask(
    ctl: Ctl, method: str, path: str, body: object = None, type: str = "application/json"
) -> Answer:
    """`path` is below the test's namespace, unless it begins with a slash."""
    context = load(Path(ctl.environment["SKEP_CONFIG"])).select()
    where = urlsplit(context.server)
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    url = path if path.startswith("/") else f"{BASE}/namespaces/{ctl.namespace}/{path}"
    connection = http.client.HTTPSConnection(
        where.hostname or "", where.port, timeout=20, context=context.tls()
    )
    try:
        connection.request(method, url, body=raw, headers={"Content-Type": type})
        response = connection.getresponse()
        text = response.read()
        assert b"Traceback" not in text
        return Answer(response.status, json.loads(text), dict(response.headers))
    finally:
        connection.close()


def written(ctl: Ctl) -> list[str]:
    return ctl("get", "configs,services,secrets", "-o", "name").lines


def test_every_wrong_field_is_a_cause(ctl: Ctl) -> None:
    wish = service("Web_1", stopGracePeriod="soon", ports=[{"target": -1}], imag="x")
    wish["spec"]["replica"] = 3
    answer = ask(ctl, "POST", "services", wish)
    assert answer.code == 422
    assert answer.body["reason"] == "Invalid"
    causes = answer.causes
    assert causes["spec.replica"] == "unknown field; did you mean replicas?"
    assert causes["spec.template.imag"] == "unknown field; did you mean image?"
    assert set(causes) == {
        "metadata.name", "spec.replica", "spec.template.imag",
        "spec.template.stopGracePeriod", "spec.template.ports[0].target",
    }  # fmt: skip
    assert written(ctl) == []


def test_a_set_is_refused_as_a_whole(ctl: Ctl) -> None:
    items: list[Any] = [config("a"), service("b") | {"spec": 3}, {"kind": "Nothing"}, 7]
    answer = ask(ctl, "POST", f"{BASE}/apply?namespace={ctl.namespace}", {"items": items})
    assert answer.code == 422
    assert "nothing was written" in answer.message
    assert {cause["index"] for cause in answer.body["details"]["causes"]} == {1, 2, 3}
    assert written(ctl) == []


@pytest.mark.parametrize(
    ("body", "type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"text"', "application/json"),
        (b"null", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"a: b: c", "application/yaml"),
        (b"a: &a [*a]", "application/yaml"),
        (b"a=b", "application/x-www-form-urlencoded"),
    ],
)
def test_bodies_that_are_no_objects(ctl: Ctl, body: bytes, type: str) -> None:
    answer = ask(ctl, "POST", "configs", body, type)
    assert answer.message
    assert answer.code == 400
    assert written(ctl) == []


@pytest.mark.parametrize(
    ("body", "type", "place"),
    [
        (b"metadata: {name: a}\ndata:\n  k: v\n  k: w\n", "application/yaml", "body:4:3: "),
        (b'{"metadata":{"name":"a"},"data":{"k":"v","k":"w"}}', "application/json", ""),
    ],
    ids=["yaml", "json"],
)
def test_a_field_given_twice(ctl: Ctl, body: bytes, type: str, place: str) -> None:
    answer = ask(ctl, "POST", "configs", body, type)
    assert answer.code == 400
    assert f'{place}the field "k" is given twice' in answer.message
    assert written(ctl) == []


def test_a_body_over_the_limit_is_413(ctl: Ctl) -> None:
    huge = config("a", k="x" * 50_000_000)
    answer = ask(ctl, "POST", "configs", huge)
    assert answer.code == 413
    assert "which is as much as is taken at once" in answer.message
    answer = ask(ctl, "POST", f"{BASE}/apply", {"items": [huge] * 3})
    assert answer.code == 413
    assert written(ctl) == []


def test_a_body_over_the_limit_reads_well_in_ctl(ctl: Ctl) -> None:
    """Many files of a legal size that make too much together."""
    (ctl.directory / "m").mkdir()
    for number in range(12):
        documents = [config(f"c{number}-{at}", k="x" * 900_000) for at in range(9)]
        lines = "\n---\n".join(json.dumps(document) for document in documents)
        (ctl.directory / "m" / f"{number}.yaml").write_text(lines)
    done = ctl.program("apply", "-f", "m", code=1)
    assert "as much as is taken at once" in done.err
    assert "apply it in several steps" in done.err
    assert written(ctl) == []


@pytest.mark.parametrize("levels", [50, 300, 900, 5000])
def test_a_patch_that_is_nested_deep(ctl: Ctl, levels: int) -> None:
    ctl("create", "config", "a", "--from-literal", "k=v")
    patch = b'{"data":' * levels + b"1" + b"}" * levels
    answer = ask(ctl, "PATCH", "configs/a", patch, "application/merge-patch+json")
    assert answer.code in (400, 422)
    assert answer.message
    assert ask(ctl, "POST", "configs", patch).code in (400, 422)


def test_an_object_goes_only_where_it_belongs(ctl: Ctl) -> None:
    assert ask(ctl, "POST", "services", config("a")).code in (400, 422)
    elsewhere = config("a")
    elsewhere["metadata"]["namespace"] = "default"
    assert ask(ctl, "POST", "configs", elsewhere).code == 400
    assert "'b'" in ask(ctl, "PUT", "configs/a", config("b")).message
    assert ask(ctl, "PUT", "configs/a", config("a")).code == 404
    assert ask(ctl, "POST", f"{BASE}/namespaces/nowhere/configs", config("a")).code == 404
    assert ask(ctl, "GET", f"{BASE}/things").code == 404
    assert ask(ctl, "DELETE", "/nothing").code == 404
    assert ask(ctl, "POST", "configs/a", config("a")).code == 405
    assert written(ctl) == []


def test_values_that_yaml_can_say_and_json_cannot(ctl: Ctl) -> None:
    answer = ask(ctl, "POST", "configs", b'{"replicas": NaN}')
    assert answer.code == 400
    answer = ask(ctl, "POST", "services", b'{"spec": {"replicas": 1e999}}')
    assert answer.code in (400, 422)


def test_a_reference_to_nothing_is_accepted_with_a_warning(ctl: Ctl) -> None:
    wish = service("web", secrets=[{"name": "none"}]) | {}
    wish["spec"]["replicas"] = 0
    answer = ask(ctl, "POST", "services", wish)
    assert answer.code == 201
    assert "none" in answer.headers["Warning"]


@pytest.mark.parametrize(
    "query",
    ["labelSelector=a%20in%20(", "fieldSelector=nonsense", "limit=many", "continue=x",
     "watch=true&resourceVersion=x"],
)  # fmt: skip
def test_queries_that_make_no_sense(ctl: Ctl, query: str) -> None:
    answer = ask(ctl, "GET", f"configs?{query}")
    assert answer.code in (400, 410)
    assert answer.message
